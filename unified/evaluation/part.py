"""A part of a suite: what it asks a model, and what comes of it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from unified.engine.events import Done, Dropped
from unified.evaluation.figures import MeasuredFigure
from unified.models.asking_models import AskedRequest
from unified.models.model import UnifiedModel
from unified.tasks.task import Verb
from unified_data.document import Audio, Document, Text

__all__ = ["Bench", "JudgedCase", "Part", "PartResult"]


@dataclass(frozen=True, eq=False)
class JudgedCase:
    """One case: what was asked, what was right, what came, with the picture or sound of it."""

    condition: str
    asked: str
    expected: str
    answer: str
    right: bool
    pixels: np.ndarray | None = None
    audio: Audio | None = None


@dataclass(frozen=True, eq=False)
class PartResult:
    """What a part measured.

    figures: of the model. judge: what the part's own judge does on true inputs, in the same run.
    cannot: the reason why the model, or this machine, cannot do it; there is nothing else then.
    """

    figures: tuple[MeasuredFigure, ...] = ()
    judge: tuple[MeasuredFigure, ...] = ()
    samples: tuple[JudgedCase, ...] = ()
    cannot: str | None = None


@dataclass(frozen=True, eq=False)
class Bench:
    """What a part measures with. cases: of every condition. progress: told cases done, and all."""

    model: UnifiedModel
    cases: int
    conditions: tuple[str, ...]
    seed: int
    progress: Callable[[int, int], None] = field(default=lambda done, total: None)

    def rng(self, part: str, condition: str) -> np.random.Generator:
        """Random numbers of a condition, which do not depend on what else is measured."""
        return np.random.default_rng([self.seed, zlib.crc32(f"{part}/{condition}".encode())])

    def complete(self, requests: Sequence[AskedRequest]) -> list[Document | str]:
        """Every request of one verb completed, in order, all with the suite's seed; of what the
        engine dropped, the reason."""
        negatives = {request.negative for request in requests}
        assert len(negatives) <= 1
        results: list[Document | str] = ["nothing came"] * len(requests)
        done = 0
        events = self.model.stream(
            [request.document for request in requests],
            [request.sampling for request in requests],
            [self.seed] * len(requests),
            next(iter(negatives), None),
        )
        for event in events:
            if isinstance(event, Dropped):
                results[event.row] = f"dropped: {event.reason}"
            elif isinstance(event, Done):
                results[event.row] = event.document
                done += 1
                self.progress(done, len(requests))
        return results

    def texts(self, requests: Sequence[AskedRequest]) -> list[str]:
        """As `complete`, for verbs that answer with a text."""
        texts = []
        for result in self.complete(requests):
            answer = result if isinstance(result, str) else result.segments[-1]
            texts.append(answer.text if isinstance(answer, Text) else str(answer))
        return texts


@dataclass(frozen=True)
class Part:
    """A kind of measurement. verbs: that the model must have. conditions: names, in order."""

    name: str
    about: str
    verbs: tuple[Verb, ...]
    conditions: tuple[str, ...]
    measure: Callable[[Bench], PartResult]

"""A part of a suite: what it asks a model, and what comes of it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unified.engine.events import Done, Dropped
from unified.evaluation.figures import MeasuredFigure
from unified.models.asking_models import AskedRequest
from unified.models.model import UnifiedModel
from unified.tasks.task import Verb
from unified_data.document import Audio, Document

__all__ = ["REFUSED", "Bench", "JudgedCase", "Part", "PartResult"]


Asked = AskedRequest | str
"""A request, or the reason why there is none."""
REFUSED = "refused: "
"""What the answer of a case begins with that the model did not take."""


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

    def request(self, verb: Verb, **inputs: Any) -> Asked:
        """`UnifiedModel.request`, or the reason why the model does not take it."""
        try:
            return self.model.request(verb, **inputs)
        except ValueError as error:
            return f"{REFUSED}{error}"

    def complete(self, requests: Sequence[Asked]) -> list[Document | str]:
        """Every request of one verb completed, in order, all with the suite's seed; of what was
        refused or dropped, the reason."""
        results: list[Document | str] = [r if isinstance(r, str) else "" for r in requests]
        rows = [row for row, request in enumerate(requests) if not isinstance(request, str)]
        try:
            self._stream(requests, rows, results)
        except ValueError:
            for row in rows:  # whichever it is, the others are asked all the same
                try:
                    self._stream(requests, [row], results)
                except ValueError as error:
                    results[row] = f"{REFUSED}{error}"
        return results

    def _stream(
        self, requests: Sequence[Asked], rows: Sequence[int], results: list[Document | str]
    ) -> None:
        asked = [request for row in rows if not isinstance(request := requests[row], str)]
        if not asked:
            return
        assert len({request.negative for request in asked}) == 1
        events = self.model.stream(
            [request.document for request in asked],
            [request.sampling for request in asked],
            [self.seed] * len(asked),
            asked[0].negative,
        )
        for event in events:
            if isinstance(event, Dropped):
                results[rows[event.row]] = f"dropped: {event.reason}"
            elif isinstance(event, Done):
                results[rows[event.row]] = event.document
                done = sum(map(bool, results))
                self.progress(done, len(requests))

    def texts(self, requests: Sequence[Asked]) -> list[str]:
        """As `complete`, for verbs that answer with a text; without the thoughts before it."""
        texts = []
        for request, result in zip(requests, self.complete(requests)):
            if isinstance(request, str) or isinstance(result, str):
                texts.append(str(result))
            else:
                texts.append(request.response(result).text)
        return texts


@dataclass(frozen=True)
class Part:
    """A kind of measurement. verbs: that the model must have. conditions: names, in order."""

    name: str
    about: str
    verbs: tuple[Verb, ...]
    conditions: tuple[str, ...]
    measure: Callable[[Bench], PartResult]

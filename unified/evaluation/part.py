"""A part of a suite: what it asks a model, and what comes of it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unified.engine.events import Done, Dropped
from unified.evaluation.figures import MeasuredFigure
from unified.evaluation.set_files import SetPaths
from unified.models.asking_models import AskedRequest
from unified.models.model import UnifiedModel
from unified.tasks.task import Refusal, Verb
from unified_data.document import Audio, Document, Image, Text

__all__ = [
    "REFUSED",
    "Asked",
    "Bench",
    "JudgedCase",
    "Part",
    "PartResult",
    "picture_of",
    "sound_of",
    "text_of",
]
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
    missing: conditions that were not measured, with the reason.
    cannot: the reason why the model, or this machine, cannot do it; there is nothing else then.
    """

    figures: tuple[MeasuredFigure, ...] = ()
    judge: tuple[MeasuredFigure, ...] = ()
    samples: tuple[JudgedCase, ...] = ()
    cannot: str | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Bench:
    """What a part measures with. cases: of every condition. progress: told cases done, and all.

    data: what the part's `read` made of the files of its set.
    """

    model: UnifiedModel
    cases: int
    conditions: tuple[str, ...]
    seed: int
    progress: Callable[[int, int], None] = field(default=lambda done, total: None)
    data: Any = None

    def rng(self, part: str, condition: str) -> np.random.Generator:
        """Random numbers of a condition, which do not depend on what else is measured."""
        return np.random.default_rng([self.seed, zlib.crc32(f"{part}/{condition}".encode())])

    def lacks(self, *verbs: Verb) -> str | None:
        """Why the model cannot do some verbs; None where it can do all of them."""
        for verb in verbs:
            entry = self.model.tasks[verb]
            if isinstance(entry, Refusal):
                return f"{verb}: {entry.reason}"
        return None

    def request(self, verb: Verb, **inputs: Any) -> Asked:
        """`UnifiedModel.request`, or the reason why the model does not take it."""
        try:
            return self.model.request(verb, **inputs)
        except ValueError as error:
            return f"{REFUSED}{error}"

    def complete(
        self, requests: Sequence[Asked], seeds: Sequence[int] | None = None
    ) -> list[Document | str]:
        """Every request of one verb completed, in order; of what was refused or dropped, the
        reason. seeds: one for each request; None: the suite's for all."""
        seeds = [self.seed] * len(requests) if seeds is None else seeds
        results: list[Document | str] = [r if isinstance(r, str) else "" for r in requests]
        rows = [row for row, request in enumerate(requests) if not isinstance(request, str)]
        try:
            self._stream(requests, rows, results, seeds)
        except ValueError:
            for row in rows:  # whichever it is, the others are asked all the same
                try:
                    self._stream(requests, [row], results, seeds)
                except ValueError as error:
                    results[row] = f"{REFUSED}{error}"
        return results

    def _stream(
        self,
        requests: Sequence[Asked],
        rows: Sequence[int],
        results: list[Document | str],
        seeds: Sequence[int],
    ) -> None:
        asked = [request for row in rows if not isinstance(request := requests[row], str)]
        rows = [row for row in rows if not isinstance(requests[row], str)]
        if not asked:
            return
        assert len({request.negative for request in asked}) == 1
        events = self.model.stream(
            [request.document for request in asked],
            [request.sampling for request in asked],
            [seeds[row] for row in rows],
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


def text_of(result: Document | str) -> str:
    """The text that a completed document ends in; of what was not completed, the reason."""
    answer = result if isinstance(result, str) else result.segments[-1]
    return answer.text if isinstance(answer, Text) else str(answer)


def picture_of(result: Document | str) -> np.ndarray | str:
    """The last picture of a completed document, uint8 (H, W, 3), or why there is none."""
    if isinstance(result, str):
        return result
    pictures = [segment.pixels for segment in result if isinstance(segment, Image)]
    return pictures[-1] if pictures else "no picture came"


def sound_of(result: Document | str) -> Audio | str:
    """The last sound of a completed document, or why there is none."""
    if isinstance(result, str):
        return result
    sounds = [segment for segment in result if isinstance(segment, Audio)]
    return sounds[-1] if sounds else "no sound came"


@dataclass(frozen=True)
class Part:
    """A kind of measurement. verbs: that the model must have. conditions: names, in order.

    read: of a set that the user has on disk, called before anything is measured; it raises
    ValueError for files that are no such set. paths: which of the entries `folder`, `images` and
    `output` a suite may name for it.
    """

    name: str
    about: str
    verbs: tuple[Verb, ...]
    conditions: tuple[str, ...]
    measure: Callable[[Bench], PartResult]
    read: Callable[[SetPaths], Any] | None = None
    paths: tuple[str, ...] = ()

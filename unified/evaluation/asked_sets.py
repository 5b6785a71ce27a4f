"""Asking a model everything of a set on disk, a few media at a time, so that any set fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from unified.evaluation.part import Bench, JudgedCase
from unified.tasks.task import Verb
from unified_data.document import Document, Text

__all__ = ["AnsweredText", "KeptSamples", "answers", "chosen", "completed"]

Case = TypeVar("Case")
_AT_ONCE = 32
"""Cases whose media are in memory together."""
_KEPT = 48
"""Wrong samples, and right ones, whose media are kept for the page; of the others the words."""


@dataclass(frozen=True)
class AnsweredText:
    """text: what the model answered; of what it did not take "", with the reason beside it."""

    text: str
    reason: str | None = None

    @property
    def words(self) -> str:
        """The answer, or why there is none."""
        return self.text if self.reason is None else self.reason


def chosen(bench: Bench, part: str, condition: str, cases: Sequence[Case]) -> list[Case]:
    """The suite's number of cases of a condition, drawn by its seed, in the set's order.

    All of them where the set has no more.
    """
    if len(cases) <= bench.cases:
        return list(cases)
    rows = bench.rng(part, condition).permutation(len(cases))[: bench.cases]
    return [cases[int(row)] for row in np.sort(rows)]


def completed(
    bench: Bench, verb: Verb, cases: Sequence[Case], inputs: Callable[[Case], dict[str, Any]]
) -> Iterator[tuple[Case, Document | str, dict[str, Any]]]:
    """Every case with the document that came of it, or the reason why none did, and its inputs.

    inputs: what the verb is given, such as {"image": uint8 (H, W, 3)}; called when it is needed.
    """
    for start in range(0, len(cases), _AT_ONCE):
        some = cases[start : start + _AT_ONCE]

        def progress(done: int, _: int, start: int = start) -> None:
            bench.progress(start + done, len(cases))

        media = [inputs(case) for case in some]
        here = replace(bench, progress=progress)
        results = here.complete([here.request(verb, **each) for each in media])
        yield from zip(some, results, media)


def answers(
    bench: Bench, verb: Verb, cases: Sequence[Case], inputs: Callable[[Case], dict[str, Any]]
) -> Iterator[tuple[Case, AnsweredText, dict[str, Any]]]:
    """As `completed`, of verbs that answer with a text."""
    for case, result, media in completed(bench, verb, cases, inputs):
        last = result if isinstance(result, str) else result.segments[-1]
        if isinstance(last, Text):
            yield case, AnsweredText(last.text), media
        else:
            yield case, AnsweredText("", str(last)), media


class KeptSamples:
    """Samples of a part, with the media of a few: memory does not grow with their pictures."""

    def __init__(self) -> None:
        self._samples: list[JudgedCase] = []
        self._with_media = {True: 0, False: 0}

    def add(
        self,
        condition: str,
        asked: str,
        expected: str,
        answer: str,
        right: bool,
        media: dict[str, Any] | None = None,
    ) -> None:
        """media: inputs of the case, whose picture or sound is kept where there is room."""
        pixels, audio = None, None
        if media is not None and self._with_media[right] < _KEPT:
            pixels, audio = media.get("image"), media.get("audio")
            self._with_media[right] += 1
        self._samples.append(JudgedCase(condition, asked, expected, answer, right, pixels, audio))

    def all(self) -> tuple[JudgedCase, ...]:
        return tuple(self._samples)

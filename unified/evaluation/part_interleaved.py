"""Interleaved documents: number, order, right subject, and a sound that says the text."""

from __future__ import annotations

from dataclasses import dataclass

from unified.evaluation.figures import MeasuredFigure, share
from unified.evaluation.interleaved import (
    RIVALS,
    InterleavedChecks,
    InterleavedWish,
    check_document,
    says,
    shows,
)
from unified.evaluation.judges import GlyphJudge
from unified.evaluation.part import Bench, JudgedCase, Part, PartResult
from unified_data.document import Audio, Image, Text
from unified_data.pocket.scenes import compose, render
from unified_data.pocket.speech import SAMPLE_RATE, VOICES, connected, speak
from unified_data.pocket.subjects import load_subjects

__all__ = ["INTERLEAVED"]

_WISHES = {"one": (1, 1), "two": (2, 1), "three": (3, 1), "silent": (2, 0)}
"""Pictures and sounds of each condition."""
_CHECKS = {
    "images": "number of pictures",
    "sounds": "number of sounds",
    "order": "words between any two media",
    "captions": "words beside every picture name the subject",
    "pictured": "every picture shows the subject",
    "voiced": "the sound says the text before it",
}


@dataclass(frozen=True)
class _Case:
    condition: str
    wish: InterleavedWish

    @property
    def asked(self) -> str:
        wish = self.wish
        return f"The {wish.subject.name}; pictures: {wish.images}; sounds: {wish.sounds}"


def _cases(bench: Bench) -> list[_Case]:
    subjects, cases = load_subjects(), []
    for condition in bench.conditions:
        rng = bench.rng("interleaved", condition)
        for _ in range(bench.cases):
            subject = subjects[int(rng.integers(len(subjects)))]
            cases.append(_Case(condition, InterleavedWish(subject, *_WISHES[condition])))
    return cases


def _measure(bench: Bench) -> PartResult:
    judge, cases = GlyphJudge(), _cases(bench)
    try:
        judged = _of_judge(bench, judge, cases)
    except ValueError as error:  # espeak-ng is not installed
        return PartResult(cannot=str(error))
    requests = [
        bench.request(
            "write", text=f"The {case.wish.subject.name}", images=case.wish.images,
            sounds=case.wish.sounds,
        )
        for case in cases
    ]  # fmt: skip
    samples: list[JudgedCase] = []
    checks: list[InterleavedChecks | None] = []
    for case, result in zip(cases, bench.complete(requests)):
        if isinstance(result, str):
            samples.append(JudgedCase(case.condition, case.asked, "as asked", result, False))
            checks.append(None)
            continue
        response = [segment for segment in result if segment.role != "prompt"]
        outcome = check_document(response, case.wish, judge)
        checks.append(outcome)
        answer = f"not: {', '.join(outcome.missing)}" if outcome.missing else "as asked"
        pixels = next((each.pixels for each in response if isinstance(each, Image)), None)
        sound = next((each for each in response if isinstance(each, Audio)), None)
        samples.append(
            JudgedCase(
                case.condition, case.asked, "as asked", answer, not outcome.missing, pixels, sound
            )
        )
    figures = [
        share(condition, [each.right for each in samples if each.condition == condition])
        for condition in bench.conditions
    ]
    return PartResult((*figures, *_of_checks(cases, checks)), judged, tuple(samples))


def _of_checks(cases: list[_Case], checks: list[InterleavedChecks | None]) -> list[MeasuredFigure]:
    """Each check over all documents that it was asked of; a document that did not come fails it."""
    figures = []
    for check, name in _CHECKS.items():
        asked = [row for row, case in enumerate(cases) if check != "voiced" or case.wish.sounds]
        if asked:
            outcomes = [bool(checks[row] and getattr(checks[row], check)) for row in asked]
            figures.append(share(name, outcomes))
    return figures


def _of_judge(bench: Bench, judge: GlyphJudge, cases: list[_Case]) -> tuple[MeasuredFigure, ...]:
    """What is shown and said in true pictures and in espeak-ng's other voices, and in others'."""
    rng = bench.rng("interleaved", "judge")
    true: list[bool] = []
    false: list[bool] = []
    heard: list[bool] = []
    flowing: list[bool] = []
    misheard: list[bool] = []
    subjects = load_subjects()
    voices = list(VOICES)
    for case in cases:
        subject = case.wish.subject
        other = subjects[int(rng.integers(len(subjects)))]
        two = bool(rng.integers(2))
        scene = compose(rng, "two" if two else "one", subject)
        true.append(not shows(judge, render(scene), subject, two))
        scene = compose(rng, "two" if two else "one", other)
        if subject not in scene.subjects:
            false.append(shows(judge, render(scene), subject, two))
        voice = voices[int(rng.integers(len(voices)))]
        for outcomes, wave in (
            (heard, speak(subject.lead, voice)),
            (flowing, connected(subject.lead, VOICES[voice])),
            (misheard, speak(other.lead, voice)),
        ):
            if outcomes is not misheard or other != subject:
                outcomes.append(says((Text(subject.lead), Audio(wave, SAMPLE_RATE)), 1))
    chance = 1 / (RIVALS + 1)
    figures = [
        share("true pictures judged wrong", true, better="lower"),
        share("sounds told from 12 other sentences, word by word", heard, chance),
        share("sounds told from 12 other sentences, connected", flowing, chance),
    ]
    if false:
        figures.append(share("pictures of other subjects judged right", false, better="lower"))
    if misheard:
        figures.append(
            share("sounds of another sentence judged right", misheard, chance, better="lower")
        )
    return tuple(figures)


INTERLEAVED = Part(
    "interleaved",
    "Documents about a subject with pictures and a sound are what was asked for in every respect.",
    ("write",),
    tuple(_WISHES),
    _measure,
)

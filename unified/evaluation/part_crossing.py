"""From any medium to any other: spoken captions, told pictures, spoken questions, edits, names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unified.evaluation.crossing_cases import CROSSINGS, Crossing
from unified.evaluation.figures import MeasuredFigure, share
from unified.evaluation.heard_sounds import said_plainly
from unified.evaluation.part import (
    Asked,
    Bench,
    JudgedCase,
    Part,
    PartResult,
    picture_of,
    sound_of,
    text_of,
)
from unified.evaluation.part_drawing import drawn_judge, judged
from unified.evaluation.placed_things import paint_things
from unified.evaluation.scene_judge import SceneJudge
from unified.evaluation.spoken_words import features, rank
from unified.evaluation.wanted import true_things
from unified.pocket.forms import load_forms
from unified_data.document import Audio, Document
from unified_data.pocket.scenes import BACKGROUNDS
from unified_data.pocket.speech import DEFAULT_VOICE, SAMPLE_RATE, VOICES
from unified_data.pocket.subjects import load_subjects

__all__ = ["CROSSING", "says_name", "verdict_on"]

_RIVALS = 12
_SPOKEN = frozenset(["draw spoken", "say a picture", "ask spoken"])
_CHANCE = {"say a picture": 1 / (_RIVALS + 1), "ask spoken": 0.5, "names": 0.5}


def says_name(sound: Audio, name: str, rivals: Sequence[str]) -> bool:
    """Whether a name is nearer to some stretch of a sound than twelve other names are."""
    voice = VOICES[DEFAULT_VOICE]

    def frames(text: str) -> np.ndarray:
        return features(Audio(said_plainly(text, voice), SAMPLE_RATE))

    true, *others = (frames(text) for text in (name, *rivals))
    return rank(features(sound), true, others, anywhere=True) == 0


def _rivals(name: str, rng: np.random.Generator) -> list[str]:
    """Names about as long as a name: a short one would be near for being short."""
    names = [each.name for each in load_subjects() if each.name != name]
    order = [names[int(i)] for i in rng.permutation(len(names))]
    return sorted(order, key=lambda other: abs(len(other) - len(name)))[:_RIVALS]


def verdict_on(
    case: Crossing, result: Document | str, judge: SceneJudge, rng: np.random.Generator
) -> tuple[bool, str, np.ndarray | None, Audio | None]:
    """Whether what came is right, what it is in words, and its picture or sound."""
    if case.wanted is not None:
        pixels = picture_of(result)
        # The picture that was given is no answer.
        if isinstance(result, Document) and _given_alone(result):
            return False, "no picture came", None, None
        if isinstance(pixels, str):
            return False, pixels, None, None
        told = judged(judge, case.wanted, pixels)
        return told.all, told.seen, pixels, None
    if case.says is not None:
        sound = sound_of(result)
        if isinstance(sound, str):
            return False, sound, case.pixels, None
        right = says_name(sound, case.says, _rivals(case.says, rng))
        told_in_words = "the name is the nearest of 13" if right else "another name is nearer"
        return right, told_in_words, case.pixels, sound
    text = text_of(result)
    assert case.reads is not None
    return not isinstance(result, str) and case.reads(text), text, case.pixels, None


def _given_alone(document: Document) -> bool:
    """Whether none of a document's last segments is an answer."""
    return document.segments[-1].role == "prompt"


def _measure(bench: Bench) -> PartResult:
    forms = load_forms(bench.model.directory)
    missing = {
        condition: "the model has no task for it" for condition in bench.conditions
        if condition not in forms
    }  # fmt: skip
    asked = [condition for condition in bench.conditions if condition in forms]
    if not asked:
        return PartResult(cannot=f"the model has no task for {', '.join(bench.conditions)}")
    judge = drawn_judge()
    figures: list[MeasuredFigure] = []
    samples: list[JudgedCase] = []
    drawn: list[Crossing] = []
    for condition in asked:
        rng = bench.rng("crossing", condition)
        try:
            cases = [CROSSINGS[condition](rng) for _ in range(bench.cases)]
        except ValueError as error:
            if condition not in _SPOKEN:
                raise
            missing[condition] = str(error)  # espeak-ng is not installed
            continue
        drawn += [case for case in cases if case.wanted is not None]
        results = bench.complete([_request(bench, case) for case in cases])
        outcomes = []
        for case, result in zip(cases, results):
            right, told, pixels, sound = verdict_on(case, result, judge, rng)
            outcomes.append(right)
            samples.append(
                JudgedCase(condition, case.asked, case.expected, told, right, pixels, sound)
            )
        figures.append(share(condition, outcomes, _CHANCE.get(condition)))
    if not figures:
        return PartResult(cannot=next(iter(missing.values())))
    return PartResult(
        tuple(figures), _of_judge(bench, judge, drawn), tuple(samples), missing=missing
    )


def _request(bench: Bench, case: Crossing) -> Asked:
    try:
        return bench.model.request_document(case.document)
    except ValueError as error:
        return str(error)


def _of_judge(
    bench: Bench, judge: SceneJudge, drawn: Sequence[Crossing]
) -> tuple[MeasuredFigure, ...]:
    """True pictures of what was wanted that are judged wrong, and names heard in true speech."""
    rng = bench.rng("crossing", "judge")
    figures = []
    wrong = []
    for case in drawn:
        assert case.wanted is not None
        names = list(BACKGROUNDS)
        ground = BACKGROUNDS[case.wanted.ground or names[int(rng.integers(len(names)))]]
        pixels = paint_things(true_things(case.wanted, rng), ground)
        wrong.append(not judged(judge, case.wanted, pixels).all)
    if wrong:
        figures.append(share("true pictures judged wrong", wrong, better="lower"))
    if "say a picture" in bench.conditions:
        subjects = [load_subjects()[int(i)] for i in rng.permutation(len(load_subjects()))[:12]]
        try:
            heard = [
                says_name(
                    Audio(said_plainly(each.phrase, VOICES["amy"]), SAMPLE_RATE), each.name,
                    _rivals(each.name, rng),
                )
                for each in subjects
            ]  # fmt: skip
        except ValueError:
            return tuple(figures)
        figures.append(share("names heard in another voice's true speech", heard, 1 / 13))
    return tuple(figures)


CROSSING = Part(
    "crossing",
    "What is said is drawn, what is seen is said, spoken questions are answered, pictures are"
    " changed and things named anew; of subjects whose speech and picture were never joined.",
    (),
    tuple(CROSSINGS),
    _measure,
)

"""Questions about pictures: is something there, how many are there, and how do two things stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unified.evaluation.absent_things import ABSENT
from unified.evaluation.answers import number_in, relation_in, yes_or_no
from unified.evaluation.figures import MeasuredFigure, bootstrap, share
from unified.evaluation.part import Bench, JudgedCase, Part, PartResult
from unified.evaluation.placed_things import paint_things, scatter
from unified.evaluation.scene_judge import SceneJudge
from unified.evaluation.wanted import relation_between
from unified_data.pocket.scenes import BACKGROUNDS
from unified_data.pocket.subjects import Subject, find_subject, load_subjects

__all__ = ["ASKING", "ask_about", "read_answer", "scattered"]

_NAMES = ("none", "one", "two", "three", "four")
_SIDES = 32, 45
"""Of the things, pixels: the smallest and the largest."""
_CLEAR = 1.5
"""How much farther two things are apart along one axis than along the other."""
_TRUE = (
    ("yes", True), ("Yes, there is a cat.", True), ("no", False), ("No, there is none.", False),
    ("There is no cat.", False), ("There isn't a cat.", False), ("a fox and a car: no", False),
    ("a fox and a car: yes", True), ("no things: yes", True), ("一只狐狸和一辆汽车：没有", False),
)  # fmt: skip
_TRUE_NUMBERS = (
    ("four", 4), ("There are 3 cats.", 3), ("There are no cats.", 0), ("none", 0),
    ("There is one cat.", 1), ("a cat", 1), ("2", 2), ("zero", 0), ("two cats: two", 2),
    ("three foxes: none", 0),
)  # fmt: skip
_TRUE_RELATIONS = (
    ("to the left of the dog", "to the left of"), ("It is above the dog.", "above"),
    ("a dog and a cat: below the dog", "below"), ("The dog is right of the cat", "to the left of"),
)  # fmt: skip


def scattered(
    things: Sequence[Subject], rng: np.random.Generator, ground: bool = True
) -> np.ndarray:
    """A picture of up to four things, anywhere and apart: uint8 (96, 96, 3). ground: of one of the
    world's colours, else of any colour."""
    colours = list(BACKGROUNDS.values())
    colour = colours[int(rng.integers(len(colours)))]
    if not ground:
        red, green, blue = map(int, rng.integers(0, 256, 3))
        colour = red, green, blue
    return paint_things(scatter(things, rng, _SIDES), colour)


@dataclass(frozen=True, eq=False)
class _Question:
    condition: str
    pixels: np.ndarray
    things: tuple[Subject, ...]
    question: str
    expected: bool | int | str
    asked: Subject


def _subjects(rng: np.random.Generator, number: int) -> tuple[Subject, ...]:
    everything = load_subjects()
    return tuple(everything[i] for i in rng.permutation(len(everything))[:number])


def _of_presence(bench: Bench, condition: str) -> list[_Question]:
    """Two questions a picture of one or two things: of one that is there, of one that is not."""
    questions = []
    rng = bench.rng("asking", condition)
    for _ in range(bench.cases):
        things = _subjects(rng, int(rng.integers(1, 3)))
        pixels = scattered(things, rng)
        there = things[int(rng.integers(len(things)))]
        absent = ABSENT[condition](things, rng)
        for subject, expected in ((there, True), (absent, False)):
            text = f"Is there {subject.phrase}?"
            questions.append(_Question(condition, pixels, things, text, expected, subject))
    return questions


def _of_number(bench: Bench, condition: str) -> list[_Question]:
    """Of none to four of a kind, in turn; where there is none, one to four of another kind."""
    questions = []
    rng = bench.rng("asking", condition)
    for case in range(bench.cases * len(_NAMES)):
        subject, other = _subjects(rng, 2)
        number = case % len(_NAMES)
        things = (subject,) * number or (other,) * int(rng.integers(1, 5))
        text = f"How many {subject.plural} are there?"
        pixels = scattered(things, rng)
        questions.append(_Question(condition, pixels, things, text, number, subject))
    return questions


def _of_relation(bench: Bench, condition: str) -> list[_Question]:
    """Where one of two things is, that stand clearly beside or above each other."""
    questions: list[_Question] = []
    rng = bench.rng("asking", condition)
    colours = list(BACKGROUNDS.values())
    while len(questions) < bench.cases:
        subjects = _subjects(rng, 2)
        things = scatter(subjects, rng, _SIDES)
        down, right = np.abs(np.subtract(things[0].centre, things[1].centre))
        if max(down, right) < _CLEAR * min(down, right):
            continue
        pixels = paint_things(things, colours[int(rng.integers(len(colours)))])
        expected = relation_between(things[0].centre, things[1].centre)
        text = f"Where is the {subjects[0].name}?"
        questions.append(_Question(condition, pixels, subjects, text, expected, subjects[0]))
    return questions


_ASKED = {
    **dict.fromkeys(ABSENT, _of_presence),
    "count": _of_number,
    "relation": _of_relation,
}


def ask_about(bench: Bench, condition: str) -> list[_Question]:
    """The questions of a condition."""
    return _ASKED[condition](bench, condition)


def read_answer(condition: str, answer: str, asked: Subject) -> bool | int | str | None:
    """What an answer to a question of a condition says."""
    if condition == "count":
        return number_in(answer)
    return relation_in(answer, asked) if condition == "relation" else yes_or_no(answer)


def _measure(bench: Bench) -> PartResult:
    questions = [each for condition in bench.conditions for each in ask_about(bench, condition)]
    requests = [
        bench.request("ask", image=each.pixels, question=each.question) for each in questions
    ]
    answers = bench.texts(requests)
    read = [
        read_answer(each.condition, answer, each.asked)
        for each, answer in zip(questions, answers)
    ]  # fmt: skip
    samples = tuple(
        JudgedCase(
            each.condition, each.question, _in_words(each.expected), answer,
            value is not None and value == each.expected, each.pixels,
        )
        for each, answer, value in zip(questions, answers, read)
    )  # fmt: skip
    figures: list[MeasuredFigure] = []
    for condition in bench.conditions:
        rows = [i for i, each in enumerate(questions) if each.condition == condition]
        right = [samples[i].right for i in rows]
        if condition in ABSENT:
            truth = np.array([questions[i].expected is True for i in rows])
            figures += _pope(condition, right, truth, [read[i] is True for i in rows])
        elif condition == "count":
            figures.append(share("count", right, 1 / len(_NAMES)))
            for number, name in enumerate(_NAMES):
                own = [r for r, i in zip(right, rows) if questions[i].expected == number]
                figures.append(share(f"count, {name}", own))
        else:
            figures.append(share(condition, right, 0.25))
    return PartResult(tuple(figures), _of_judge(questions), samples)


def _in_words(expected: bool | int | str) -> str:
    if isinstance(expected, bool):
        return "yes" if expected else "no"
    return str(expected)


def _pope(
    condition: str, right: list[bool], truth: np.ndarray, yes: list[bool]
) -> list[MeasuredFigure]:
    correct = np.array(right)
    return [
        share(condition, right, 0.5),
        share(f"{condition}, asked of what is", correct[truth].tolist()),
        share(f"{condition}, asked of what is not", correct[~truth].tolist()),
        f1(f"{condition}, F1 of yes", np.array(yes), truth),
    ]


def f1(name: str, yes: np.ndarray, truth: np.ndarray) -> MeasuredFigure:
    """POPE's F1 of the answer yes, bool (cases,) both; always yes scores 2/3."""

    def score(rows: np.ndarray) -> float:
        hits = int((yes[rows] & truth[rows]).sum())
        both = int(yes[rows].sum() + truth[rows].sum())
        return 2 * hits / both if both else 0.0

    value = score(np.arange(len(truth)))
    low, high = bootstrap(len(truth), score)
    return MeasuredFigure(
        name, value, min(low, value), max(high, value), len(truth), "score", interval="bootstrap",
        chance=2 / 3,
    )  # fmt: skip


def _of_judge(questions: Sequence[_Question]) -> tuple[MeasuredFigure, ...]:
    """Of true answers those read wrong, and of the pictures those that do not show their things."""
    cat = find_subject("cat")
    assert cat is not None
    misread = [yes_or_no(text) is not truth for text, truth in _TRUE]
    misread += [number_in(text) != truth for text, truth in _TRUE_NUMBERS]
    misread += [relation_in(text, cat) != truth for text, truth in _TRUE_RELATIONS]
    judge, hidden, before = SceneJudge(sides=(20, 52)), [], b""
    for each in questions:
        if each.pixels.tobytes() == before:
            continue
        before = each.pixels.tobytes()
        seen = sorted(thing.subject.name for thing in judge.things(each.pixels))
        hidden.append(seen != sorted(subject.name for subject in each.things))
    return (
        share("true answers read wrong", misread, better="lower"),
        share("pictures whose things are not seen by glyphs", hidden, better="lower"),
    )


ASKING = Part(
    "asking",
    "Answers on things scattered off the world's grid: is something there (POPE), how many, where.",
    ("ask",),
    tuple(_ASKED),
    _measure,
)

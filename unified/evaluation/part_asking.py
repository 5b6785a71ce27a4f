"""Questions about pictures: is something there, and how many are there, from none to four."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage

from unified.evaluation.altered_pictures import View, paste
from unified.evaluation.figures import MeasuredFigure, bootstrap, share
from unified.evaluation.judges import GlyphJudge, words
from unified.evaluation.part import Bench, JudgedCase, Part, PartResult
from unified_data.pocket.scenes import BACKGROUNDS, SIDE
from unified_data.pocket.subjects import Subject, load_subjects

__all__ = ["ASKING", "number_in", "scattered", "yes_or_no"]

_NUMBERS = {
    "zero": 0, "no": 0, "none": 0, "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4,
    "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
}  # fmt: skip
_NAMES = ("none", "one", "two", "three", "four")
_SIDES = 38, 45
"""Of the things, pixels: the smallest and one more than the largest."""
_TRUE = (
    ("yes", True), ("Yes, there is a cat.", True), ("no", False), ("No, there is none.", False),
    ("There is no cat.", False), ("There isn't a cat.", False),
)  # fmt: skip
_TRUE_NUMBERS = (
    ("four", 4), ("There are 3 cats.", 3), ("There are no cats.", 0), ("none", 0),
    ("There is one cat.", 1), ("a cat", 1), ("2", 2), ("zero", 0),
)  # fmt: skip


def yes_or_no(text: str) -> bool | None:
    """What an answer says: its first yes, or its first denial; None where it says neither."""
    for word in words(text):
        if word == "yes":
            return True
        if word in ("no", "not", "none", "isnt", "arent"):
            return False
    return None


def number_in(text: str) -> int | None:
    """The number that an answer gives: its first digits or number word, an article only where there
    is no other; None where there is none."""
    spoken = words(text)
    for word in spoken:
        if word.isascii() and word.isdigit():
            return int(word[:6])
        if word in _NUMBERS and word not in ("a", "an"):
            return _NUMBERS[word]
    return 1 if {"a", "an"} & set(spoken) else None


def scattered(things: Sequence[Subject], rng: np.random.Generator) -> np.ndarray:
    """A picture of up to four things, each anywhere in a quarter of its own: uint8 (96, 96, 3)."""
    colours = list(BACKGROUNDS.values())
    ground = colours[int(rng.integers(len(colours)))]
    canvas = PillowImage.new("RGB", (SIDE, SIDE), ground)
    half = SIDE // 2
    for quarter, subject in zip(rng.permutation(4), things):
        side = int(rng.integers(*_SIDES))
        y, x = map(int, rng.integers(0, half - side + 1, 2))
        row, column = divmod(int(quarter), 2)
        paste(canvas, subject, View(ground, side, row * half + y, column * half + x))
    return np.asarray(canvas)


@dataclass(frozen=True, eq=False)
class _Question:
    condition: str
    pixels: np.ndarray
    things: tuple[Subject, ...]
    question: str
    expected: bool | int


def _of_presence(bench: Bench) -> list[_Question]:
    """Two questions a picture of one or two things: of one that is there, of one that is not."""
    questions = []
    rng = bench.rng("asking", "there")
    everything = load_subjects()
    for _ in range(bench.cases):
        *things, absent = (everything[i] for i in rng.permutation(len(everything))[:3])
        things = things[: int(rng.integers(1, 3))]
        pixels = scattered(things, rng)
        there = things[int(rng.integers(len(things)))]
        for subject, expected in ((there, True), (absent, False)):
            text = f"Is there {subject.phrase}?"
            questions.append(_Question("there", pixels, tuple(things), text, expected))
    return questions


def _of_number(bench: Bench) -> list[_Question]:
    """Of none to four of a kind, in turn; where there is none, one to four of another kind."""
    questions = []
    rng = bench.rng("asking", "count")
    everything = load_subjects()
    for case in range(bench.cases * len(_NAMES)):
        subject, other = (everything[i] for i in rng.permutation(len(everything))[:2])
        number = case % len(_NAMES)
        things = (subject,) * number or (other,) * int(rng.integers(1, 5))
        text = f"How many {subject.plural} are there?"
        questions.append(_Question("count", scattered(things, rng), things, text, number))
    return questions


_ASKED = {"there": _of_presence, "count": _of_number}


def _measure(bench: Bench) -> PartResult:
    questions = [each for condition in bench.conditions for each in _ASKED[condition](bench)]
    requests = [
        bench.request("ask", image=each.pixels, question=each.question) for each in questions
    ]
    answers = bench.texts(requests)
    samples = tuple(
        JudgedCase(
            each.condition,
            each.question,
            ("yes" if each.expected else "no") if each.condition == "there" else str(each.expected),
            answer,
            _read(each.condition, answer) == each.expected,
            each.pixels,
        )
        for each, answer in zip(questions, answers)
    )
    figures: list[MeasuredFigure] = []
    for condition in bench.conditions:
        rows = [i for i, each in enumerate(questions) if each.condition == condition]
        right = np.array([samples[i].right for i in rows])
        truth = np.array([questions[i].expected for i in rows])
        figures.append(share(condition, right.tolist(), 0.5 if condition == "there" else 0.2))
        if condition == "there":
            figures.append(share("there, asked of what is", right[truth].tolist()))
            figures.append(share("there, asked of what is not", right[~truth].tolist()))
            figures.append(_f1("there, F1 of yes", [yes_or_no(answers[i]) for i in rows], truth))
        else:
            for number, name in enumerate(_NAMES):
                figures.append(share(f"count, {name}", right[truth == number].tolist()))
    return PartResult(tuple(figures), _of_judge(questions), samples)


def _read(condition: str, answer: str) -> bool | int | None:
    return yes_or_no(answer) if condition == "there" else number_in(answer)


def _f1(name: str, answers: Sequence[bool | None], truth: np.ndarray) -> MeasuredFigure:
    """POPE's F1 of the answer yes; always yes scores 2/3."""
    yes = np.array([answer is True for answer in answers])

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
    misread = [yes_or_no(text) is not truth for text, truth in _TRUE]
    misread += [number_in(text) != truth for text, truth in _TRUE_NUMBERS]
    judge, hidden, before = GlyphJudge(), [], b""
    for each in questions:
        if each.pixels.tobytes() == before:
            continue
        before = each.pixels.tobytes()
        hidden.append(judge.best_small(each.pixels).subject not in each.things)
    return (
        share("true answers read wrong", misread, better="lower"),
        share("pictures whose things are not seen", hidden, better="lower"),
    )


ASKING = Part(
    "asking",
    "Answers on things scattered off the world's grid: is something there, and how many.",
    ("ask",),
    tuple(_ASKED),
    _measure,
)

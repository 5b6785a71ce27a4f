"""POPE: yes-no questions whether a thing is in a picture, of a set on disk.

Li et al. (2023), "Evaluating Object Hallucination in Large Vision-Language Models",
https://arxiv.org/abs/2305.10355; files and scoring of its repository (RUCAIBox/POPE).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unified.evaluation.asked_sets import KeptSamples, answers, chosen
from unified.evaluation.figures import MeasuredFigure, bootstrap, share
from unified.evaluation.part import Bench, Part, PartResult
from unified.evaluation.set_files import SetPaths, field_of, file_in, json_lines
from unified_base.images import load_image

__all__ = ["POPE", "pope_says_yes", "pope_scores"]

_CONDITIONS = ("random", "popular", "adversarial")


@dataclass(frozen=True)
class _Question:
    image: Path
    text: str
    expected: bool


def pope_says_yes(answer: str) -> bool:
    """Whether POPE's script reads an answer as yes: whatever has no denial in its first sentence.

    The denials are the words `No`, `no` and `not`, between blanks; commas do not count.
    """
    first = answer.split(".")[0].replace(",", "")
    return not {"No", "no", "not"} & set(first.split(" "))


def pope_scores(yes_answers: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """accuracy, precision, recall, f1 and yes ratio of answers; bool (N,), True is yes.

    Where nothing was answered yes, or nothing is there, the script divides by zero; here it is 0.
    """
    hits = int((yes_answers & truth).sum())
    yes, there = int(yes_answers.sum()), int(truth.sum())
    return {
        "accuracy": float((yes_answers == truth).mean()),
        "precision": hits / yes if yes else 0.0,
        "recall": hits / there if there else 0.0,
        "F1": 2 * hits / (yes + there) if yes + there else 0.0,
        "yes ratio": yes / len(yes_answers),
    }


def _read(paths: SetPaths) -> dict[str, list[_Question]]:
    questions: dict[str, list[_Question]] = {}
    for condition in paths.conditions:
        path = paths.folder / f"coco_pope_{condition}.json"
        questions[condition] = []
        for where, record in json_lines(path):
            label = field_of(record, "label", str, where)
            if label not in ("yes", "no"):
                raise ValueError(f"{where}: label is {label[:40]!r}, expected yes or no")
            image = file_in(paths.images, field_of(record, "image", str, where), where)
            text = field_of(record, "text", str, where)
            questions[condition].append(_Question(image, text, label == "yes"))
        if not questions[condition]:
            raise ValueError(f"{path} has no questions")
    return questions


def _measure(bench: Bench) -> PartResult:
    figures: list[MeasuredFigure] = []
    samples = KeptSamples()
    for condition in bench.conditions:
        cases = chosen(bench, "pope", condition, bench.data[condition])
        yes_answers = []
        for case, answer, media in answers(bench, "ask", cases, _inputs):
            # What the model did not take is an answer that is wrong whatever is right.
            yes = pope_says_yes(answer.text) if answer.reason is None else not case.expected
            yes_answers.append(yes)
            expected = "yes" if case.expected else "no"
            right = yes == case.expected
            samples.add(condition, case.text, expected, answer.words, right, media)
        truth = np.array([case.expected for case in cases])
        figures += _figures(condition, np.array(yes_answers), truth)
    return PartResult(tuple(figures), samples=samples.all())


def _inputs(case: _Question) -> dict[str, object]:
    return {"image": load_image(case.image), "question": case.text}


def _figures(condition: str, yes_answers: np.ndarray, truth: np.ndarray) -> list[MeasuredFigure]:
    """accuracy and the yes ratio are shares; the others are bootstrapped over questions."""
    figures = [share(f"{condition}, accuracy", _list(yes_answers == truth), 0.5)]
    for name, chance in (("precision", 0.5), ("recall", None), ("F1", 2 / 3)):

        def score(rows: np.ndarray, name: str = name) -> float:
            return pope_scores(yes_answers[rows], truth[rows])[name]

        value = score(np.arange(len(truth)))
        low, high = bootstrap(len(truth), score)
        figures.append(
            MeasuredFigure(
                f"{condition}, {name}", value, min(low, value), max(high, value), len(truth),
                "score", interval="bootstrap", chance=chance,
            )
        )  # fmt: skip
    return [*figures, share(f"{condition}, yes ratio", _list(yes_answers))]


def _list(outcomes: np.ndarray) -> Sequence[bool]:
    return [bool(each) for each in outcomes]


POPE = Part(
    "pope",
    "POPE's questions whether a thing is in a photo, as its script reads the answers.",
    ("ask",),
    _CONDITIONS,
    _measure,
    _read,
    ("folder", "images"),
)

"""Seeing: is the subject of a picture named, however it is placed, turned and worn."""

from __future__ import annotations

import numpy as np

from unified.evaluation.altered_pictures import VIEWS, draw_view, paint, still_told
from unified.evaluation.figures import share
from unified.evaluation.names import subjects_in_view
from unified.evaluation.part import Bench, JudgedCase, Part, PartResult
from unified_data.pocket.subjects import Subject, load_subjects

__all__ = ["SEEING"]

_RIVALS = 31


def _measure(bench: Bench) -> PartResult:
    everything = load_subjects()
    cases: list[tuple[str, Subject, np.ndarray]] = []
    told: list[bool] = []
    for condition in bench.conditions:
        rng = bench.rng("seeing", condition)
        for number in _drawn(rng, len(everything), bench.cases):
            subject, view = everything[number], draw_view(condition, rng)
            pixels = paint(subject, view, rng)
            others = [each for each in everything if each != subject]
            rivals = [others[i] for i in _drawn(rng, len(others), _RIVALS)]
            told.append(still_told(pixels, view, subject, rivals))
            cases.append((condition, subject, pixels))
    requests = [bench.request("describe", image=pixels) for *_, pixels in cases]
    samples = tuple(
        JudgedCase(
            condition, "describe", subject.phrase, text, names_alone(text, subject), pixels=pixels
        )
        for (condition, subject, pixels), text in zip(cases, bench.texts(requests))
    )
    figures = tuple(
        share(
            condition,
            [sample.right for sample in samples if sample.condition == condition],
            chance=1 / len(everything),
        )
        for condition in bench.conditions
    )
    judge = (
        share("true names judged wrong", _misread([case[1] for case in cases]), better="lower"),
        share(f"pictures told from {_RIVALS} others", told, chance=1 / (_RIVALS + 1)),
    )
    return PartResult(figures, judge, samples)


def _drawn(rng: np.random.Generator, number: int, cases: int) -> list[int]:
    """Numbers below `number` at random; each comes once before any comes twice."""
    rounds = [rng.permutation(number) for _ in range(-(-cases // number))]
    return [int(i) for i in np.concatenate(rounds)[:cases]]


def names_alone(text: str, subject: Subject) -> bool:
    """Whether a description names the subject and no other of the world."""
    return subjects_in_view(text) == {subject.name}


def _misread(subjects: list[Subject]) -> list[bool]:
    """Of every subject's true description, and of its neighbour's, whether it was judged wrong."""
    wrong: list[bool] = []
    neighbours = [*subjects[1:], *subjects[:1]]
    for subject, other in zip(subjects, neighbours):
        wrong.append(not names_alone(f"{subject.phrase} on a rose ground", subject))
        if other != subject:
            wrong.append(names_alone(f"This is {other.phrase}.", subject))
    return wrong


SEEING = Part(
    "seeing",
    "The subject of a picture, painted outside the world's grid, is named by describe.",
    ("describe",),
    tuple(VIEWS),
    _measure,
)

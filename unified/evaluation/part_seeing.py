"""Seeing: are the things of a picture named, however they are placed, turned and worn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from unified.evaluation.altered_pictures import VIEWS, draw_view, paint, still_told
from unified.evaluation.figures import MeasuredFigure, share
from unified.evaluation.hallucinated import chair
from unified.evaluation.names import subjects_in_view
from unified.evaluation.part import Bench, JudgedCase, Part, PartResult
from unified.evaluation.placed_things import paint_things, scatter
from unified.evaluation.scene_judge import SceneJudge
from unified_data.pocket.subjects import Subject, load_subjects

__all__ = ["SEEING", "names_alone"]

_RIVALS = 31
_SEVERAL = {"two": 2, "three": 3}
_SIDES = (32, 46)  # of each of several things, pixels
_Case = tuple[str, tuple[Subject, ...], np.ndarray]


def _measure(bench: Bench) -> PartResult:
    cases: list[_Case] = []
    told: list[bool] = []
    for condition in bench.conditions:
        if condition in _SEVERAL:
            cases += _several(bench, condition)
        else:
            single, seen = _single(bench, condition)
            cases += single
            told += seen
    requests = [bench.request("describe", image=pixels) for *_, pixels in cases]
    samples = tuple(
        JudgedCase(
            condition, "describe", " and ".join(subject.phrase for subject in subjects), text,
            names_alone(text, *subjects), pixels=pixels,
        )
        for (condition, subjects, pixels), text in zip(cases, bench.texts(requests))
    )  # fmt: skip
    figures: list[MeasuredFigure] = []
    for condition in bench.conditions:
        rows = [i for i, case in enumerate(cases) if case[0] == condition]
        chance = float(len(load_subjects())) ** -_SEVERAL.get(condition, 1)
        figures.append(share(condition, [samples[i].right for i in rows], chance))
        if condition in _SEVERAL:
            texts = [samples[i].answer for i in rows]
            present = [{subject.name for subject in cases[i][1]} for i in rows]
            figures += [
                replace(figure, name=f"{condition}, {figure.name}")
                for figure in chair(texts, present)
            ]
    return PartResult(tuple(figures), _of_judge(cases, told), samples)


def _single(bench: Bench, condition: str) -> tuple[list[_Case], list[bool]]:
    """Pictures of one thing, and whether each is still nearer to it than to other things."""
    everything = load_subjects()
    rng = bench.rng("seeing", condition)
    cases: list[_Case] = []
    told = []
    for number in _drawn(rng, len(everything), bench.cases):
        subject, view = everything[number], draw_view(condition, rng)
        pixels = paint(subject, view, rng)
        others = [each for each in everything if each != subject]
        rivals = [others[i] for i in _drawn(rng, len(others), _RIVALS)]
        told.append(still_told(pixels, view, subject, rivals))
        cases.append((condition, (subject,), pixels))
    return cases, told


def _several(bench: Bench, condition: str) -> list[_Case]:
    """Two or three things apart, each anywhere, turned a little, on any ground."""
    everything = load_subjects()
    rng = bench.rng("seeing", condition)
    cases: list[_Case] = []
    for _ in range(bench.cases):
        order = rng.permutation(len(everything))[: _SEVERAL[condition]]
        subjects = tuple(everything[i] for i in order)
        red, green, blue = map(int, rng.integers(0, 256, 3))
        things = scatter(subjects, rng, _SIDES, angle=8)
        cases.append((condition, subjects, paint_things(things, (red, green, blue))))
    return cases


def _drawn(rng: np.random.Generator, number: int, cases: int) -> list[int]:
    """Numbers below `number` at random; each comes once before any comes twice."""
    rounds = [rng.permutation(number) for _ in range(-(-cases // number))]
    return [int(i) for i in np.concatenate(rounds)[:cases]]


def names_alone(text: str, *subjects: Subject) -> bool:
    """Whether a description names the subjects and no other of the world."""
    return subjects_in_view(text) == {subject.name for subject in subjects}


def _of_judge(cases: Sequence[_Case], told: list[bool]) -> tuple[MeasuredFigure, ...]:
    figures = [
        share("true names judged wrong", _misread([case[1] for case in cases]), better="lower")
    ]
    if told:
        name = f"pictures told from {_RIVALS} others"
        figures.append(share(name, told, chance=1 / (_RIVALS + 1)))
    several = [case for case in cases if len(case[1]) > 1]
    if several:
        judge = SceneJudge(sides=(_SIDES[0] - 6, _SIDES[1] + 6))
        seen = [
            {thing.subject for thing in judge.things(pixels)} == set(subjects)
            for _, subjects, pixels in several
        ]
        figures.append(share("things of pictures of several seen by glyphs", seen))
    return tuple(figures)


def _misread(pictured: list[tuple[Subject, ...]]) -> list[bool]:
    """Of every picture's true description, and of its neighbour's, whether it was judged wrong."""
    wrong: list[bool] = []
    for subjects, others in zip(pictured, [*pictured[1:], *pictured[:1]]):
        true = " and ".join(subject.phrase for subject in subjects)
        wrong.append(not names_alone(f"{true} on a rose ground", *subjects))
        if set(others) != set(subjects):
            false = " beside ".join(subject.phrase for subject in others)
            wrong.append(names_alone(f"This is {false}.", *subjects))
    return wrong


SEEING = Part(
    "seeing",
    "The things of a picture, painted outside the world's grid, are named by describe.",
    ("describe",),
    (*VIEWS, *_SEVERAL),
    _measure,
)

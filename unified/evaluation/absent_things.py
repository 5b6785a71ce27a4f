"""The things that POPE asks for and that are not in a picture: any, popular ones, likely ones.

Li, Du, Zhou, Wang, Zhao, Wen (2023), "Evaluating Object Hallucination in Large Vision-Language
Models". There, popular things are the most frequent of the data set, and adversarial ones those
that most often stand beside what the picture shows. The pocket world puts any two things together
as often as any others, so that neither would differ from chance: here a thing is popular by how
many of the world's sentences about other things name it, and adversarial where it is of the kind
of something in the picture and its glyph looks the most like it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from unified.evaluation.names import named_subjects
from unified.evaluation.placed_things import style_glyph
from unified_data.pocket.subjects import Subject, load_subjects

__all__ = ["ABSENT", "looks_like", "popular_subjects"]

_MOST_POPULAR = 20
_LIKELY = 3


@cache
def popular_subjects() -> tuple[Subject, ...]:
    """The twenty subjects that most sentences about other subjects name."""
    counts: Counter[str] = Counter()
    for subject in load_subjects():
        for sentence in subject.sentences:
            counts.update(set(named_subjects(sentence)) - {subject.name})
    names = [name for name, _ in counts.most_common(_MOST_POPULAR)]
    return tuple(subject for subject in load_subjects() if subject.name in names)


@cache
def _looks(subject: Subject) -> np.ndarray:
    """A small glyph on grey, of length 1: float32 (M,)."""
    tile = style_glyph("noto", subject.glyph)[::3, ::3].astype(np.float32) / 255
    change = (tile[..., :3] - 0.5) * tile[..., 3:]
    return np.asarray(change.ravel() / np.linalg.norm(change))


def looks_like(subject: Subject, number: int = _LIKELY) -> tuple[Subject, ...]:
    """The subjects of its kind that look the most like it; of all kinds where it is alone."""
    others = [other for other in load_subjects() if other != subject]
    kin = [other for other in others if other.kind == subject.kind] or others
    kin.sort(key=lambda other: -float(_looks(other) @ _looks(subject)))
    return tuple(kin[:number])


def _random(present: Sequence[Subject], rng: np.random.Generator) -> Subject:
    return _one_of([each for each in load_subjects() if each not in present], rng)


def _popular(present: Sequence[Subject], rng: np.random.Generator) -> Subject:
    return _one_of([each for each in popular_subjects() if each not in present], rng)


def _adversarial(present: Sequence[Subject], rng: np.random.Generator) -> Subject:
    """One of the three that look the most like a thing of the picture."""
    near = [other for subject in present for other in looks_like(subject)]
    return _one_of([each for each in near if each not in present], rng)


def _one_of(subjects: Sequence[Subject], rng: np.random.Generator) -> Subject:
    return subjects[int(rng.integers(len(subjects)))]


ABSENT: dict[str, Callable[[Sequence[Subject], np.random.Generator], Subject]] = {
    "random": _random,
    "popular": _popular,
    "adversarial": _adversarial,
}
"""POPE's three kinds of questions: a thing that a picture of some things does not show."""

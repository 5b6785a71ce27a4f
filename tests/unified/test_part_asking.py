"""Questions: answers are read as people mean them, and pictures show what is asked of."""

from __future__ import annotations

import numpy as np
import pytest

from unified.evaluation.judges import GlyphJudge
from unified.evaluation.part_asking import _f1, number_in, scattered, yes_or_no
from unified_data.pocket.subjects import find_subject

CAT, LEMON = map(find_subject, ("cat", "lemon"))


@pytest.mark.parametrize(
    ("text", "answer"),
    [("Yes.", True), ("no", False), ("There isn't one.", False), ("a cat", None), ("", None),
     ("Yes, not far from the dog", True), ("I know", None)],
)  # fmt: skip
def test_yes_and_no_are_read(text, answer):
    assert yes_or_no(text) is answer


@pytest.mark.parametrize(
    ("text", "number"),
    [("four", 4), ("There are 3 cats", 3), ("A total of two", 2), ("an owl", 1), ("none", 0),
     ("cats", None), ("There are no cats", 0), ("12", 12)],
)  # fmt: skip
def test_numbers_are_read(text, number):
    assert number_in(text) == number


def test_things_lie_apart_off_the_grid_and_whole():
    judge, rng, corners = GlyphJudge([CAT, LEMON]), np.random.default_rng(2), set()
    for _ in range(6):
        first, second = judge.best_two(scattered([CAT, LEMON], rng))
        assert {first.subject, second.subject} == {CAT, LEMON}
        assert min(first.score, 1) > 0.6
        corners |= {(first.y % 24, first.x % 24), (second.y % 24, second.x % 24)}
    assert len(corners) > 6
    assert (scattered([], rng).std(axis=(0, 1)) == 0).all()


def test_f1_is_popes():
    truth = np.array([True, False] * 10)
    assert _f1("f", [True] * 20, truth).value == pytest.approx(2 / 3)
    assert _f1("f", truth.tolist(), truth).value == 1
    assert _f1("f", [None] * 20, truth).value == 0
    # 5 hits, 5 misses, 2 false alarms.
    answers = [True, True, True, True] + [True, False] * 3 + [False, False] * 5
    assert _f1("f", answers, truth).value == pytest.approx(2 * 5 / (7 + 10))

"""Questions: pictures show what is asked of, and absent things are absent, popular or alike."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from unified.evaluation.absent_things import ABSENT, looks_like, popular_subjects
from unified.evaluation.part import Bench
from unified.evaluation.part_asking import ASKING, ask_about, f1, read_answer, scattered
from unified.evaluation.scene_judge import SceneJudge
from unified_data.pocket.subjects import find_subject

CAT, LEMON, TIGER = map(find_subject, ("cat", "lemon", "tiger"))


def test_things_lie_apart_off_the_grid_and_whole():
    judge, rng, corners = SceneJudge([CAT, LEMON]), np.random.default_rng(2), set()
    for _ in range(6):
        seen = judge.things(scattered([CAT, LEMON], rng))
        assert {thing.subject for thing in seen} == {CAT, LEMON}
        corners |= {(thing.y % 24, thing.x % 24) for thing in seen}
    assert len(corners) > 6
    assert (scattered([], rng).std(axis=(0, 1)) == 0).all()


@pytest.mark.parametrize("condition", ASKING.conditions)
def test_true_answers_are_right_and_the_others_wrong(condition):
    bench = Bench(SimpleNamespace(), 3, (condition,), seed=1)
    questions = ask_about(bench, condition)
    for each in questions:
        if condition == "count":
            assert each.things.count(each.asked) == each.expected
            true, false = f"a {each.asked.name}: {each.expected}", str(each.expected + 1)
        elif condition == "relation":
            true = f"{each.things[1].phrase} and {each.asked.phrase}: {each.expected} it"
            false = f"the {each.things[1].name} is {each.expected} the {each.asked.name}"
        else:
            assert (each.asked in each.things) == each.expected
            true, false = ("a lemon: yes", "no") if each.expected else ("a lemon: no", "yes")
        assert read_answer(condition, true, each.asked) == each.expected
        assert read_answer(condition, false, each.asked) != each.expected
        assert (
            read_answer(condition, "a lemon", each.asked) != each.expected or condition == "count"
        )
    assert {each.expected for each in questions} >= ({0, 1, 2, 3, 4} if condition == "count"
                                                     else set())  # fmt: skip


@pytest.mark.parametrize("condition", ABSENT)
def test_an_absent_thing_is_none_of_the_picture(condition):
    rng = np.random.default_rng(0)
    absent = {ABSENT[condition]((CAT, LEMON), rng) for _ in range(30)}
    assert not absent & {CAT, LEMON}
    if condition == "popular":
        assert absent <= set(popular_subjects())
    if condition == "adversarial":
        assert {each.kind for each in absent} <= {CAT.kind, LEMON.kind}


def test_what_looks_alike_is_of_the_same_kind():
    assert {each.kind for each in looks_like(TIGER)} == {TIGER.kind}
    assert TIGER not in looks_like(TIGER)
    assert len(popular_subjects()) == 20


def test_f1_is_popes():
    truth = np.array([True, False] * 10)
    assert f1("f", np.ones(20, bool), truth).value == pytest.approx(2 / 3)
    assert f1("f", truth, truth).value == 1
    assert f1("f", np.zeros(20, bool), truth).value == 0
    # 5 hits, 5 misses, 2 false alarms.
    answers = np.array([True, True, True, True] + [True, False] * 3 + [False, False] * 5)
    assert f1("f", answers, truth).value == pytest.approx(2 * 5 / (7 + 10))

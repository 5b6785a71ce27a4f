"""The judge of drawings: right on true pictures, wrong on those that differ in one word."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from unified.evaluation.part_drawing import distinct, judged
from unified.evaluation.placed_things import paint_things
from unified.evaluation.scene_judge import SceneJudge
from unified.evaluation.wanted import WANTED, Wanted, relation_between, true_things
from unified_data.pocket.scenes import BACKGROUNDS, Scene, render, split_of
from unified_data.pocket.subjects import find_subject

CAT, LEMON, TIGER, CAR = map(find_subject, ("cat", "lemon", "tiger", "car"))


@pytest.fixture(scope="module")
def judge():
    return SceneJudge([CAT, LEMON, TIGER, CAR])


def painted(wanted, ground="white", seed=0):
    return paint_things(true_things(wanted, np.random.default_rng(seed)), BACKGROUNDS[ground])


# What is asked, what differs in the aspect alone, and what shows other things.
CASES = {
    "location": (
        Wanted("", (LEMON,), location="at the top left"),
        Wanted("", (LEMON,), location="at the bottom left"),
        Wanted("", (CAT,), location="at the top left"),
    ),
    "relation": (
        Wanted("", (CAT, LEMON), relation="above"),
        Wanted("", (CAT, LEMON), relation="below"),
        Wanted("", (CAT, TIGER), relation="above"),
    ),
    "colour": (
        Wanted("", (CAR,), colours=("green",)),
        Wanted("", (CAR,), colours=("purple",)),
        Wanted("", (LEMON,), colours=("green",)),
    ),
    "colours of two": (
        Wanted("", (CAR, LEMON), colours=("green", "pink")),
        Wanted("", (CAR, LEMON), colours=("pink", "green")),
        Wanted("", (CAR, CAT), colours=("green", "pink")),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_things_and_what_else_is_said_are_judged_apart(judge, case):
    asked, elsewhere, other = CASES[case]
    for wanted, things, everything in ((asked, True, True), (elsewhere, True, False),
                                       (other, False, False)):  # fmt: skip
        told = judged(judge, asked, painted(wanted))
        assert (told.things, told.all) == (things, everything), told.seen


def test_the_ground_is_judged_by_its_colour(judge):
    wanted = Wanted("a cat on a blue ground", (CAT,), ground="blue")
    assert judged(judge, wanted, render(Scene("one", CAT, "blue"))).all
    other = judged(judge, wanted, render(Scene("one", CAT, "pink")))
    assert (other.things, other.all) == (True, False)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_one_too_many_or_too_few_is_wrong(judge, number):
    wanted = Wanted("", (CAT,) * number)
    assert judged(judge, wanted, painted(wanted)).things
    for other in (number - 1, number + 1):
        several = replace(wanted, subjects=(CAT,) * other)
        assert not judged(judge, wanted, painted(several, seed=3)).things


def test_three_kinds_are_seen_and_another_in_their_place_is_not(judge):
    wanted = Wanted("", (CAT, LEMON, CAR))
    assert judged(judge, wanted, painted(wanted)).things
    assert not judged(judge, wanted, painted(Wanted("", (CAT, LEMON, TIGER)))).things


@pytest.mark.parametrize("side", [64, 288])
def test_pictures_of_other_sizes_are_judged_alike(judge, side):
    wanted = Wanted("", (LEMON,), location="at the top left")
    pixels = np.asarray(Image.fromarray(painted(wanted)).resize((side, side)))
    assert judged(judge, wanted, pixels).all


def test_nothing_is_seen_on_a_plain_ground_and_in_a_slope_of_colour(judge):
    y, x = np.mgrid[0:96, 0:96]
    slope = np.stack([y + x, 255 - y, 120 + x], axis=-1).astype(np.uint8)
    for pixels in (np.full((96, 96, 3), 90, np.uint8), slope):
        assert judge.things(pixels) == []
    with pytest.raises(ValueError, match="uint8"):
        judge.things(np.zeros((96, 96)))


def test_a_thing_is_seen_on_a_slope_turned_and_at_the_edge(judge):
    thing = true_things(Wanted("", (CAT,)), np.random.default_rng(1))[0]
    pixels = paint_things([replace(thing, side=60, y=-6, x=20, angle=9.0)], (200, 180, 90))
    y, x = np.mgrid[0:96, 0:96]
    sloped = (pixels + (0.4 * y - 0.2 * x)[..., None]).clip(0, 255).astype(np.uint8)
    (seen,) = judge.things(sloped)
    assert seen.subject == CAT
    assert abs(seen.centre[0] - 24) < 3
    assert abs(seen.centre[1] - 50) < 3


def test_relations_follow_the_axis_that_parts_the_things():
    assert relation_between((10, 50), (60, 40)) == "above"
    assert relation_between((60, 40), (10, 50)) == "below"
    assert relation_between((30, 10), (40, 60)) == "to the left of"
    assert relation_between((40, 60), (30, 10)) == "to the right of"


@pytest.mark.parametrize("condition", WANTED)
def test_captions_say_what_is_wanted_and_pairs_are_held_out(condition):
    rng = np.random.default_rng(0)
    for wanted in (WANTED[condition](rng) for _ in range(6)):
        for subject in wanted.subjects:
            name = subject.plural if wanted.subjects.count(subject) > 1 else subject.name
            assert name in wanted.caption
        assert all(colour in wanted.caption for colour in wanted.colours)
        assert (wanted.relation or "") in wanted.caption
        if condition in ("two", "position"):
            names = "|".join(sorted(subject.name for subject in wanted.subjects))
            assert split_of(f"two|{names}") == "heldout"
    assert (wanted.aspect is None) == (condition in ("one", "two", "count", "three"))


def test_pictures_that_hardly_differ_are_one():
    rng = np.random.default_rng(2)
    first = rng.integers(0, 256, (96, 96, 3)).astype(np.uint8)
    near = (first.astype(int) + rng.integers(-1, 2, first.shape)).clip(0, 255).astype(np.uint8)
    assert distinct([first, near, first]) == 1
    assert distinct([first, near, 255 - first]) == 2
    assert distinct([]) == 0

"""Scenes: pictures and words agree, and held-out combinations stay out."""

import numpy as np
import pytest

from unified_data.pocket.scenes import (
    BACKGROUNDS,
    COUNTS,
    LOCATIONS,
    RELATIONS,
    Scene,
    compose,
    parse_caption,
    questions,
    render,
)
from unified_data.pocket.subjects import find_subject, load_subjects

CAT, AXE = find_subject("cat"), find_subject("axe")
KINDS = ("one", "placed", "two", "counted")


def painted(scene):
    """Where the picture differs from its background: bool (96, 96)."""
    return (render(scene) != np.array(BACKGROUNDS[scene.background], np.uint8)).any(axis=2)


def test_captions():
    assert Scene("one", CAT).caption == "a cat"
    assert Scene("one", AXE, "blue").caption == "an axe on a blue ground"
    assert Scene("placed", AXE, location="at the top left").caption == "a small axe at the top left"
    two = Scene("two", CAT, "pink", relation="to the left of", other=AXE)
    assert two.caption == "a cat to the left of an axe on a pink ground"
    assert Scene("counted", CAT, count=3).caption == "three cats"


@pytest.mark.parametrize("kind", KINDS)
def test_a_caption_says_the_whole_scene(kind):
    rng = np.random.default_rng(3)
    for _ in range(300):
        scene = compose(rng, kind)
        assert parse_caption(scene.caption) == scene


@pytest.mark.parametrize("relation", RELATIONS)
def test_things_stand_as_the_caption_says(relation):
    def centre(scene, subject):
        """The middle of what vanishes when `subject` is exchanged for another."""
        ladder = find_subject("ladder")
        first = ladder if subject is scene.subject else scene.subject
        second = ladder if subject is scene.other else scene.other
        other = Scene("two", first, relation=relation, other=second)
        changed = (render(scene) != render(other)).any(axis=2)
        return np.argwhere(changed).mean(axis=0)

    scene = Scene("two", CAT, relation=relation, other=AXE)
    (y, x), (other_y, other_x) = centre(scene, CAT), centre(scene, AXE)
    assert {
        "to the left of": x < other_x - 24,
        "to the right of": x > other_x + 24,
        "above": y < other_y - 24,
        "below": y > other_y + 24,
    }[relation]


@pytest.mark.parametrize("location", LOCATIONS)
def test_small_things_lie_at_their_location(location):
    y, x = np.argwhere(painted(Scene("placed", CAT, "green", location=location))).mean(axis=0)
    vertical = "top" if y < 36 else "bottom" if y > 60 else "middle"
    horizontal = "left" if x < 36 else "right" if x > 60 else "middle"
    assert vertical in location
    assert horizontal in location


@pytest.mark.parametrize("count", COUNTS)
def test_counted_things_cover_as_often_as_they_are_counted(count):
    single = painted(Scene("placed", CAT, "blue", location="in the middle")).sum()
    assert painted(Scene("counted", CAT, "blue", count=count)).sum() == count * single


def test_pictures_are_rgb_and_repeatable():
    pixels = render(Scene("one", CAT))
    assert pixels.shape == (96, 96, 3)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, render(Scene("one", CAT)))


def test_questions_have_true_answers():
    rng = np.random.default_rng(0)
    scene = Scene("two", CAT, "grey", relation="above", other=AXE)
    asked = dict(questions(scene, rng))
    assert asked["What is above the axe?"] == "a cat"
    assert asked["Where is the cat?"] == "above the axe"
    assert asked["What colour is the ground?"] == "grey"
    assert asked["Is there a cat?"] == "yes"
    absent = [q for q, a in asked.items() if a == "no"]
    assert len(absent) == 1
    assert not {"cat?", "axe?"} & set(absent[0].split())
    counted = dict(questions(Scene("counted", CAT, count=4), rng))
    assert counted["How many cats are there?"] == "four"


def test_held_out_is_a_twentieth_and_by_combination():
    rng = np.random.default_rng(1)
    scenes = [compose(rng, "two") for _ in range(4000)]
    share = np.mean([scene.split == "heldout" for scene in scenes])
    assert 0.035 < share < 0.065
    turned = [Scene("two", s.other, "white", relation="above", other=s.subject) for s in scenes]
    assert [s.split for s in turned] == [s.split for s in scenes]


def test_every_subject_is_in_train():
    assert all(Scene("one", subject).split == "train" for subject in load_subjects())

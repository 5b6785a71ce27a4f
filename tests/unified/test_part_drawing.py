"""The judge of drawings: right on true pictures, wrong on those that differ in one word."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from unified.evaluation.judges import GlyphJudge
from unified.evaluation.part_drawing import DRAWING, _scene, right_of
from unified_data.pocket.scenes import Scene, render
from unified_data.pocket.subjects import find_subject

CAT, LEMON, TIGER = map(find_subject, ("cat", "lemon", "tiger"))


@pytest.fixture(scope="module")
def judge():
    return GlyphJudge([CAT, LEMON, TIGER])


SCENES = {
    "ground": (Scene("one", CAT, "blue"), Scene("one", CAT, "pink"), Scene("one", TIGER, "blue")),
    "placed": (
        Scene("placed", LEMON, location="at the top left"),
        Scene("placed", LEMON, location="at the bottom left"),
        Scene("placed", CAT, location="at the top left"),
    ),
    "two": (
        Scene("two", CAT, relation="above", other=LEMON),
        Scene("two", CAT, relation="below", other=LEMON),
        Scene("two", CAT, relation="above", other=TIGER),
    ),
}


@pytest.mark.parametrize("condition", SCENES)
def test_things_and_what_else_is_said_are_judged_apart(judge, condition):
    asked, elsewhere, other = SCENES[condition]
    for scene, right, exact in ((asked, True, True), (elsewhere, True, False),
                                (other, False, False)):  # fmt: skip
        drawing, also = right_of(judge, asked, render(scene))
        assert (drawing.right, also) == (right, exact)


def test_a_larger_picture_is_judged_at_the_worlds_size(judge):
    scene = SCENES["placed"][0]
    large = np.asarray(Image.fromarray(render(scene)).resize((288, 288)))
    assert right_of(judge, scene, large)[1]


@pytest.mark.parametrize("condition", DRAWING.conditions)
def test_scenes_asked_for_are_held_out(condition):
    rng = np.random.default_rng(0)
    scenes = [_scene(condition, rng) for _ in range(5)]
    assert all((scene.split == "heldout") == (condition != "one") for scene in scenes)
    assert condition != "ground" or all(scene.background != "white" for scene in scenes)

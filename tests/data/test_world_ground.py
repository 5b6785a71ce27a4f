"""Where things are in pictures of the world: boxes against the pixels that were painted."""

from dataclasses import replace

import numpy as np
import pytest

from unified_data.document import Box, Image, Text
from unified_data.world.build import KINDS, plan_kind
from unified_data.world.free_scene import FreeScene, Thing
from unified_data.world.ground import Ground
from unified_data.world.ground_kinds import EVERYTHING, boxes_of
from unified_data.world.painting import paint
from unified_data.world.picture_kinds import plan_scenes, scene_of
from unified_data.world.tasks import FIND
from unified_data.world.thing_boxes import thing_boxes

BLACK = Ground(colour=(0, 0, 0))


def painted_box(scene: FreeScene, index: int, side: int) -> tuple[int, int, int, int]:
    """Of what shows one thing by half or more, as pixels tell: the picture on white and on black,
    in which the others are left out, differs by what the thing lets through."""
    alone = replace(scene, things=(scene.things[index],), shadow=0.0)
    ys, xs = np.nonzero(_through(alone, side) <= 0.5)
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def _through(scene: FreeScene, side: int) -> np.ndarray:
    """How much of the ground shows in each pixel, 0 to 1: (side, side)."""
    white, black = (
        paint(replace(scene, ground=ground), side).astype(int) for ground in (Ground(), BLACK)
    )
    return (white - black).mean(-1) / 255


def scenes(kind: str, number: int) -> list[FreeScene]:
    plan = plan_scenes("train", number, np.random.default_rng(4), {kind: 1.0})
    return [scene_of(each, np.random.default_rng(each.seed)) for each in plan]


@pytest.mark.parametrize("side", [96, 61])
def test_a_box_is_where_the_pixels_of_its_thing_are(side):
    for scene in (*scenes("single", 5), *scenes("small", 5)):
        (box,) = thing_boxes(scene, side)
        assert np.abs(np.subtract(box.at, painted_box(scene, 0, side))).max() <= 1
        assert (box.width, box.height) == (side, side)


def test_what_a_later_thing_hides_is_not_in_the_box():
    """A thing half behind another: its box ends where the other begins, as a mask by hand says."""
    below = Thing("car", "noto", 0.4, 0.5, 0.5)
    above = Thing("book", "noto", 0.62, 0.5, 0.5)
    apart = thing_boxes(FreeScene((below,)))[0]
    seen, front = thing_boxes(FreeScene((below, above)))
    assert front == thing_boxes(FreeScene((above,)))[0]
    assert seen.x1 < apart.x1
    assert seen.x0 == apart.x0
    # What reaches the ground through the book alone, and through both: the rest is the car's.
    book, both = (_through(FreeScene(things), 96) for things in ((above,), (below, above)))
    xs = np.flatnonzero((book - both >= 0.5).any(0))
    assert np.abs(np.subtract((seen.x0, seen.x1), (xs[0], xs[-1] + 1))).max() <= 1
    hidden = FreeScene((replace(below, x=0.5, scale=0.1), replace(above, x=0.5, scale=0.9)))
    assert thing_boxes(hidden)[0] is None


def test_boxes_of_a_name_are_told_from_left_to_right():
    for scene in scenes("counted", 4):
        boxes = boxes_of(scene, scene.things[0].name)
        assert len(boxes) == len(scene.things)
        assert [box.x0 for box in boxes] == sorted(box.x0 for box in boxes)


@pytest.mark.parametrize("kind", ["ground", "region"])
def test_documents_are_laid_out_as_they_are_asked(kind):
    from unified.tasks.asking import Inputs, segments_of
    from unified.world.world_tasks import world_tasks

    seen = set()
    for payload in plan_kind(kind, "train", 0, 0.006)[:36]:
        document = KINDS[kind].make(payload)
        picture, words, *rest = document
        assert isinstance(picture, Image)
        assert document == KINDS[kind].make(payload)
        if kind == "region":
            box, answer = rest
            task, inputs = "ask", Inputs(image=picture, question=words.text, box=box)
            assert segments_of(world_tasks().task(task), inputs, answer.text) == tuple(document)
            assert isinstance(box, Box)
            continue
        assert words.text.startswith(FIND)
        asked = words.text.removeprefix(FIND)
        boxes = [segment for segment in rest if isinstance(segment, Box)]
        texts = [segment for segment in rest if isinstance(segment, Text)]
        if asked == EVERYTHING:
            assert len(texts) == len(boxes) >= 1
            assert [type(segment) for segment in rest] == [Text, Box] * len(boxes)
        else:
            assert bool(boxes) != bool(texts)
        seen.add((asked == EVERYTHING, bool(boxes)))
        task = world_tasks().task("ground")
        inputs = Inputs(image=picture, text=asked)
        assert segments_of(task, inputs, rest) == tuple(document)
    assert kind == "region" or seen == {(True, True), (False, True), (False, False)}

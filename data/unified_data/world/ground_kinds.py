"""Documents of places: where is it, and what is there. Boxes are the renderer's (`thing_boxes`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unified_data.document import Box, Document, Image, Text
from unified_data.world import tasks
from unified_data.world.captions_en import noun_phrase, subject_called
from unified_data.world.captions_zh import can_say_zh, item_zh
from unified_data.world.chinese import chinese_names
from unified_data.world.composing import SceneKind
from unified_data.world.description import Item, describe_scene
from unified_data.world.free_scene import FreeScene, Thing
from unified_data.world.painting import paint
from unified_data.world.picture_kinds import CHINESE, ScenePayload, plan_scenes, scene_of
from unified_data.world.questions import absent_name
from unified_data.world.thing_boxes import thing_boxes
from unified_data.world.wear import worn

__all__ = [
    "EVERYTHING", "boxes_of", "ground", "plan_grounded", "plan_regions", "reading_order", "region",
]  # fmt: skip

EVERYTHING = "everything"
"""What is asked for where all things are, each with its name before its box."""
_GROUNDED: dict[SceneKind, float] = {"single": 0.2, "small": 0.2, "two": 0.26, "counted": 0.16,
                                     "mixed": 0.16, "nothing": 0.02}  # fmt: skip
_REGIONS: dict[SceneKind, float] = {"small": 0.1, "two": 0.5, "mixed": 0.4}
_QUESTIONS = ("What is this?", "What is here?", "What is in the box?")


def plan_grounded(split: str, number: int, rng: np.random.Generator) -> list[ScenePayload]:
    return plan_scenes(split, number, rng, _GROUNDED)


def plan_regions(split: str, number: int, rng: np.random.Generator) -> list[ScenePayload]:
    return plan_scenes(split, number, rng, _REGIONS)


def reading_order(boxes: list[Box]) -> list[Box]:
    """Boxes as they are told: from left to right, of equal ones from the top down."""
    return sorted(boxes, key=_told)


def _told(box: Box) -> tuple[float, ...]:
    return box.at


def boxes_of(scene: FreeScene, name: str, tint: str | None = None) -> list[Box]:
    """The boxes of all things of a name in a scene, of a tint if one is named, as they are told."""
    pairs = zip(scene.things, thing_boxes(scene))
    return reading_order(
        [box for thing, box in pairs
         if box is not None and thing.name == name and tint in (None, thing.tint)]
    )  # fmt: skip


def ground(payload: ScenePayload) -> Document:
    """A picture, perhaps worn, words for what is to be found in it, and its boxes.

    One time in five something is asked for that is not there, and one time in five everything.
    """
    rng = np.random.default_rng(payload.seed)
    scene = scene_of(payload, rng)
    picture = Image(worn(paint(scene), rng))
    chance = rng.random()
    if chance < 0.2 or not scene.things:
        name = absent_name(rng, scene.names, bool(rng.random() < 0.5))
        chinese = rng.random() < CHINESE and name in chinese_names()
        item = Item(name)
        none = f"没有{item_zh(Item(name))}。" if chinese else f"There is no {name}."
        return tasks.ground_document(picture, _words(item, 1, chinese, rng), [Text(none)])
    if chance < 0.4:
        return tasks.ground_document(picture, EVERYTHING, _all(scene))
    thing = scene.things[int(rng.integers(len(scene.things)))]
    tint = thing.tint if rng.random() < 0.7 else None
    boxes = boxes_of(scene, thing.name, tint)
    chinese = rng.random() < CHINESE and can_say_zh(describe_scene(scene))
    words = _words(Item(thing.name, colour=tint), len(boxes), chinese, rng)
    return tasks.ground_document(picture, words, boxes)


def _words(item: Item, number: int, chinese: bool, rng: np.random.Generator) -> str:
    """`the fox`, `a fox`, `fox`, `the red foxes`: what people would say of so many."""
    if chinese:
        return item_zh(item)
    coloured = "" if item.colour is None else f"{item.colour} "
    subject = subject_called(item.name)
    if number > 1:
        return f"{'the ' if rng.random() < 0.7 else ''}{coloured}{subject.plural}"
    forms = (f"the {coloured}{subject.name}", noun_phrase(item), f"{coloured}{subject.name}")
    return forms[max(0, int(rng.integers(-1, 3)))]


def _all(scene: FreeScene) -> list[Text | Box]:
    """The name of each thing and its box, as they are told."""
    pairs = [(box, thing) for thing, box in zip(scene.things, thing_boxes(scene)) if box]
    answer: list[Text | Box] = []
    for box, thing in sorted(pairs, key=lambda pair: _told(pair[0])):
        answer += [Text(_named(thing)), box]
    return answer


def _named(thing: Thing) -> str:
    return noun_phrase(Item(thing.name, colour=thing.tint))


def region(payload: ScenePayload) -> Document:
    """A picture, perhaps worn, a box, and what is in it. The box is a thing's, or a little off."""
    rng = np.random.default_rng(payload.seed)
    scene = scene_of(payload, rng)
    pairs = [(thing, box) for thing, box in zip(scene.things, thing_boxes(scene)) if box]
    thing, box = pairs[int(rng.integers(len(pairs)))]
    if rng.random() < 0.5:
        box = _nudged(box, rng)
    question = _QUESTIONS[max(0, int(rng.integers(-1, len(_QUESTIONS))))]
    return tasks.region_document(Image(worn(paint(scene), rng)), question, box, Text(_named(thing)))


def _nudged(box: Box, rng: np.random.Generator) -> Box:
    """Each edge moved by a tenth of the side at most, as people draw boxes; inside the picture."""
    across, down = box.x1 - box.x0, box.y1 - box.y0
    moves = (rng.uniform(-0.1, 0.1, 4) * (across, down, across, down)).round().astype(int)
    x0, y0, x1, y1 = (int(value + move) for value, move in zip(box.at, moves))
    return replace(
        box, x0=max(0, x0), y0=max(0, y0), x1=min(box.width, x1), y1=min(box.height, y1)
    )  # fmt: skip

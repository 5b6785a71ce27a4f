"""Questions about free scenes with their exact answers, in no language; see `question_texts`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unified_data.pocket.subjects import load_subjects
from unified_data.world.colours import COLOURS
from unified_data.world.description import (
    RELATION_NAMES,
    Description,
    Item,
    describe_scene,
    relation_of,
)
from unified_data.world.free_scene import FreeScene, Thing
from unified_data.world.glyphs import body_of

__all__ = ["MOST_COUNTED", "Question", "absent_name", "questions_about", "seen_in"]

QuestionKind = Literal[
    "what", "exist", "count", "colour", "where", "beside", "is beside", "ground", "written"
]
MOST_COUNTED = 4


@dataclass(frozen=True)
class Question:
    """A question and its answer.

    item: what is asked about. relation, other: where, seen from what. answer: of `exist` and `is
    beside` a bool; `count` 0 to 4; `colour` a colour; `where` a place, or a relation to `other`;
    `beside` the name of what is there; `ground` a colour or a pattern; `written` the text; `what`
    None: what is seen is the answer.
    """

    kind: QuestionKind
    answer: bool | int | str | None
    item: Item | None = None
    relation: str | None = None
    other: str | None = None


def seen_in(scene: FreeScene) -> Description:
    """What an answer says first: what is there, not where and on what."""
    return describe_scene(scene).without("relation", "zone", "ground")


def absent_name(rng: np.random.Generator, present: Sequence[str], adversarial: bool) -> str:
    """A subject that is not there. adversarial: of the kind of one that is, where there is one."""
    subjects = load_subjects()
    choices = [subject for subject in subjects if subject.name not in present]
    if adversarial and present:
        kinds = {subject.kind for subject in subjects if subject.name in present}
        choices = [subject for subject in choices if subject.kind in kinds]
    return choices[int(rng.integers(len(choices)))].name


def questions_about(scene: FreeScene, rng: np.random.Generator) -> list[Question]:
    """One question of every kind that a scene has an answer to, in a fixed order.

    As many answers to `exist` and `is beside` are yes as are no; half of what is not there is of
    the kind of something that is.
    """
    asked = [Question("what", None)]
    asked.append(_exist(scene, rng))
    asked.append(_count(scene, rng))
    ground = scene.ground.name
    if ground is not None:
        asked.append(Question("ground", ground))
    if scene.writing is not None:
        asked.append(Question("written", scene.writing.text))
    coloured = _coloured(scene)
    if coloured:
        asked.append(coloured[int(rng.integers(len(coloured)))])
    zone = describe_scene(scene).zone
    if zone is not None:
        asked.append(Question("where", zone, Item(scene.things[0].name)))
    if len(scene.things) == 2 and len(scene.names) == 2:
        asked += _relations(scene.things[0], scene.things[1], rng)
    return asked


def _exist(scene: FreeScene, rng: np.random.Generator) -> Question:
    tinted = [thing for thing in scene.things if thing.tint is not None]
    yes = bool(rng.random() < 0.5) and bool(scene.things)
    if tinted and rng.random() < 0.3:
        thing = tinted[int(rng.integers(len(tinted)))]
        colours = {each.tint for each in scene.things if each.name == thing.name}
        others = [colour for colour in COLOURS if colour not in colours]
        colour = thing.tint if yes else others[int(rng.integers(len(others)))]
        return Question("exist", yes, Item(thing.name, 1, colour))
    if yes:
        return Question("exist", True, Item(scene.names[int(rng.integers(len(scene.names)))]))
    return Question("exist", False, Item(absent_name(rng, scene.names, rng.random() < 0.5)))


def _count(scene: FreeScene, rng: np.random.Generator) -> Question:
    if not scene.things or rng.random() < 0.2:
        absent = absent_name(rng, scene.names, rng.random() < 0.5)
        return Question("count", 0, Item(absent, 2))
    name = scene.names[int(rng.integers(len(scene.names)))]
    number = sum(thing.name == name for thing in scene.things)
    return Question("count", number, Item(name, 2))


def _coloured(scene: FreeScene) -> list[Question]:
    """Of things of one colour, their own or given."""
    asked = []
    for name in scene.names:
        things = [thing for thing in scene.things if thing.name == name]
        colours = {_colour_of(thing) for thing in things}
        colour = colours.pop()
        if not colours and colour is not None:
            asked.append(Question("colour", colour, Item(name, len(things))))
    return asked


def _colour_of(thing: Thing) -> str | None:
    if thing.tint is not None:
        return thing.tint
    body = body_of(thing.name, thing.style)
    return None if body is None else body.colour


def _relations(first: Thing, second: Thing, rng: np.random.Generator) -> list[Question]:
    """Three questions about how two things stand; none where nobody could say."""
    if rng.random() < 0.5:
        first, second = second, first
    relation = relation_of(first, second)
    if relation is None:
        return []
    wrong = [each for each in RELATION_NAMES if each != relation]
    yes = bool(rng.random() < 0.5)
    said_relation = relation if yes else wrong[int(rng.integers(len(wrong)))]
    return [
        Question("where", relation, Item(first.name), None, second.name),
        Question("beside", first.name, Item(second.name), relation),
        Question("is beside", yes, Item(first.name), said_relation, second.name),
    ]

"""Documents of pictures: how many of each kind of scene, and what each document says of its own.

A payload is small (a seed, a kind of scene, who is in it), so that processes compose the scenes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from unified_data.document import Document, Image, Text
from unified_data.pocket.subjects import load_subjects
from unified_data.world import tasks
from unified_data.world.captions_en import caption_en
from unified_data.world.captions_zh import can_say_zh, caption_zh
from unified_data.world.composing import SceneKind, compose_scene
from unified_data.world.description import Description, describe_scene
from unified_data.world.free_scene import FreeScene
from unified_data.world.glyphs import body_of, styles_of
from unified_data.world.painting import paint
from unified_data.world.style_names import TRAIN_STYLES
from unified_data.world.wear import worn

__all__ = [
    "CHINESE", "ScenePayload", "describe", "draw", "plan_scenes", "scene_of", "subjects_in_turn",
    "wished_description",
]  # fmt: skip

_SHARES: dict[SceneKind, float] = {
    "single": 0.34, "small": 0.14, "two": 0.22, "counted": 0.13, "mixed": 0.10, "writing": 0.05,
    "nothing": 0.02,
}  # fmt: skip
CHINESE = 0.25
"""The share of Chinese among documents whose things have Chinese names."""
_PATIENCE = 60


class ScenePayload(NamedTuple):
    """What a document of a picture is made from. cast: as `compose_scene` has it."""

    split: str
    seed: int
    kind: SceneKind
    cast: tuple[tuple[str, str], ...]


def plan_scenes(
    split: str, number: int, rng: np.random.Generator, shares: dict[SceneKind, float] = _SHARES
) -> list[ScenePayload]:
    """Payloads in which every subject in every style comes first equally often, in each kind."""
    payloads: list[ScenePayload] = []
    total = sum(shares.values())
    reached = 0.0
    for kind, share in shares.items():
        reached += share / total
        deck = subjects_in_turn(rng)
        while len(payloads) < round(number * reached):
            cast = () if kind == "nothing" else (next(deck),)
            payloads.append(ScenePayload(split, int(rng.integers(2**63)), kind, cast))
    return [payloads[i] for i in rng.permutation(len(payloads))]


def subjects_in_turn(rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """(subject, style) without end: all subjects in a random order, then all in another.

    A subject comes in each of its styles of training in turn.
    """
    names = [subject.name for subject in load_subjects()]
    drawn = [[style for style in TRAIN_STYLES if style in styles_of(name)] for name in names]
    offsets = rng.integers(0, len(TRAIN_STYLES), len(names))
    for turn in itertools.count():
        for index in rng.permutation(len(names)):
            styles = drawn[index]
            yield names[index], styles[(turn + int(offsets[index])) % len(styles)]


def scene_of(payload: ScenePayload, rng: np.random.Generator) -> FreeScene:
    """A scene whose combinations are in the payload's split.

    Where a subject has no such combination another one takes its place after a while.
    """
    cast = payload.cast
    while True:
        for _ in range(_PATIENCE):
            scene = compose_scene(rng, payload.kind, cast)
            if scene.split == payload.split:
                return scene
        cast = ()


def wished_description(scene: FreeScene, rng: np.random.Generator) -> Description:
    """What somebody who wants this picture may have said: all of it, or less.

    A given colour is always said, a thing's own colour at times; the rest may go unsaid.
    """
    description = describe_scene(scene)
    if rng.random() < 0.3:
        description = _with_own_colours(description, scene)
    gone = [
        field
        for field, share in (("ground", 0.25), ("zone", 0.15), ("relation", 0.12))
        if rng.random() < share
    ]
    description = description.without(*gone)
    if scene.ground.name == "white" and rng.random() < 0.15:
        description = replace(description, ground="white")
    return description.turned() if rng.random() < 0.5 else description


def _with_own_colours(description: Description, scene: FreeScene) -> Description:
    styles = {thing.name: thing.style for thing in scene.things}
    items = []
    for item in description.items:
        body = body_of(item.name, styles[item.name])
        own = body.colour if item.colour is None and body is not None else item.colour
        items.append(replace(item, colour=own))
    return replace(description, items=tuple(items))


def draw(payload: ScenePayload) -> Document:
    """A caption in English or Chinese, and its picture."""
    rng = np.random.default_rng(payload.seed)
    scene = scene_of(payload, rng)
    description = wished_description(scene, rng)
    chinese = rng.random() < CHINESE and can_say_zh(description)
    caption = caption_zh(description) if chinese else caption_en(description)
    return tasks.draw_document(caption, Image(paint(scene)))


def describe(payload: ScenePayload) -> Document:
    """A picture, perhaps worn, and all that can be said of it."""
    rng = np.random.default_rng(payload.seed)
    scene = scene_of(payload, rng)
    description = describe_scene(scene)
    picture = Image(worn(paint(scene), rng))
    if rng.random() < CHINESE and can_say_zh(description):
        return tasks.describe_zh_document(picture, Text(caption_zh(description)))
    return tasks.describe_document(picture, Text(caption_en(description)))

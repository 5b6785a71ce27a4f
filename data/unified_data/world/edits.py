"""Edits of free scenes: a wish in English or Chinese, and the scene when it has been granted.

Edit: make the ground red          修改：把背景变成红色
Edit: add a fox at the top left    修改：在左上角加一只狐狸
Edit: remove the fox               修改：去掉狐狸
Edit: make the car red             修改：把汽车变成红色
Edit: move the fox to the top      修改：把狐狸移到上方
Edit: swap the fox and the car     修改：交换狐狸和汽车
Edit: replace the fox with a car   修改：把狐狸换成一辆汽车
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from unified_data.pocket.subjects import load_subjects
from unified_data.world.captions_en import ZONE_PHRASES, noun_phrase
from unified_data.world.captions_zh import COLOUR_WORDS_ZH, ZONES_ZH, ground_zh, item_zh
from unified_data.world.chinese import chinese_name
from unified_data.world.colours import TINTS
from unified_data.world.composing import overlap, shows
from unified_data.world.description import ZONES, Item
from unified_data.world.free_scene import MAX_THINGS, FreeScene, Thing
from unified_data.world.glyphs import body_of, styles_of
from unified_data.world.ground import GROUND_NAMES, random_ground

__all__ = ["EDIT_KINDS", "Edit", "propose_edit", "wish_en", "wish_zh"]

EditKind = Literal["ground", "add", "remove", "recolour", "move", "swap", "replace"]
EDIT_KINDS: tuple[EditKind, ...] = (
    "ground", "add", "remove", "recolour", "move", "swap", "replace",
)  # fmt: skip
_TRIES = 30


@dataclass(frozen=True)
class Edit:
    """One change of a scene.

    name: the subject that it concerns. to: a ground, a colour or a place. other: the subject that
    it is swapped with or replaced by.
    """

    kind: EditKind
    name: str | None = None
    to: str | None = None
    other: str | None = None

    @property
    def names(self) -> set[str]:
        return {name for name in (self.name, self.other) if name is not None}


def propose_edit(
    scene: FreeScene, kind: EditKind, rng: np.random.Generator
) -> tuple[Edit, FreeScene] | None:
    """An edit of a kind and the scene after it; None where the scene has none of that kind.

    Nothing else changes, everything stays in sight, and no two things cover each other.
    """
    for _ in range(_TRIES):
        proposal = _PROPOSALS[kind](scene, rng)
        if proposal is None:
            return None
        after = proposal[1]
        if after is not None and after != scene and _is_clear(after):
            return proposal[0], after
    return None


_Proposal = tuple[Edit, FreeScene | None] | None


def _is_clear(scene: FreeScene) -> bool:
    pairs = itertools.combinations(scene.things, 2)
    if any(overlap(first, second) > 0.14 for first, second in pairs):
        return False
    return all(shows((t.name, t.style, t.tint), scene.ground) for t in scene.things)


def _sole(scene: FreeScene, rng: np.random.Generator) -> Thing | None:
    """One of the things that a name alone tells from the others."""
    names = [thing.name for thing in scene.things]
    things = [thing for thing in scene.things if names.count(thing.name) == 1]
    return things[int(rng.integers(len(things)))] if things else None


def _with(scene: FreeScene, old: Thing, new: Thing) -> FreeScene:
    return replace(scene, things=tuple(new if each is old else each for each in scene.things))


def _ground(scene: FreeScene, rng: np.random.Generator) -> _Proposal:
    name = GROUND_NAMES[int(rng.integers(len(GROUND_NAMES)))]
    if name == scene.ground.name:
        return Edit("ground", None, name), None
    return Edit("ground", None, name), replace(scene, ground=random_ground(rng, name))


def _add(scene: FreeScene, rng: np.random.Generator) -> _Proposal:
    if len(scene.things) >= MAX_THINGS or not scene.things:
        return None
    style = scene.things[0].style
    name = _drawn_in(style, rng)
    zone = ZONES[int(rng.integers(len(ZONES)))]
    edit = Edit("add", name, zone)
    if name in scene.names:
        return edit, None
    scale = float(rng.uniform(0.25, 0.42))
    x, y = _centre(zone, scale, rng)
    new = Thing(name, style, x, y, scale)
    return edit, replace(scene, things=(*scene.things, new))


def _drawn_in(style: str, rng: np.random.Generator) -> str:
    """A subject that a style draws."""
    names = [subject.name for subject in load_subjects() if style in styles_of(subject.name)]
    return names[int(rng.integers(len(names)))]


def _centre(zone: str, scale: float, rng: np.random.Generator) -> tuple[float, float]:
    """A centre for a thing in a place, well inside it."""
    row, column = divmod(ZONES.index(zone), 3)
    centre = []
    for cell in (column, row):
        low, high = ((scale / 2, 0.36), (0.44, 0.56), (0.64, 1 - scale / 2))[cell]
        centre.append(float(rng.uniform(low, high)))
    return centre[0], centre[1]


def _remove(scene: FreeScene, rng: np.random.Generator) -> _Proposal:
    thing = _sole(scene, rng)
    if thing is None:
        return None
    left = tuple(each for each in scene.things if each is not thing)
    return Edit("remove", thing.name), replace(scene, things=left)


def _recolour(scene: FreeScene, rng: np.random.Generator) -> _Proposal:
    thing = _sole(scene, rng)
    body = None if thing is None else body_of(thing.name, thing.style)
    if thing is None:
        return None
    colour = [*TINTS][int(rng.integers(len(TINTS)))]
    edit = Edit("recolour", thing.name, colour)
    if body is None or colour in (body.near, thing.tint):
        return edit, None
    return edit, _with(scene, thing, replace(thing, tint=colour))


def _move(scene: FreeScene, rng: np.random.Generator) -> _Proposal:
    thing = _sole(scene, rng)
    if thing is None:
        return None
    zone = ZONES[int(rng.integers(len(ZONES)))]
    edit = Edit("move", thing.name, zone)
    x, y = (0.0, 0.0) if thing.scale > 0.48 else _centre(zone, thing.scale, rng)
    # Moved by less than a fifth of the side nobody would see it.
    if thing.scale > 0.48 or max(abs(x - thing.x), abs(y - thing.y)) < 0.2:
        return edit, None
    return edit, _with(scene, thing, replace(thing, x=x, y=y))


def _swap(scene: FreeScene, rng: np.random.Generator) -> _Proposal:
    names = [thing.name for thing in scene.things]
    sole = [thing for thing in scene.things if names.count(thing.name) == 1]
    if len(sole) < 2:
        return None
    first, second = (sole[i] for i in rng.permutation(len(sole))[:2])
    edit = Edit("swap", first.name, None, second.name)
    try:
        here, there = (replace(first, x=second.x, y=second.y),
                       replace(second, x=first.x, y=first.y))  # fmt: skip
    except ValueError:  # the larger one would be cut off
        return edit, None
    return edit, _with(_with(scene, first, here), second, there)


def _replace(scene: FreeScene, rng: np.random.Generator) -> _Proposal:
    thing = _sole(scene, rng)
    if thing is None:
        return None
    name = _drawn_in(thing.style, rng)
    edit = Edit("replace", thing.name, None, name)
    if name in scene.names:
        return edit, None
    return edit, _with(scene, thing, replace(thing, name=name, tint=None, mirrored=False))


_PROPOSALS = {"ground": _ground, "add": _add, "remove": _remove, "recolour": _recolour,
              "move": _move, "swap": _swap, "replace": _replace}  # fmt: skip


def _towards(zone: str) -> str:
    """`to the top left`, of `at the top left`; `to the middle`."""
    return f"to the {ZONE_PHRASES[zone].split(' the ')[1]}"


def wish_en(edit: Edit) -> str:
    """What somebody asks for, in English."""
    words = {
        "ground": lambda: f"make the ground {edit.to}",
        "add": lambda: f"add {noun_phrase(Item(str(edit.name)))} {ZONE_PHRASES[str(edit.to)]}",
        "remove": lambda: f"remove the {edit.name}",
        "recolour": lambda: f"make the {edit.name} {edit.to}",
        "move": lambda: f"move the {edit.name} {_towards(str(edit.to))}",
        "swap": lambda: f"swap the {edit.name} and the {edit.other}",
        "replace": lambda: f"replace the {edit.name} with {noun_phrase(Item(str(edit.other)))}",
    }
    return f"Edit: {words[edit.kind]()}"


def wish_zh(edit: Edit) -> str:
    """What somebody asks for, in Chinese. Raises ValueError where a name is missing."""
    name = "" if edit.name is None else chinese_name(edit.name).name
    to = str(edit.to)
    words = {
        "ground": lambda: f"把背景变成{ground_zh(to)}",
        "add": lambda: f"在{ZONES_ZH[to]}加{item_zh(Item(str(edit.name)))}",
        "remove": lambda: f"去掉{name}",
        "recolour": lambda: f"把{name}变成{COLOUR_WORDS_ZH[to]}",
        "move": lambda: f"把{name}移到{ZONES_ZH[to]}",
        "swap": lambda: f"交换{name}和{chinese_name(str(edit.other)).name}",
        "replace": lambda: f"把{name}换成{item_zh(Item(str(edit.other)))}",
    }
    return f"修改：{words[edit.kind]()}"

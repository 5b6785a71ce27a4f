"""What can be said of a free scene, in no language: the captions of every language say this.

A `Description` holds what is there, how often, in which colour, where, and on which ground. It
follows from the scene alone, so a caption that is read back can be compared with the picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol, Self

from unified_data.world.free_scene import FreeScene, Thing

__all__ = [
    "RELATION_NAMES",
    "ZONES",
    "Description",
    "Item",
    "Placed",
    "describe_scene",
    "is_clear_pair",
    "relation_of",
    "zone_of",
]

ZONES = ("top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom",
         "bottom right")  # fmt: skip
"""The nine places of a small thing, row by row."""
RELATION_NAMES = ("left", "right", "above", "below")
"""Where the first of two things is, seen from the second."""
_OPPOSITE = dict(zip(RELATION_NAMES, ("right", "left", "below", "above")))
SMALL = 0.49
"""A thing alone whose scale is below this is small, and its place is said."""
_THIRDS = (0.4, 0.6)
_CLEAR = 0.03  # a thing's centre is at least this far from where its place would be another
_STEEP = 1.3  # a relation is said where one distance is this many times the other
_LEAST_AWAY = 0.2
_LEAST_ACROSS = 0.07


class Placed(Protocol):
    """Where something is, as shares of the picture's side; `Thing` has it all."""

    @property
    def x(self) -> float: ...

    @property
    def y(self) -> float: ...

    @property
    def scale(self) -> float: ...


@dataclass(frozen=True)
class Item:
    """One or several of a subject. name: the subject's; count: 1 to 4; colour: where it is said."""

    name: str
    count: int = 1
    colour: str | None = None


@dataclass(frozen=True)
class Description:
    """What is said of a picture.

    items: what is there, from left to right. relation: of the first of two to the second. zone:
    where the only thing is, which is small. ground: a colour or a pattern. writing: what stands in
    the picture.
    """

    items: tuple[Item, ...] = ()
    relation: str | None = None
    zone: str | None = None
    ground: str | None = None
    writing: str | None = None

    def __post_init__(self) -> None:
        single = len(self.items) == 1 and self.items[0].count == 1 and self.writing is None
        if self.zone is not None and not (single and self.zone in ZONES):
            raise ValueError(f"the place {self.zone!r} is said of {self.items}, expected one thing")
        pair = [item.count for item in self.items] == [1, 1] and self.writing is None
        if self.relation is not None and not (pair and self.relation in RELATION_NAMES):
            raise ValueError(f"the relation {self.relation!r} is said of {self.items}")

    def without(self, *fields: str) -> Self:
        """The same with less said: some of `relation`, `zone`, `ground`, `writing`, `colour`."""
        items = self.items
        if "colour" in fields:
            items = tuple(replace(item, colour=None) for item in items)
        gone = {field: None for field in fields if field != "colour"}
        return replace(self, items=items, **gone)

    def turned(self) -> Self:
        """The same said of the second thing first: `a car to the right of a fox`."""
        if self.relation is None:
            return self
        return replace(self, items=self.items[::-1], relation=_OPPOSITE[self.relation])


def describe_scene(scene: FreeScene) -> Description:
    """All that can be said of a scene, in the one order in which it is said.

    White goes unsaid, and so does a thing's own colour. Of two things the left or the upper one
    comes first. One large thing's place goes unsaid.
    """
    items = _items(scene.things)
    relation = zone = None
    if scene.writing is None:
        if len(scene.things) == 1:
            zone = zone_of(scene.things[0])
        elif len(scene.things) == 2 and len(items) == 2:
            first, second = sorted(scene.things, key=lambda thing: thing.x)
            relation = relation_of(first, second)
            if relation == "below":
                items, relation = items[::-1], "above"
    ground = scene.ground.name
    return Description(
        items, relation, zone, None if ground == "white" else ground,
        None if scene.writing is None else scene.writing.text,
    )  # fmt: skip


def _items(things: Iterable[Thing]) -> tuple[Item, ...]:
    """Things of one subject and colour are one item; items go from left to right."""
    groups: dict[tuple[str, str | None], list[float]] = {}
    for thing in things:
        groups.setdefault((thing.name, thing.tint), []).append(thing.x)
    order = sorted(groups, key=lambda group: min(groups[group]))
    return tuple(Item(name, len(groups[name, tint]), tint) for name, tint in order)


def zone_of(thing: Placed, clear: bool = False) -> str | None:
    """Where a small thing is, one of `ZONES`; None of a large one.

    clear: None as well where another place is near.
    """
    if thing.scale >= SMALL:
        return None
    low, high = _THIRDS
    cells = [(value >= low) + (value > high) for value in (thing.x, thing.y)]
    edges = (abs(value - edge) for value in (thing.x, thing.y) for edge in _THIRDS)
    if clear and min(edges) < _CLEAR:
        return None
    return ZONES[3 * cells[1] + cells[0]]


def relation_of(first: Placed, second: Placed) -> str | None:
    """Where the first is, seen from the second; None where it is not clearly beside or above."""
    across, down = first.x - second.x, first.y - second.y
    if max(abs(across), abs(down)) < _LEAST_AWAY:
        return None
    if abs(across) >= _STEEP * abs(down):
        return "left" if across < 0 else "right"
    if abs(down) >= _STEEP * abs(across):
        return "above" if down < 0 else "below"
    return None


def is_clear_pair(first: Placed, second: Placed) -> bool:
    """Whether two things stand in a relation beyond doubt, or clearly in none, one further left."""
    across, down = abs(first.x - second.x), abs(first.y - second.y)
    longer, shorter = max(across, down), min(across, down)
    if longer < _LEAST_AWAY + _CLEAR:
        return False
    ratio = longer / max(shorter, 1e-9)
    return ratio >= 1.5 or (ratio <= 1.15 and across >= _LEAST_ACROSS)

"""What somebody wants in a picture, as far as a caption can say it, and remarks on the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

from unified_data.pocket.subjects import Subject
from unified_data.world.captions_en import COUNT_WORDS
from unified_data.world.description import Description, Item
from unified_data.world.free_scene import MAX_THINGS

__all__ = ["SEVERAL", "PictureCaption", "WantedThing", "description_of"]

SEVERAL = 3
"""How many are drawn of a plural without a number, where there is room."""
_OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
_SIDES = {"left": ("left", "right"), "above": ("top", "bottom")}


@dataclass(frozen=True)
class PictureCaption:
    """A caption of the world, and what to tell the user where it is not what was asked."""

    text: str
    notes: tuple[str, ...] = ()


@dataclass
class WantedThing:
    """One thing of a request.

    count: None for several without a number. zone: where it is said to be. size: "small", "large".
    """

    subject: Subject
    count: int | None = 1
    colour: str | None = None
    zone: str | None = None
    size: str | None = None
    words: str = ""


@dataclass
class _Counts:
    """Numbers of things that fit into one picture, and remarks where they are others."""

    remarks: list[str] = field(default_factory=list)

    def fit(self, things: list[WantedThing]) -> list[WantedThing]:
        if len(things) > MAX_THINGS:
            dropped = ", ".join(thing.subject.name for thing in things[MAX_THINGS:])
            self.remarks.append(f"a picture holds {MAX_THINGS} things, so there is no {dropped}")
            things = things[:MAX_THINGS]
        asked = [thing.count for thing in things]
        counts = [count or (SEVERAL if len(things) == 1 else 2) for count in asked]
        while sum(counts) > MAX_THINGS:
            counts[counts.index(max(counts))] -= 1
        for thing, wanted, count in zip(things, asked, counts):
            plural = thing.subject.plural
            if wanted is None:
                number = COUNT_WORDS.get(count, "one")
                self.remarks.append(f"{thing.words or plural!r} names no number: {number} drawn")
            elif wanted != count:
                self.remarks.append(
                    f"{wanted} {plural} are asked for, and a picture holds {MAX_THINGS} things"
                )
            thing.count = count
        return things


def description_of(
    things: list[WantedThing],
    relation: str | None = None,
    ground: str | None = None,
    writing: str | None = None,
) -> tuple[Description, list[str]]:
    """A description of the wishes that go together, and remarks on those that do not.

    things: in the order in which they are named. relation: of the first of two to the second.
    """
    counts = _Counts()
    things = counts.fit(_joined(things))
    remarks = counts.remarks
    pair = len(things) == 2 and all(thing.count == 1 for thing in things) and writing is None
    alone = len(things) == 1 and things[0].count == 1 and writing is None
    if pair and relation is None:
        relation = _relation_of(things[0].zone, things[1].zone)
        if relation is not None:
            things[0].zone = things[1].zone = None
    if relation is not None and not pair:
        remarks.append(
            f"where things stand ({relation}) is said of two single ones alone: left out"
        )
        relation = None
    zone = None
    for thing in things:
        if alone:
            zone = thing.zone or ("middle" if thing.size == "small" else None)
            if thing.size == "large" and zone is not None:
                remarks.append("a thing at a place of its own is small")
            elif thing.zone is not None and thing.size is None:
                remarks.append("a thing at a place of its own is drawn small")
            continue
        if thing.zone is not None:
            remarks.append(f"a place ({thing.zone}) is said of a single thing alone: left out")
        if thing.size is not None:
            remarks.append(f"{thing.size!r} is said of a single thing alone: left out")
    items = tuple(Item(thing.subject.name, thing.count or 1, thing.colour) for thing in things)
    return Description(items, relation, zone, ground, writing), remarks


def _joined(things: list[WantedThing]) -> list[WantedThing]:
    """A fox and a fox are two foxes."""
    joined: list[WantedThing] = []
    for thing in things:
        same = next(
            (
                each
                for each in joined
                if (each.subject, each.colour) == (thing.subject, thing.colour)
            ),
            None,
        )
        if same is None:
            joined.append(thing)
        elif same.count is not None and thing.count is not None:
            same.count += thing.count
    return joined


def _relation_of(first: str | None, second: str | None) -> str | None:
    """`left` of a thing on the left and one on the right, or nowhere."""
    for relation, (near, far) in _SIDES.items():
        if (first, second) in ((near, far), (near, None), (None, far)):
            return relation
        if (first, second) in ((far, near), (far, None), (None, near)):
            return _OPPOSITE[relation]
    return None

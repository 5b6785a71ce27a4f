"""Captions to draw, with what a picture of each must show: GenEval's six kinds, and three things.

Ghosh, Hajishirzi, Schmidt (2023), "GenEval: An object-focused framework for evaluating
text-to-image alignment": single object, two objects, counting, colours, position, attribution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from unified.evaluation.placed_things import COLOURS, PlacedThing, nearest_colour, scatter
from unified.evaluation.scene_judge import SeenThing, ground_of
from unified_data.pocket.atlas import glyph
from unified_data.pocket.scenes import (
    BACKGROUNDS,
    COUNTS,
    LOCATIONS,
    RELATIONS,
    SIDE,
    Scene,
    compose,
    split_of,
)
from unified_data.pocket.subjects import Subject, load_subjects

__all__ = ["WANTED", "Verdict", "Wanted", "relation_between", "true_things", "verdict"]

_ROOM = 0.6
"""Share of a glyph that has a hue, for its colour to be asked for."""
_OWN_COLOUR = frozenset(["food", "drink", "fruit", "vegetable", "plant", "place", "weather"])
"""Kinds of what would be another thing in another colour, as a blue pizza."""
# Centres of the things at a location, as shares of the side, (y, x).
_CENTRES = dict(
    zip(LOCATIONS, ((0.5, 0.5), (0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)))
)


@dataclass(frozen=True)
class Wanted:
    """What is asked for. subjects: every thing, a kind as often as it shall come.

    ground: of the world's colours; location: of the one thing; relation: of the first thing to the
    second; colours: of each thing, in order. None, and (), where the caption does not say.
    """

    caption: str
    subjects: tuple[Subject, ...]
    ground: str | None = None
    location: str | None = None
    relation: str | None = None
    colours: tuple[str, ...] = ()

    @property
    def aspect(self) -> str | None:
        """What else the caption says, beside the things."""
        if self.colours:
            return "colour"
        if self.relation:
            return "relation"
        if self.location:
            return "location"
        return "colour of the ground" if self.ground else None


@dataclass(frozen=True)
class Verdict:
    """things: those asked for are seen, each as often, and no other. all: and the rest holds, too.
    seen: in words."""

    things: bool
    all: bool
    seen: str


def verdict(wanted: Wanted, seen: list[SeenThing], pixels: np.ndarray) -> Verdict:
    """Judge what is seen in a picture, uint8 (H, W, 3), against what was asked for."""
    named = " and ".join(
        f"{thing.colour} {thing.subject.name}" if wanted.colours and thing.colour
        else thing.subject.name
        for thing in seen
    ) or "nothing"  # fmt: skip
    things = sorted(thing.subject.name for thing in seen) == sorted(s.name for s in wanted.subjects)
    exact = things and _rest(wanted, seen, pixels)
    if things and not exact:
        named += f", with another {wanted.aspect}"
    return Verdict(things, exact, named)


def _rest(wanted: Wanted, seen: list[SeenThing], pixels: np.ndarray) -> bool:
    """Whether the colours, the place and the ground are those asked for, of the right things."""
    if wanted.ground and _ground_name(pixels) != wanted.ground:
        return False
    if wanted.location:
        height, width = pixels.shape[:2]
        scale = min(height, width)
        y, x = (
            centre * scale / SIDE / size
            for centre, size in zip(seen[0].centre, (height, width))
        )  # fmt: skip
        near = min(_CENTRES, key=lambda name: np.hypot(*np.subtract(_CENTRES[name], (y, x))))
        if near != wanted.location:
            return False
    if wanted.relation:
        first, second = sorted(seen, key=lambda thing: thing.subject != wanted.subjects[0])
        if relation_between(first.centre, second.centre) != wanted.relation:
            return False
    if wanted.colours:
        asked = sorted(zip((subject.name for subject in wanted.subjects), wanted.colours))
        return asked == sorted((thing.subject.name, str(thing.colour)) for thing in seen)
    return True


def relation_between(first: tuple[float, float], second: tuple[float, float]) -> str:
    """How a thing stands to another, by their centres (y, x): along the axis that parts them."""
    down, right = first[0] - second[0], first[1] - second[1]
    if abs(right) > abs(down):
        return "to the right of" if right > 0 else "to the left of"
    return "below" if down > 0 else "above"


def _ground_name(pixels: np.ndarray) -> str:
    """The world's colour that is nearest to the middle of a picture's ground."""
    ground = ground_of(pixels.astype(np.float32) / np.float32(255))
    middle = np.median(ground.reshape(-1, 3), axis=0) * 255
    return min(BACKGROUNDS, key=lambda name: np.linalg.norm(middle - BACKGROUNDS[name]))


# What to ask for.


def _subjects(rng: np.random.Generator, number: int) -> tuple[Subject, ...]:
    everything = load_subjects()
    return tuple(everything[i] for i in rng.permutation(len(everything))[:number])


def _of_scene(scene: Scene, ground: bool = False) -> Wanted:
    return Wanted(
        scene.caption, scene.subjects * scene.count, scene.background if ground else None,
        scene.location, scene.relation,
    )  # fmt: skip


def _one(rng: np.random.Generator) -> Wanted:
    return _of_scene(compose(rng, "one", background="white"))


def _heldout_scene(kind: str, ground: bool = False) -> Callable[[np.random.Generator], Wanted]:
    def draw(rng: np.random.Generator) -> Wanted:
        while True:
            scene = compose(rng, kind)  # type: ignore[arg-type]
            if scene.split == "heldout":
                return _of_scene(scene, ground)

    return draw


def _pair(rng: np.random.Generator) -> tuple[Subject, ...]:
    """Two things that no training picture shows together."""
    while True:
        pair = _subjects(rng, 2)
        if split_of("two|" + "|".join(sorted(subject.name for subject in pair))) == "heldout":
            return pair


def _two(rng: np.random.Generator) -> Wanted:
    first, second = _pair(rng)
    return Wanted(f"{first.phrase} and {second.phrase}", (first, second))


def _count(rng: np.random.Generator) -> Wanted:
    """One to four of a kind; held out where it is more than one."""
    number = int(rng.integers(1, 5))
    while True:
        (subject,) = _subjects(rng, 1)
        if number == 1:
            return Wanted(subject.phrase, (subject,))
        scene = Scene("counted", subject, count=number)
        if scene.split == "heldout":
            return Wanted(f"{COUNTS[number]} {subject.plural}", (subject,) * number)


def _position(rng: np.random.Generator) -> Wanted:
    first, second = _pair(rng)
    relation = RELATIONS[int(rng.integers(len(RELATIONS)))]
    text = f"{first.phrase} {relation} {second.phrase}"
    return Wanted(text, (first, second), relation=relation)


@cache
def _own_colour(subject: Subject) -> tuple[str | None, bool]:
    """The colour that a glyph has, and whether most of it can take another."""
    tile = glyph(subject.glyph, 32).astype(np.float32) / 255
    pixels = tile[tile[..., 3] > 0.5][:, :3]
    names = [nearest_colour(pixel) for pixel in pixels]
    hues = [name for name in names if name is not None]
    main = max(set(hues), key=lambda name: (hues.count(name), name)) if hues else None
    bright = float((pixels.max(axis=1) > 0.4).mean())
    return main, min(bright, len(hues) / len(names)) >= _ROOM


def _tinted(rng: np.random.Generator, number: int) -> tuple[tuple[Subject, ...], tuple[str, ...]]:
    """Things in held-out colours that are not their own, each in another."""
    chosen: list[Subject] = []
    colours: list[str] = []
    while len(chosen) < number:
        (subject,) = _subjects(rng, 1)
        own, able = _own_colour(subject)
        colour = list(COLOURS)[int(rng.integers(len(COLOURS)))]
        heldout = split_of(f"tinted|{subject.name}|{colour}") == "heldout"
        able = able and heldout and subject.kind not in _OWN_COLOUR
        if able and colour != own and subject not in chosen and colour not in colours:
            chosen.append(subject)
            colours.append(colour)
    return tuple(chosen), tuple(colours)


def _with_article(colour: str, subject: Subject) -> str:
    return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {subject.name}"


def _colour(rng: np.random.Generator) -> Wanted:
    subjects, colours = _tinted(rng, 1)
    return Wanted(_with_article(colours[0], subjects[0]), subjects, colours=colours)


def _attribution(rng: np.random.Generator) -> Wanted:
    subjects, colours = _tinted(rng, 2)
    text = " and ".join(map(_with_article, colours, subjects))
    return Wanted(text, subjects, colours=colours)


def _three(rng: np.random.Generator) -> Wanted:
    first, second, third = _subjects(rng, 3)
    text = f"{first.phrase}, {second.phrase} and {third.phrase}"
    return Wanted(text, (first, second, third))


WANTED: dict[str, Callable[[np.random.Generator], Wanted]] = {
    "one": _one,
    "ground": _heldout_scene("one", ground=True),
    "placed": _heldout_scene("placed"),
    "two": _two,
    "count": _count,
    "colour": _colour,
    "position": _position,
    "attribution": _attribution,
    "three": _three,
}
"""Conditions of drawing: a caption at random, and what its picture must show."""


def true_things(wanted: Wanted, rng: np.random.Generator) -> tuple[PlacedThing, ...]:
    """Things that a true picture of a caption has, anywhere that it allows."""
    number = len(wanted.subjects)
    if wanted.location:
        y, x = (round(share * SIDE) - 22 for share in _CENTRES[wanted.location])
        return (PlacedThing(wanted.subjects[0], 44, y, x),)
    sides = (48, 80) if number == 1 else (32, 46)
    while True:
        things = scatter(wanted.subjects, rng, sides)
        if wanted.relation and wanted.relation != relation_between(*(t.centre for t in things)):
            continue
        colours = wanted.colours or (None,) * number
        return tuple(
            PlacedThing(thing.subject, thing.side, thing.y, thing.x, colour=colour)
            for thing, colour in zip(things, colours)
        )

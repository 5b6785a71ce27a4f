"""Free scenes: things of any style, size and colour, anywhere on any ground, perhaps with writing.

Places and sizes are shares of the picture's side, so that a scene can be painted at any size.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from unified_data.pocket.subjects import Subject, find_subject
from unified_data.world.colours import RGB, TINTS
from unified_data.world.glyphs import styles_of
from unified_data.world.ground import WHITE, Ground
from unified_data.world.lettering import check_writing

__all__ = ["MAX_THINGS", "SPLITS", "FreeScene", "Lettering", "Thing", "split_of_keys"]

MAX_THINGS = 4
MAX_TURN = 12.0
"""Degrees that a thing may be turned either way."""
SPLITS = ("train", "steer", "heldout")
"""`steer` is for decisions during training, `heldout` for the figures at the end."""
_CUT = 1.04  # a turned thing may reach this far beyond the edges


@dataclass(frozen=True)
class Thing:
    """A subject in a picture.

    name: the subject's. x, y: its centre. scale: the side of its square. turn: degrees, counter-
    clockwise. tint: the colour that it was given, None for its own.
    """

    name: str
    style: str
    x: float
    y: float
    scale: float
    turn: float = 0.0
    mirrored: bool = False
    tint: str | None = None

    def __post_init__(self) -> None:
        if self.style not in styles_of(self.name):
            raise ValueError(f"no thing {self.name!r} in style {self.style!r}")
        if not 0.1 <= self.scale <= 1 or abs(self.turn) > MAX_TURN:
            raise ValueError(
                f"{self.name} has scale {self.scale:g} and turn {self.turn:g},"
                f" expected 0.1 to 1 and at most {MAX_TURN:g} degrees"
            )
        low, high = self.scale / 2 / _CUT, 1 - self.scale / 2 / _CUT
        if not (low <= self.x <= high and low <= self.y <= high):
            raise ValueError(f"{self.name} at ({self.x:g}, {self.y:g}) is cut off")
        if self.tint is not None and self.tint not in TINTS:
            raise ValueError(f"{self.name} has the tint {self.tint!r}, expected one of {[*TINTS]}")

    @property
    def subject(self) -> Subject:
        subject = find_subject(self.name)
        assert subject is not None
        return subject


@dataclass(frozen=True)
class Lettering:
    """Letters or digits in a picture. x, y: their centre; height: of a letter."""

    text: str
    x: float
    y: float
    height: float
    colour: RGB

    def __post_init__(self) -> None:
        check_writing(self.text)


@dataclass(frozen=True)
class FreeScene:
    """What a picture shows, exactly. Things are painted in their order, the writing last.

    shadow: how dark the things' shadows are, 0 for none to 0.6.
    """

    things: tuple[Thing, ...] = ()
    ground: Ground = WHITE
    writing: Lettering | None = None
    shadow: float = 0.0

    def __post_init__(self) -> None:
        if len(self.things) > MAX_THINGS:
            raise ValueError(
                f"a scene has {len(self.things)} things, expected {MAX_THINGS} or less"
            )
        if not 0 <= self.shadow <= 0.6:
            raise ValueError(f"a scene's shadow is {self.shadow}, expected 0 to 0.6")

    @property
    def names(self) -> tuple[str, ...]:
        """The distinct subjects, in alphabetical order."""
        return tuple(sorted({thing.name for thing in self.things}))

    @property
    def keys(self) -> tuple[str, ...]:
        """The combinations that decide the split; see `split_of_keys`.

        Two subjects are one combination whatever else there is, so a held-out pair was never seen
        together at all; so are a subject and its tint, and a subject and how many there are.
        """
        return tuple(dict.fromkeys(self._keys()))

    def _keys(self) -> Iterator[str]:
        names = [thing.name for thing in self.things]
        for pair in itertools.combinations(self.names, 2):
            yield "two|" + "|".join(pair)
        for name in self.names:
            if names.count(name) > 1:
                yield f"counted|{name}|{names.count(name)}"
        for thing in self.things:
            if thing.tint is not None:
                yield f"tinted|{thing.name}|{thing.tint}"
        if self.writing is not None:
            yield f"writing|{self.writing.text}"
        if not self.things and self.writing is None:
            yield f"nothing|{self.ground}"
        ground = self.ground.name
        if len(self.things) == 1 and ground not in ("white", None):
            yield f"one|{names[0]}|{ground}"

    @property
    def split(self) -> str:
        """Of one thing in its own colour on white or on a ground without a name: `train`."""
        return split_of_keys(self.keys)


def split_of_keys(keys: tuple[str, ...]) -> str:
    """The split of what holds several combinations: `heldout` where any is, then `steer`.

    A combination is held out one time in twenty by the SHA-256 of its key, as often for steering.
    """
    firsts = [hashlib.sha256(key.encode()).digest()[0] for key in keys]
    if any(first < 13 for first in firsts):
        return "heldout"
    return "steer" if any(first < 26 for first in firsts) else "train"

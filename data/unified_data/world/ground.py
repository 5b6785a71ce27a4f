"""Grounds: what lies behind the things of a picture, of any colour and at any size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from unified_data.world.colours import COLOURS, RGB, colour_name, sample_colour

__all__ = ["GROUND_NAMES", "PATTERNS", "WHITE", "Ground", "paint_ground", "random_ground"]

PATTERNS = ("striped", "checked", "dotted")
"""Patterns that are named instead of a colour."""
GROUND_NAMES = (*COLOURS, *PATTERNS)
"""Everything that a ground can be called."""

GroundKind = Literal["plain", "gradient", "cloudy", "striped", "checked", "dotted"]


@dataclass(frozen=True)
class Ground:
    """A ground. `plain`: of one colour; `gradient`: from `colour` to `second` in a direction;
    `cloudy`: smooth noise between both, from `seed`; patterns: of both colours.

    angle: degrees; period: of a pattern or of noise, as a share of the picture's side.
    """

    kind: GroundKind = "plain"
    colour: RGB = (255, 255, 255)
    second: RGB = (255, 255, 255)
    angle: float = 0.0
    period: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("plain", "gradient", "cloudy", *PATTERNS):
            raise ValueError(f"unknown kind of ground {self.kind!r}")
        if not 0.02 <= self.period <= 1:
            raise ValueError(f"a ground's period is {self.period}, expected 0.02 to 1")

    @property
    def name(self) -> str | None:
        """A colour or a pattern; None where no name fits."""
        if self.kind in PATTERNS:
            return self.kind
        name = colour_name(self.colour)
        return name if self.kind == "plain" or name == colour_name(self.second) else None

    @property
    def colours(self) -> tuple[RGB, ...]:
        return (self.colour,) if self.kind == "plain" else (self.colour, self.second)


WHITE = Ground()
"""What most grounds are that nothing is said of."""


def random_ground(rng: np.random.Generator, name: str | None) -> Ground:
    """A ground that is called `name`, or one that has no name.

    Raises ValueError for an unknown name.
    """
    if name in PATTERNS:
        return _pattern(rng, name)  # type: ignore[arg-type]
    chance = rng.random()
    if chance < (0.6 if name else 0.4):
        return Ground("plain", sample_colour(rng, name))
    kind: GroundKind = "gradient" if chance < 0.8 else "cloudy"
    angle = float(rng.integers(360))
    while True:
        colour = sample_colour(rng, name)
        second = sample_colour(rng, name)
        ground = Ground(kind, colour, second, angle, 0.12 + 0.3 * rng.random(),
                        int(rng.integers(2**31)))  # fmt: skip
        if ground.name == name:
            return ground


def _pattern(rng: np.random.Generator, kind: GroundKind) -> Ground:
    """Two colours that are told apart, any name or none."""
    while True:
        first, second = (
            sample_colour(rng, [None, *COLOURS][int(rng.integers(len(COLOURS) + 1))])
            for _ in range(2)
        )
        if max(abs(a - b) for a, b in zip(first, second)) >= 64:
            angle = float(rng.integers(4) * 45) if kind == "striped" else 0.0
            return Ground(kind, first, second, angle, 0.1 + 0.12 * rng.random())


def paint_ground(ground: Ground, side: int) -> np.ndarray:
    """(side, side, 3) float32, 0 to 255. The same picture at every size, as far as pixels allow."""
    first = np.array(ground.colour, np.float32)
    if ground.kind == "plain":
        return np.broadcast_to(first, (side, side, 3)).copy()
    share = _share(ground, side)[..., None]
    return first + (np.array(ground.second, np.float32) - first) * share


def _share(ground: Ground, side: int) -> np.ndarray:
    """How much of the second colour is at each pixel: float32 (side, side) in 0..1."""
    centres = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    x, y = centres[None, :], centres[:, None]
    radians = math.radians(ground.angle)
    along = x * math.cos(radians) + y * math.sin(radians)
    if ground.kind == "gradient":
        reach = abs(math.cos(radians)) + abs(math.sin(radians))
        return along / reach + 0.5
    if ground.kind == "cloudy":
        cells = max(2, round(1 / ground.period)) + 1
        lattice = np.random.default_rng(ground.seed).random((cells, cells), np.float32)
        smooth = Image.fromarray(lattice).resize((side, side), Image.Resampling.BICUBIC)
        return np.clip(np.asarray(smooth), 0, 1)
    # Edges are a pixel wide: a triangle wave, steepened and clipped.
    steep = ground.period * side
    if ground.kind == "striped":
        return _square(along / ground.period, steep)
    if ground.kind == "checked":
        across, down = (_square(each / ground.period, steep) for each in (x, y))
        return across + down - 2 * across * down
    offset = [np.abs((each / ground.period) % 1 - 0.5) for each in (x, y)]
    radius = np.sqrt(offset[0] ** 2 + offset[1] ** 2)
    return np.clip((0.3 - radius) * steep + 0.5, 0, 1).astype(np.float32)


def _square(phase: np.ndarray, steep: float) -> np.ndarray:
    triangle = np.abs(phase % 1 - 0.5) - 0.25
    return np.clip(triangle * steep + 0.5, 0, 1).astype(np.float32)

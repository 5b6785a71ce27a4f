"""Pictures of one thing where and how the world does not paint it: moved, scaled, turned, worn.

Glyphs of the atlases are drawn by Pillow at any size and angle. Legend: H W pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageFilter

from unified.evaluation.placed_things import Colour, PlacedThing, paint_things
from unified_data.pocket.atlas import TILE
from unified_data.pocket.scenes import BACKGROUNDS, SIDE
from unified_data.pocket.subjects import Subject
from unified_data.world.style_names import HELD_OUT_STYLE

__all__ = ["VIEWS", "View", "draw_view", "paint", "still_told"]

_MARGIN = (SIDE - TILE) // 2
_PICTURES = (48, 64, 128, 200, 256)
"""Sides of pictures of other sizes, pixels."""


@dataclass(frozen=True)
class View:
    """How a glyph is seen.

    ground: RGB. side: of the glyph, pixels. y, x: of its box's corner. angle: degrees against the
    clock. blur: radius of a Gaussian, pixels. noise: standard deviation, of 255. jpeg: quality of
    one pass through JPEG, None for none. shadow: of the glyph. size: side of the picture, pixels;
    all else is of one of 96. style: of the world's art styles.
    """

    ground: Colour
    side: int = TILE
    y: int = _MARGIN
    x: int = _MARGIN
    angle: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg: int | None = None
    shadow: bool = False
    size: int = SIDE
    style: str = "noto"


def paint(subject: Subject, view: View, rng: np.random.Generator | None = None) -> np.ndarray:
    """The picture of a subject: uint8 (size, size, 3).

    rng: of the noise; None: neither noise nor JPEG.
    """
    thing = PlacedThing(subject, view.side, view.y, view.x, view.angle, view.style)
    canvas = PillowImage.fromarray(paint_things([thing], view.ground, view.size, view.shadow))
    if view.blur:
        canvas = canvas.filter(ImageFilter.GaussianBlur(view.blur))
    pixels = np.asarray(canvas)
    if rng is None:
        return pixels
    if view.noise:
        noisy = pixels + rng.normal(0, view.noise, pixels.shape)
        pixels = np.rint(noisy).clip(0, 255).astype(np.uint8)
    if view.jpeg is not None:
        file = io.BytesIO()
        PillowImage.fromarray(pixels).save(file, "JPEG", quality=view.jpeg)
        pixels = np.asarray(PillowImage.open(file, formats=["JPEG"]).convert("RGB"))
    return pixels


def _world_ground(rng: np.random.Generator) -> Colour:
    return list(BACKGROUNDS.values())[int(rng.integers(len(BACKGROUNDS)))]


def _any_ground(rng: np.random.Generator) -> Colour:
    red, green, blue = map(int, rng.integers(0, 256, 3))
    return red, green, blue


def _centred(rng: np.random.Generator, side: int, angle: float = 0.0) -> View:
    corner = (SIDE - side) // 2
    return View(_world_ground(rng), side, corner, corner, angle)


def _shift(rng: np.random.Generator) -> View:
    y = x = 0
    while not (y or x):
        y, x = map(int, rng.integers(-5, 6, 2))
    return View(_world_ground(rng), y=_MARGIN + y, x=_MARGIN + x)


def _turn(rng: np.random.Generator) -> View:
    return _centred(rng, 68, float(rng.uniform(5, 20) * rng.choice((-1, 1))))


def _together(rng: np.random.Generator) -> View:
    side = int(rng.integers(44, 73))
    y, x = map(int, rng.integers(4, SIDE - side - 3, 2))
    return View(
        _any_ground(rng), side, y, x, float(rng.uniform(-10, 10)), float(rng.uniform(0, 0.8)),
        float(rng.uniform(0, 10)), int(rng.integers(40, 90)), bool(rng.integers(2)),
    )  # fmt: skip


def _size(rng: np.random.Generator) -> View:
    return View(_world_ground(rng), size=_PICTURES[int(rng.integers(len(_PICTURES)))])


def _style(rng: np.random.Generator) -> View:
    return replace(_shift(rng), style=HELD_OUT_STYLE)


VIEWS: dict[str, Callable[[np.random.Generator], View]] = {
    "plain": lambda rng: View(_world_ground(rng)),
    "shift": _shift,
    "scale": lambda rng: _centred(rng, int(rng.integers(36, 77))),
    "turn": _turn,
    "ground": lambda rng: View(_any_ground(rng)),
    "blur": lambda rng: View(_world_ground(rng), blur=float(rng.uniform(0.5, 1.5))),
    "noise": lambda rng: View(_world_ground(rng), noise=float(rng.uniform(8, 25))),
    "jpeg": lambda rng: View(_world_ground(rng), jpeg=int(rng.integers(20, 61))),
    "shadow": lambda rng: View(_world_ground(rng), shadow=True),
    "size": _size,
    "together": _together,
    "style": _style,
}
"""Conditions of seeing by name; `plain` is as the world paints."""


def draw_view(condition: str, rng: np.random.Generator) -> View:
    """A view of a condition, at random."""
    return VIEWS[condition](rng)


def still_told(pixels: np.ndarray, view: View, subject: Subject, rivals: list[Subject]) -> bool:
    """Whether a picture is still nearer to its own subject, seen so, than to any rival seen so.

    By normalised correlation of what differs from the ground, with clean paintings: it says that
    the alteration left the subject recognisable.
    """
    ground = np.asarray(view.ground, np.float32)

    def unit(picture: np.ndarray) -> np.ndarray:
        change = (picture - ground).ravel()
        return np.asarray(change / max(float(np.linalg.norm(change)), 1e-6))

    seen = unit(pixels)
    scores = [float(seen @ unit(paint(each, view))) for each in (subject, *rivals)]
    return max(scores[1:], default=-1.0) < scores[0]

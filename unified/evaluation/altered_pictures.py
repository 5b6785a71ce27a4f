"""Pictures of one thing where and how the world does not paint it: moved, scaled, turned, worn.

Glyphs of the atlas are drawn by Pillow at fractional sizes and any angle. Legend: H W pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageFilter

from unified_data.pocket.atlas import TILE, glyph
from unified_data.pocket.scenes import BACKGROUNDS, SIDE
from unified_data.pocket.subjects import Subject

__all__ = ["VIEWS", "View", "draw_view", "paint", "paste", "still_told"]

_MARGIN = (SIDE - TILE) // 2
_Colour = tuple[int, int, int]


@dataclass(frozen=True)
class View:
    """How a glyph is seen.

    ground: RGB. side: of the glyph, pixels. y, x: of its box's corner. angle: degrees against the
    clock. blur: radius of a Gaussian, pixels. noise: standard deviation, of 255. jpeg: quality of
    one pass through JPEG, None for none.
    """

    ground: _Colour
    side: int = TILE
    y: int = _MARGIN
    x: int = _MARGIN
    angle: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg: int | None = None


def paste(canvas: PillowImage.Image, subject: Subject, view: View) -> None:
    """Draw a glyph on a picture; turned, it stays centred on its box."""
    tile = PillowImage.fromarray(glyph(subject.glyph))
    if view.side != TILE:
        tile = tile.resize((view.side, view.side), PillowImage.Resampling.LANCZOS)
    if view.angle:
        tile = tile.rotate(view.angle, PillowImage.Resampling.BICUBIC, expand=True)
    grown = (tile.width - view.side) // 2, (tile.height - view.side) // 2
    canvas.paste(tile, (view.x - grown[0], view.y - grown[1]), tile)


def paint(subject: Subject, view: View, rng: np.random.Generator | None = None) -> np.ndarray:
    """The picture of a subject: uint8 (96, 96, 3).

    rng: of the noise; None: neither noise nor JPEG.
    """
    canvas = PillowImage.new("RGB", (SIDE, SIDE), view.ground)
    paste(canvas, subject, view)
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


def _world_ground(rng: np.random.Generator) -> _Colour:
    return list(BACKGROUNDS.values())[int(rng.integers(len(BACKGROUNDS)))]


def _any_ground(rng: np.random.Generator) -> _Colour:
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
        float(rng.uniform(0, 10)), int(rng.integers(40, 90)),
    )  # fmt: skip


VIEWS: dict[str, Callable[[np.random.Generator], View]] = {
    "plain": lambda rng: View(_world_ground(rng)),
    "shift": _shift,
    "scale": lambda rng: _centred(rng, int(rng.integers(36, 77))),
    "turn": _turn,
    "ground": lambda rng: View(_any_ground(rng)),
    "blur": lambda rng: View(_world_ground(rng), blur=float(rng.uniform(0.5, 1.5))),
    "noise": lambda rng: View(_world_ground(rng), noise=float(rng.uniform(8, 25))),
    "jpeg": lambda rng: View(_world_ground(rng), jpeg=int(rng.integers(20, 61))),
    "together": _together,
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

"""Pictures of nothing that the world knows: glyphs of other things, textures, scribbles, scenery.

Each has a key that decides its split, so that some glyphs and some ways of drawing are never
trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from unified_data.world.free_scene import split_of_keys
from unified_data.world.glyphs import stranger_tile
from unified_data.world.ground import paint_ground, random_ground
from unified_data.world.painting import SIDE, paste_tile
from unified_data.world.style_names import STRANGERS, TRAIN_STYLES, WHOLE_STYLES

__all__ = ["TEXTURES", "paint_unknown", "strangers_of"]

_STYLES = tuple(style for style in WHOLE_STYLES if style in TRAIN_STYLES)
_SPLIT_OF_TEXTURE = {"steer": ("rings",), "heldout": ("scribbles", "weave")}


def strangers_of(split: str) -> tuple[int, ...]:
    """The numbers of those `STRANGERS` that a split may show."""
    return tuple(
        number
        for number, character in enumerate(STRANGERS)
        if split_of_keys((f"stranger|{character}",)) == split
    )


def paint_unknown(rng: np.random.Generator, split: str, side: int = SIDE) -> np.ndarray:
    """A picture of what the world does not know: uint8 (side, side, 3).

    Half are glyphs of other things on some ground, half textures and the like.
    """
    strangers = strangers_of(split)
    if rng.random() < 0.5 and strangers:
        canvas = paint_ground(random_ground(rng, None), side)
        number = strangers[int(rng.integers(len(strangers)))]
        style = _STYLES[int(rng.integers(len(_STYLES)))]
        scale = float(rng.uniform(0.3, 1))
        x, y = (float(scale / 2 + (1 - scale) * rng.random()) for _ in range(2))
        paste_tile(canvas, stranger_tile(number, style), x, y, scale,
                   float(rng.uniform(-12, 12)), bool(rng.random() < 0.5))  # fmt: skip
    else:
        aside = [name for names in _SPLIT_OF_TEXTURE.values() for name in names]
        names = _SPLIT_OF_TEXTURE.get(split) or [name for name in TEXTURES if name not in aside]
        canvas = TEXTURES[names[int(rng.integers(len(names)))]](rng, side)
    return np.clip(canvas + 0.5, 0, 255).astype(np.uint8)


def _palette(rng: np.random.Generator, number: int) -> np.ndarray:
    return rng.integers(0, 256, (number, 3)).astype(np.float32)


def _coloured(levels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Levels in 0..1 as colours between those of a palette."""
    position = np.clip(levels, 0, 1) * (len(palette) - 1)
    low = np.minimum(position.astype(int), len(palette) - 2)
    share = (position - low)[..., None]
    return palette[low] * (1 - share) + palette[low + 1] * share


def _octaves(rng: np.random.Generator, side: int, coarsest: int) -> np.ndarray:
    """Noise of many sizes, as in clouds, rock and grass: float32 (side, side) in 0..1."""
    total = np.zeros((side, side), np.float32)
    weight, cells = 1.0, coarsest
    while cells < side:
        lattice = rng.random((cells + 1, cells + 1)).astype(np.float32)
        picture = Image.fromarray(lattice).resize((side, side), Image.Resampling.BICUBIC)
        total += weight * np.asarray(picture)
        weight, cells = weight * 0.6, cells * 2
    low, high = total.min(), total.max()
    return (total - low) / (high - low)


def _noise(rng: np.random.Generator, side: int) -> np.ndarray:
    """Television noise, coloured or grey, fine or coarse."""
    cells = side // int(rng.integers(1, 5))
    values = rng.random((cells, cells, 3 if rng.random() < 0.6 else 1))
    values = np.broadcast_to(values, (cells, cells, 3)) * rng.uniform(60, 255)
    picture = Image.fromarray(values.astype(np.uint8))
    return np.asarray(picture.resize((side, side), Image.Resampling.NEAREST), np.float32)


def _plasma(rng: np.random.Generator, side: int) -> np.ndarray:
    return _coloured(_octaves(rng, side, int(rng.integers(2, 6))), _palette(rng, 4))


def _cells(rng: np.random.Generator, side: int) -> np.ndarray:
    """Patches around random points, as of stones or leaves."""
    points = rng.random((int(rng.integers(8, 40)), 2)) * side
    rows, columns = np.mgrid[:side, :side]
    away = np.hypot(rows[..., None] - points[:, 0], columns[..., None] - points[:, 1])
    nearest = away.argmin(-1)
    edge = np.sort(away, -1)
    canvas = _palette(rng, len(points))[nearest]
    lines = np.clip((edge[..., 1] - edge[..., 0]) / 2, 0.2, 1)[..., None]
    return canvas * lines


def _scenery(rng: np.random.Generator, side: int) -> np.ndarray:
    """Hills one behind the other under a sky."""
    rows = np.linspace(0, 1, side, dtype=np.float32)[:, None] * np.ones((1, side), np.float32)
    canvas = _coloured(rows, _palette(rng, 2))
    columns = np.arange(side) / side
    for layer in range(int(rng.integers(2, 5))):
        top = np.full(side, 0.35 + 0.15 * layer)
        for wave in (1, 2, 5):
            phase = wave * columns + rng.random()
            top += rng.uniform(0.02, 0.12) * np.sin(2 * math.pi * phase)
        rough = _octaves(rng, side, 8)[..., None]
        hill = _palette(rng, 1)[0] * (0.6 + 0.4 * rough)
        canvas = np.where((rows > top[None, :])[..., None], hill, canvas)
    return canvas


def _blots(rng: np.random.Generator, side: int) -> np.ndarray:
    """Blurred shapes of light, as behind something in focus."""
    picture = Image.fromarray(np.full((side, side, 3), _palette(rng, 1)[0], np.uint8))
    drawing = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(6, 20))):
        x, y, radius = rng.random() * side, rng.random() * side, rng.uniform(0.05, 0.25) * side
        fill = tuple(int(channel) for channel in rng.integers(0, 256, 3))
        drawing.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    blurred = picture.filter(ImageFilter.GaussianBlur(side * float(rng.uniform(0.01, 0.05))))
    return np.asarray(blurred, np.float32)


def _rings(rng: np.random.Generator, side: int) -> np.ndarray:
    x, y = rng.random(2)
    rows, columns = np.mgrid[:side, :side] / side
    away = np.sqrt((columns - x) ** 2 + (rows - y) ** 2)
    return _coloured((away * rng.uniform(3, 12)) % 1, _palette(rng, 3))


def _scribbles(rng: np.random.Generator, side: int) -> np.ndarray:
    picture = Image.fromarray(np.full((side, side, 3), _palette(rng, 1)[0], np.uint8))
    drawing = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(3, 12))):
        steps = np.cumsum(rng.normal(0, side / 8, (int(rng.integers(4, 14)), 2)), 0)
        points = [tuple(map(float, point)) for point in steps + rng.random(2) * side]
        fill = tuple(int(channel) for channel in rng.integers(0, 256, 3))
        drawing.line(points, fill=fill, width=int(rng.integers(1, 5)))
    return np.asarray(picture, np.float32)


def _weave(rng: np.random.Generator, side: int) -> np.ndarray:
    """Threads over and under each other."""
    wide = int(rng.integers(3, 9))
    rows, columns = np.mgrid[:side, :side]
    over = ((rows // wide + columns // wide) % 2)[..., None]
    first, second = _palette(rng, 2)
    bulge = [0.6 + 0.4 * np.sin(math.pi * (each % wide + 0.5) / wide) for each in (rows, columns)]
    return np.where(over, first * bulge[0][..., None], second * bulge[1][..., None])


TEXTURES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "noise": _noise, "plasma": _plasma, "cells": _cells, "scenery": _scenery, "blots": _blots,
    "rings": _rings, "scribbles": _scribbles, "weave": _weave,
}  # fmt: skip
"""Ways of drawing what is no thing: of a generator and a side float (side, side, 3), 0 to 255."""

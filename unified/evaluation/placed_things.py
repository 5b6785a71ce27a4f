"""Pictures of several things, each at any place, size and turn, in a style or a colour of its own.

They are drawn from the glyphs of an art style by Pillow, by no code of the world's own scenes, so
that what a model is asked does not come from what it was taught with. Legend: H W pixels.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageFilter

from unified_data.pocket.atlas import TILE
from unified_data.pocket.scenes import SIDE
from unified_data.pocket.subjects import Subject, load_subjects
from unified_data.world.glyphs import tile as world_tile

__all__ = [
    "COLOURS",
    "Colour",
    "PlacedThing",
    "coloured",
    "nearest_colour",
    "paint_things",
    "scatter",
    "style_glyph",
    "turned_tile",
]

Colour = tuple[int, int, int]
COLOURS: dict[str, tuple[float, float, float]] = {
    # Hue in turns, least saturation, and the factor of brightness.
    "red": (0.0, 0.75, 1.0),
    "orange": (0.085, 0.85, 1.0),
    "yellow": (0.155, 0.8, 1.1),
    "green": (0.35, 0.65, 0.9),
    "blue": (0.61, 0.7, 1.0),
    "purple": (0.77, 0.55, 0.9),
    "pink": (0.93, 0.4, 1.15),
}
"""Colours that a thing may be asked for in; a thing keeps its light and shade."""
_PALE = 0.45
"""Saturation below which a red is a pink."""
_UNSHADED = 0.35
"""Of full brightness: darker pixels of a glyph have no hue to speak of and stay."""


@cache
def _name_of(character: str) -> str:
    return next(each.name for each in load_subjects() if each.glyph == character)


@cache
def style_glyph(style: str, character: str) -> np.ndarray:
    """A subject's glyph in an art style: uint8 (84, 84, 4), straight alpha; do not write to it.

    Raises ValueError for a style that the world does not have.
    """
    return np.asarray(world_tile(_name_of(character), style).convert("RGBA"))


@dataclass(frozen=True)
class PlacedThing:
    """A glyph in a picture of 96x96 pixels.

    side: of its box, pixels. y, x: the corner of its box. angle: degrees against the clock.
    style: of the world's art styles. colour: of `COLOURS`; None: its own.
    """

    subject: Subject
    side: int
    y: int
    x: int
    angle: float = 0.0
    style: str = "noto"
    colour: str | None = None

    @property
    def centre(self) -> tuple[float, float]:
        """(y, x) of its box, pixels."""
        return self.y + self.side / 2, self.x + self.side / 2


def coloured(tile: np.ndarray, colour: str) -> np.ndarray:
    """A glyph in another colour: uint8 (H, W, 4). Its light and shade, whites and blacks stay."""
    hue, least, light = COLOURS[colour]
    hsv = np.asarray(PillowImage.fromarray(tile[..., :3]).convert("HSV")).astype(np.float32) / 255
    value = np.clip(hsv[..., 2] * light, 0, 1)
    saturation = np.where(hsv[..., 2] < _UNSHADED, hsv[..., 1], np.maximum(hsv[..., 1], least))
    turned = np.stack([np.full_like(value, hue % 1.0), saturation, value], axis=-1)
    picture = PillowImage.fromarray(np.rint(turned * 255).astype(np.uint8), "HSV").convert("RGB")
    return np.dstack([np.asarray(picture), tile[..., 3]])


@lru_cache(maxsize=4096)
def turned_tile(
    style: str, character: str, side: int, angle: float = 0.0, colour: str | None = None
) -> np.ndarray:
    """A glyph turned about its middle: uint8 (H, W, 4), larger than `side` where it is turned."""
    tile = style_glyph(style, character)
    if colour is not None:
        tile = coloured(tile, colour)
    if side == TILE and not angle:
        return tile
    picture = PillowImage.fromarray(tile).convert("RGBa")  # or the surround bleeds into the edge
    if side != TILE:
        picture = picture.resize((side, side), PillowImage.Resampling.LANCZOS)
    if angle:
        picture = picture.rotate(angle, PillowImage.Resampling.BICUBIC, expand=True)
    return np.asarray(picture.convert("RGBA"))


def paint_things(
    things: Sequence[PlacedThing], ground: Colour, side: int = SIDE, shadow: bool = False
) -> np.ndarray:
    """A picture of things on a plain ground, the last on top: uint8 (side, side, 3).

    side: other than 96 scales all of it. shadow: soft and dark, below and to the right of each.
    """
    scale = side / SIDE
    canvas = PillowImage.new("RGB", (side, side), ground)
    for thing in things:
        size = max(1, round(thing.side * scale))
        pixels = turned_tile(thing.style, thing.subject.glyph, size, thing.angle, thing.colour)
        tile = PillowImage.fromarray(pixels)
        y, x = (round(corner * scale) for corner in (thing.y, thing.x))
        y, x = y - (tile.height - size) // 2, x - (tile.width - size) // 2
        if shadow:
            dark, reach = _shadow(tile, size)
            canvas.paste(dark, (x - reach, y - reach), dark)
        canvas.paste(tile, (x, y), tile)
    return np.asarray(canvas)


def _shadow(tile: PillowImage.Image, size: int) -> tuple[PillowImage.Image, int]:
    """The shadow of a glyph, and how far its corner lies outside the glyph's own."""
    reach = max(1, size // 16)
    dark = PillowImage.new("RGBA", (tile.width + 4 * reach, tile.height + 4 * reach))
    dark.paste((0, 0, 0, 110), (2 * reach, 2 * reach), tile.getchannel("A"))
    return dark.filter(ImageFilter.GaussianBlur(reach / 2)), reach


def scatter(
    subjects: Sequence[Subject],
    rng: np.random.Generator,
    sides: tuple[int, int],
    angle: float = 0.0,
    style: str = "noto",
) -> tuple[PlacedThing, ...]:
    """Things at random places, whole and apart: their boxes do not meet.

    sides: the least and the largest side, pixels; they shrink where so many things find no place.
    angle: the most that each is turned, degrees, either way.
    """
    least, most = sides
    while True:
        for _ in range(40):
            boxes: list[tuple[int, int, int]] = []
            for _ in subjects:
                side = int(rng.integers(least, most + 1))
                room = 2 + round(side * np.sin(np.radians(angle)) / 2)  # a turned box is larger
                if SIDE - side - room <= room:
                    room = (SIDE - side) // 2
                y, x = map(int, rng.integers(room, SIDE - side - room + 1, 2))
                if any(_meet((y, x, side), box, 1) for box in boxes):
                    break
                boxes.append((y, x, side))
            if len(boxes) == len(subjects):
                return tuple(
                    PlacedThing(subject, side, y, x, float(rng.uniform(-angle, angle)), style)
                    for subject, (y, x, side) in zip(subjects, boxes)
                )
        least, most = max(16, least - 2), max(20, most - 4)


def _meet(first: tuple[int, int, int], second: tuple[int, int, int], gap: int) -> bool:
    return all(
        a < b + second[2] + gap and b < a + first[2] + gap for a, b in zip(first[:2], second[:2])
    )


def nearest_colour(rgb: np.ndarray) -> str | None:
    """The colour of `COLOURS` that is nearest to an RGB value in [0, 1]; None for a grey."""
    hue, saturation, value = colorsys.rgb_to_hsv(*map(float, rgb))
    if saturation < 0.15 or value < 0.15:
        return None
    apart = {name: abs(own - hue) for name, (own, *_) in COLOURS.items()}
    name = min(apart, key=lambda name: min(apart[name], 1 - apart[name]))
    return "pink" if name == "red" and saturation < _PALE and value > 0.7 else name

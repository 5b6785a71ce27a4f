"""Painting free scenes: from what a picture shows to its pixels."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageFilter

from unified_data.world.free_scene import FreeScene, Lettering, Thing
from unified_data.world.glyphs import tile
from unified_data.world.ground import paint_ground
from unified_data.world.lettering import writing_mask, writing_width

__all__ = ["SIDE", "cover_of", "paint", "paste_tile"]

SIDE = 96
"""Side of the world's pictures in pixels."""
_MAX_SIDE = 1_024
_SHADOW = (0.025, 0.035)  # how far a shadow lies to the right and below, as a share of the side


def paint(scene: FreeScene, side: int = SIDE) -> np.ndarray:
    """Paint a scene: (side, side, 3) uint8.

    Raises ValueError for a side outside 8 to 1024, and a thing that has no such tint.
    """
    if not 8 <= side <= _MAX_SIDE:
        raise ValueError(f"side {side} is out of range, expected 8 to {_MAX_SIDE} pixels")
    canvas = paint_ground(scene.ground, side)
    for thing in scene.things:
        picture = tile(thing.name, thing.style, thing.tint)
        paste_tile(canvas, picture, thing.x, thing.y, thing.scale, thing.turn, thing.mirrored,
                   scene.shadow)  # fmt: skip
    if scene.writing is not None:
        _write(canvas, scene.writing)
    return np.clip(canvas + 0.5, 0, 255).astype(np.uint8)


def paste_tile(
    canvas: np.ndarray,
    picture: Image.Image,
    x: float,
    y: float,
    scale: float,
    turn: float = 0.0,
    mirrored: bool = False,
    shadow: float = 0.0,
) -> None:
    """Paint a square picture (mode RGBa) into a canvas, float32 (side, side, 3), in place.

    The rest is as `Thing` and `FreeScene` have it.
    """
    placed = _placed_tile(canvas.shape[0], picture, x, y, scale, turn, mirrored)
    if placed is None:
        return
    patch, left, top = placed
    if shadow:
        _darken(canvas, patch.getchannel("a"), left, top, shadow)
    pixels = np.asarray(patch).astype(np.float32)
    region = canvas[top : top + patch.height, left : left + patch.width]
    region *= 1 - pixels[..., 3:] / 255
    region += pixels[..., :3]


def cover_of(thing: Thing, side: int = SIDE) -> np.ndarray:
    """How much of each pixel a thing covers where `paint` puts it, 0 to 1: float32 (side, side)."""
    cover = np.zeros((side, side), np.float32)
    picture = tile(thing.name, thing.style, thing.tint)
    placed = _placed_tile(side, picture, thing.x, thing.y, thing.scale, thing.turn, thing.mirrored)
    if placed is not None:
        patch, left, top = placed
        alpha = np.asarray(patch.getchannel("a"), np.float32) / 255
        cover[top : top + patch.height, left : left + patch.width] = alpha
    return cover


def _placed_tile(
    side: int, picture: Image.Image, x: float, y: float, scale: float, turn: float, mirrored: bool
) -> tuple[Image.Image, int, int] | None:
    """A picture as it lies in a canvas: (patch, left, top) in pixels; None: outside it."""
    wide = scale * side
    # What is smaller than the tile is averaged down first: the turn itself looks at few pixels.
    fitted = min(picture.width, max(1, round(wide)))
    if fitted < picture.width:
        picture = picture.resize((fitted, fitted), Image.Resampling.BICUBIC)
    zoom = fitted / wide
    radians = math.radians(turn)
    cosine, sine = zoom * math.cos(radians), zoom * math.sin(radians)
    reach = (abs(math.cos(radians)) + abs(math.sin(radians))) * wide / 2 + 1
    left, right = _span(x * side, reach, side)
    top, bottom = _span(y * side, reach, side)
    if right <= left or bottom <= top:
        return None
    flip = -1.0 if mirrored else 1.0
    # From pixels of the patch, counted from its corner, to pixels of the picture. The picture's
    # y axis points down, so that a counter-clockwise turn is this one.
    dx, dy = left - x * side, top - y * side
    middle = fitted / 2
    matrix = (flip * cosine, -flip * sine, flip * (cosine * dx - sine * dy) + middle,
              sine, cosine, sine * dx + cosine * dy + middle)  # fmt: skip
    patch = picture.transform(
        (right - left, bottom - top), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    )
    return patch, left, top


def _span(centre: float, reach: float, side: int) -> tuple[int, int]:
    return max(0, math.floor(centre - reach)), min(side, math.ceil(centre + reach))


def _darken(canvas: np.ndarray, alpha: Image.Image, left: int, top: int, strength: float) -> None:
    side = canvas.shape[0]
    left += round(_SHADOW[0] * side)
    top += round(_SHADOW[1] * side)
    soft = np.asarray(alpha.filter(ImageFilter.GaussianBlur(0.02 * side)), np.float32)
    region = canvas[top : top + soft.shape[0], left : left + soft.shape[1]]
    region *= 1 - soft[: region.shape[0], : region.shape[1], None] * (strength / 255)


def _write(canvas: np.ndarray, writing: Lettering) -> None:
    side = canvas.shape[0]
    high = max(1, round(writing.height * side))
    wide = max(1, round(writing.height * side * writing_width(writing.text)))
    mask = writing_mask(writing.text).resize((wide, high), Image.Resampling.BOX)
    left, top = round(writing.x * side - wide / 2), round(writing.y * side - high / 2)
    if left < 0 or top < 0 or left + wide > side or top + high > side:
        raise ValueError(
            f"the writing {writing.text!r}, {wide}x{high} pixels at ({writing.x:g}, {writing.y:g}),"
            f" does not fit into {side}x{side}"
        )
    share = np.asarray(mask, np.float32)[..., None] / 255
    region = canvas[top : top + high, left : left + wide]
    region += (np.array(writing.colour, np.float32) - region) * share

"""Glyphs of the world's styles, plain or tinted, and what of them shows on a ground."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
from PIL import Image

from unified_data.pocket.atlas import TILE, glyph
from unified_data.pocket.subjects import find_subject
from unified_data.world.colours import RGB, TINTS, clear_colour, nearest_colour
from unified_data.world.style_names import (
    COLUMNS,
    STRANGERS,
    STYLES,
    TRAIN_STYLES,
    WHOLE_STYLES,
)

__all__ = [
    "TILE", "Body", "body_of", "common_style", "stranger_tile", "styles_folder", "styles_of",
    "tile", "visible_share",
]  # fmt: skip

_LEAST_BODY = 0.4  # a glyph whose main colour is less of it than this is not tinted
_TINTABLE = """
T-shirt; pair of jeans; scarf; pair of gloves; dress; running shoe; top hat; teapot; apple; pear;
bunch of grapes; key; bucket; candle; umbrella; chair; door; pencil; backpack; ball of yarn;
teddy bear; balloon; lantern; crown; snail; butterfly; ladybird; spider; ant; parrot; owl; duck;
flamingo; cat; dog; horse; pig; sheep; rabbit; mouse; elephant; rhinoceros; hippopotamus; fox; wolf;
bat; koala; kangaroo; monkey; deer; turtle; snake; lizard; crocodile; tyrannosaurus; whale;
dolphin; octopus; squid; crab; shark; rose; tulip; maple leaf; boxing glove; yo-yo; chess pawn;
telephone; robot; battery; shield; anchor; alarm clock; magnet; wrench; car; bus; tram; lorry;
tractor; motorcycle; bicycle; racing car; aeroplane; helicopter; skateboard; star; guitar;
violin; drum; accordion; bell; tent; ice skate; camera; radio; house; castle
"""


class Body(NamedTuple):
    """A glyph's main colour. weight: float32 (TILE, TILE) in 0..1, how much a pixel belongs to it;
    luma: of the middle one of its pixels, 0 to 255; near: the tint that it is nearest to; colour:
    what everybody would call it, None where people may differ."""

    weight: np.ndarray
    luma: float
    near: str
    colour: str | None


def styles_folder() -> resources.abc.Traversable:
    return resources.files(__package__) / "styles"


@cache
def _tintable() -> frozenset[str]:
    names = [" ".join(name.split()) for name in _TINTABLE.split(";")]
    unknown = [name for name in names if find_subject(name) is None]
    assert not unknown, unknown
    return frozenset(names)


@cache
def _numbers(style: str) -> dict[str, int]:
    """Where each glyph is in a style's sheet."""
    index = json.loads((styles_folder() / "index.json").read_text("utf-8"))
    return {character: number for number, character in enumerate(index["subjects"][style])}


@cache
def styles_of(name: str) -> tuple[str, ...]:
    """The styles that draw a subject; none of what is no subject."""
    subject = find_subject(name)
    if subject is None:
        return ()
    return tuple(style for style in STYLES if subject.glyph in _numbers(style))


def common_style(names: Sequence[str], rng: np.random.Generator) -> str:
    """A training style that draws all of these subjects."""
    styles = [style for style in TRAIN_STYLES if all(style in styles_of(name) for name in names)]
    return styles[int(rng.integers(len(styles)))]


@cache
def _sheet(name: str) -> np.ndarray:
    with (styles_folder() / f"{name}.webp").open("rb") as file:
        return np.asarray(Image.open(file, formats=["WEBP"]).convert("RGBA"))


def _cut(sheet: np.ndarray, number: int) -> np.ndarray:
    row, column = divmod(number, COLUMNS)
    return sheet[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]


@cache
def _straight(name: str, style: str) -> np.ndarray:
    """(TILE, TILE, 4) uint8, straight alpha, of a subject."""
    if style not in styles_of(name):
        raise ValueError(
            f"no glyph of {name!r} in style {style!r}; it is drawn in"
            f" {', '.join(styles_of(name)) or 'none'}"
        )
    subject = find_subject(name)
    assert subject is not None
    if style == "noto":
        return glyph(subject.glyph)
    return _cut(_sheet(style), _numbers(style)[subject.glyph])


@cache
def tile(name: str, style: str, tint: str | None = None) -> Image.Image:
    """A subject's glyph in a style: an image of mode RGBa (premultiplied), TILE pixels a side.

    tint: a name of `TINTS` that its main colour becomes. Shared: do not write to it.

    Raises ValueError for an unknown subject or style, and a tint of what has no main colour.
    """
    straight = _straight(name, style)
    if tint is not None:
        body = body_of(name, style)
        if body is None or tint not in TINTS:
            raise ValueError(f"{name!r} in style {style!r} cannot be made {tint!r}")
        straight = _tinted(straight, body, TINTS[tint])
    return Image.fromarray(np.ascontiguousarray(straight)).convert("RGBa")


@cache
def stranger_tile(number: int, style: str) -> Image.Image:
    """As `tile`, of one of `STRANGERS` by its number, in one of `WHOLE_STYLES`."""
    sheet = _sheet("strangers")
    straight = _cut(sheet, WHOLE_STYLES.index(style) * len(STRANGERS) + number)
    return Image.fromarray(np.ascontiguousarray(straight)).convert("RGBa")


def _hsv(straight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hue in degrees, saturation and value of every pixel."""
    rgb = straight[..., :3].astype(np.float32) / 255
    value, low = rgb.max(-1), rgb.min(-1)
    spread = np.maximum(value - low, 1e-6)
    red, green, blue = np.moveaxis(rgb, -1, 0)
    hue = np.where(
        value == red, (green - blue) / spread,
        np.where(value == green, 2 + (blue - red) / spread, 4 + (red - green) / spread),
    )  # fmt: skip
    return (hue * 60) % 360, (value - low) / np.maximum(value, 1e-6), value


def _luma(straight: np.ndarray) -> np.ndarray:
    return straight[..., :3].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


@cache
def body_of(name: str, style: str) -> Body | None:
    """A subject's main colour in a style; None where it has none, or would be another thing in
    another colour (a pizza, a rainbow)."""
    if name not in _tintable():
        return None
    straight = _straight(name, style)
    alpha = straight[..., 3].astype(np.float32) / 255
    hue, saturation, value = _hsv(straight)
    coloured = alpha * (saturation > 0.25) * (value > 0.25)
    if coloured.sum() >= 0.35 * alpha.sum():
        counts, _ = np.histogram(hue, 36, (0, 360), weights=coloured)
        smooth = counts + np.roll(counts, 1) + np.roll(counts, -1)
        peak = int(smooth.argmax()) * 10 + 5
        away = np.abs((hue - peak + 180) % 360 - 180)
        member = np.clip((45 - away) / 15, 0, 1) * np.clip((saturation - 0.12) / 0.12, 0, 1)
        member *= np.clip((value - 0.12) / 0.1, 0, 1)
    else:
        member = np.clip((0.4 - saturation) / 0.12, 0, 1) * np.clip((value - 0.12) / 0.1, 0, 1)
    weight = (member * alpha).astype(np.float32)
    if weight.sum() < _LEAST_BODY * alpha.sum():
        return None
    luma = _luma(straight)
    order = np.argsort(luma, axis=None)
    running = np.cumsum(weight.ravel()[order])
    middle = float(luma.ravel()[order][np.searchsorted(running, running[-1] / 2)])
    mean = (straight[..., :3] * weight[..., None]).sum((0, 1)) / weight.sum()
    rgb: RGB = (round(float(mean[0])), round(float(mean[1])), round(float(mean[2])))
    return Body(
        member.astype(np.float32), max(middle, 16.0), nearest_colour(rgb), clear_colour(rgb)
    )


def _tinted(straight: np.ndarray, body: Body, colour: RGB) -> np.ndarray:
    """The glyph with its main colour replaced; lighter and darker parts stay so."""
    ratio = (_luma(straight) / body.luma)[..., None]
    target = np.array(colour, np.float32)
    lighter = target + (255 - target) * np.clip(0.6 * (ratio - 1), 0, 0.7)
    shaded = np.where(ratio > 1, lighter, target * np.clip(ratio, 0.3, 1))
    weight = body.weight[..., None]
    rgb = straight[..., :3] * (1 - weight) + shaded * weight
    out = straight.copy()
    out[..., :3] = np.clip(rgb + 0.5, 0, 255).astype(np.uint8)
    return out


@cache
def _palette(name: str, style: str, tint: str | None) -> tuple[np.ndarray, np.ndarray]:
    """(colours float32 (N, 3), shares (N,)) of a coarse picture of a glyph."""
    small = tile(name, style, tint).resize((12, 12), Image.Resampling.BOX)
    pixels = np.asarray(small.convert("RGBA")).reshape(-1, 4).astype(np.float32)
    pixels = pixels[pixels[:, 3] > 40]
    return pixels[:, :3], pixels[:, 3] / pixels[:, 3].sum()


def visible_share(name: str, style: str, tint: str | None, ground: RGB) -> float:
    """How much of a glyph differs clearly from a ground of one colour, 0 to 1."""
    colours, shares = _palette(name, style, tint)
    away = np.abs(colours - np.array(ground, np.float32)).max(-1)
    return float(shares[away > 60].sum())

"""Colours with names: which ones have a name, and colours drawn from a name or from none.

A name stands for a box of hue (degrees), saturation and value. Between the boxes lies what has no
name: nobody has to say whether it is a blue or a purple.
"""

from __future__ import annotations

import colorsys
from functools import lru_cache

import numpy as np

__all__ = [
    "COLOURS", "RGB", "TINTS", "clear_colour", "colour_name", "nearest_colour", "sample_colour",
]  # fmt: skip

RGB = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

_BOXES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "white": ((0, 360), (0.0, 0.03), (0.96, 1.0)),
    "grey": ((0, 360), (0.0, 0.05), (0.42, 0.84)),
    "black": ((0, 360), (0.0, 0.25), (0.0, 0.14)),
    "red": ((-8, 6), (0.72, 1.0), (0.62, 1.0)),
    "orange": ((24, 36), (0.66, 1.0), (0.88, 1.0)),
    "yellow": ((48, 58), (0.38, 1.0), (0.9, 1.0)),
    "green": ((92, 150), (0.2, 1.0), (0.35, 0.95)),
    "blue": ((202, 232), (0.26, 1.0), (0.4, 1.0)),
    "purple": ((266, 290), (0.32, 1.0), (0.32, 0.9)),
    "pink": ((326, 350), (0.18, 0.5), (0.9, 1.0)),
    "brown": ((16, 32), (0.48, 0.85), (0.28, 0.55)),
}
COLOURS = tuple(_BOXES)
"""The names of colours."""

TINTS: dict[str, RGB] = {
    "red": (214, 36, 40), "orange": (248, 140, 24), "yellow": (250, 212, 40),
    "green": (56, 160, 70), "blue": (40, 110, 220), "purple": (134, 70, 190),
    "pink": (250, 140, 180), "brown": (126, 78, 44), "black": (46, 46, 50),
    "white": (240, 240, 240), "grey": (150, 150, 150),
}  # fmt: skip
"""What a thing's main colour becomes when it is given a colour."""

_EDGE = 1e-2  # colours are whole numbers: a drawn one may lie this far outside its box
_MARGIN = (8.0, 0.08, 0.08)  # a colour without a name is further than this from every box


def _inside(hsv: tuple[float, float, float], name: str, margin: tuple[float, float, float]) -> bool:
    hues, saturations, values = _BOXES[name]
    middle, reach = (hues[0] + hues[1]) / 2, (hues[1] - hues[0]) / 2
    return (
        values[0] - margin[2] <= hsv[2] <= values[1] + margin[2]
        and saturations[0] - margin[1] <= hsv[1] <= saturations[1] + margin[1]
        and abs((hsv[0] - middle + 180) % 360 - 180) <= reach + margin[0]
    )


def _hsv(rgb: RGB) -> tuple[float, float, float]:
    """Hue in degrees, saturation and value."""
    hue, saturation, value = colorsys.rgb_to_hsv(rgb[0] / 255, rgb[1] / 255, rgb[2] / 255)
    return hue * 360, saturation, value


@lru_cache(maxsize=4096)
def colour_name(rgb: RGB) -> str | None:
    """The name of a colour, or None where it has none."""
    hsv = _hsv(rgb)
    return next((name for name in _BOXES if _inside(hsv, name, (2.0, _EDGE, _EDGE))), None)


def sample_colour(rng: np.random.Generator, name: str | None) -> RGB:
    """A random colour of a name, or with None one that is clearly none of the named ones.

    Raises ValueError for a name that is not in `COLOURS`.
    """
    if name is not None and name not in _BOXES:
        raise ValueError(f"colour {name!r} has no name here, expected one of {', '.join(COLOURS)}")
    while name is None:
        # Saturated colours are as frequent as pale ones, dark ones are fewer.
        hsv = (rng.random(), rng.random() ** 0.8, rng.random() ** 0.6)
        rgb = _rgb(*hsv)
        whole = _hsv(rgb)
        if not any(_inside(whole, each, _MARGIN) for each in _BOXES):
            return rgb
    while True:
        hue, saturation, value = (low + (high - low) * rng.random() for low, high in _BOXES[name])
        rgb = _rgb((hue / 360) % 1, saturation, value)
        # In whole numbers a very dark colour may have another hue.
        if colour_name(rgb) == name:
            return rgb


def _rgb(hue: float, saturation: float, value: float) -> RGB:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def nearest_colour(rgb: RGB) -> str:
    """The tint that a colour is nearest to, by hue first: what one would call it if asked."""
    return _nearest(*_hsv(rgb))


def clear_colour(rgb: RGB) -> str | None:
    """As `nearest_colour`, where colours that are a little different are called the same."""
    hue, saturation, value = _hsv(rgb)
    names = {
        _nearest((hue + turn) % 360, saturation + pale, value + dark)
        for turn in (-7, 0, 7)
        for pale in (-0.06, 0.06)
        for dark in (-0.06, 0.06)
    }
    return names.pop() if len(names) == 1 else None


def _nearest(degrees: float, saturation: float, value: float) -> str:
    if value < 0.25:
        return "black"
    if saturation < 0.18:
        return "white" if value > 0.88 else "grey"
    if degrees < 14 or degrees >= 345:
        if value < 0.62 and saturation < 0.75:
            return "brown"
        return "pink" if saturation < 0.5 and value > 0.85 else "red"
    if degrees < 44:
        return "brown" if value < 0.72 or (saturation < 0.55 and value < 0.85) else "orange"
    for limit, name in ((68, "yellow"), (170, "green"), (250, "blue"), (295, "purple")):
        if degrees < limit:
            return name
    return "pink"

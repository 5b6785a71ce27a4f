"""The judge of pictures of any number of things: which, where, how many, and of what colour.

It is told neither how many things there are nor where they may lie. What a picture changes of its
ground is explained thing by thing: the glyph that fits best, in any of the styles given, at any
place, size and small turn, is seen there, its pixels are taken away, and the next is looked for,
until what is left is no glyph. Legend: H W pixels, N glyphs (subjects of each style).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image as PillowImage

from unified.evaluation.placed_things import COLOURS, nearest_colour, turned_tile
from unified_data.pocket.atlas import TILE
from unified_data.pocket.scenes import SIDE
from unified_data.pocket.subjects import Subject, load_subjects

__all__ = ["SceneJudge", "SeenThing", "ground_of"]

Array = np.ndarray[Any, np.dtype[np.float32]]
_COARSE = 4  # pixels of the picture to one of the first search
_PAD = 12  # pixels around the picture: a turned or cut thing may reach over its edge
_CANDIDATES = 6
_TURNS = (-12.0, -6.0, 6.0, 12.0)
_LEAST_FIT = 0.55
"""Normalised correlation inside its own window below which a match is no thing."""
_SURE = 0.9
"""Normalised correlation from which on no other style is looked at."""
_LEAST_CHANGE = 0.04
"""Root mean square change of the ground, of full scale, that a thing makes inside its window."""
_VISIBLE, _LEAST_PIXELS = 0.1, 40
"""Change of the ground, of full scale, that is seen, and the pixels that a thing changes so."""
_LEAST_TINTED = 0.04
"""Share of the changed pixels that a colour has before things are looked for in that colour."""


class SeenThing(NamedTuple):
    """A thing in a picture, which is scaled to a shorter side of 96 pixels.

    fit: normalised correlation inside its window, in [-1, 1]. y, x: the corner of its box, side:
    of the box. colour: of `placed_things.COLOURS`, of most of it; None: it has no hue.
    """

    subject: Subject
    fit: float
    y: int
    x: int
    side: int
    colour: str | None = None

    @property
    def centre(self) -> tuple[float, float]:
        """(y, x) of its box, pixels."""
        return self.y + self.side / 2, self.x + self.side / 2


class _Look(NamedTuple):
    """How glyphs may look: an art style, and the colour given to them in place of their own."""

    style: str
    colour: str | None


class _Match(NamedTuple):
    """A glyph at a place of the padded picture. gain: what it explains, times how well it fits."""

    gain: float
    fit: float
    change: float
    number: int
    look: _Look
    side: int
    angle: float
    y: int
    x: int


class SceneJudge:
    """Sees the things of a picture by normalised correlation with glyphs."""

    def __init__(
        self,
        subjects: Sequence[Subject] | None = None,
        styles: Sequence[str] = ("noto",),
        sides: tuple[int, int] = (24, TILE),
    ) -> None:
        """subjects: that it may name, None: all of the world's. sides: of things, pixels."""
        chosen = tuple(load_subjects() if subjects is None else subjects)
        if not chosen or not styles:
            raise ValueError("the judge was given no subjects; it needs at least one to name")
        self._subjects, self._styles, self._sides = chosen, tuple(styles), sides
        self._banks: dict[_Look, dict[int, np.ndarray]] = {}

    def things(self, pixels: np.ndarray, most: int = 6, tinted: bool = False) -> list[SeenThing]:
        """What a picture shows, the clearest first.

        pixels: uint8 (H, W, 3) of any size. most: things that are looked for. tinted: a thing may
        have one of `COLOURS` in place of its own colours.

        Raises ValueError for other pixels.
        """
        picture = _scaled(pixels).astype(np.float32) / np.float32(255)
        ground = ground_of(picture)
        flat = np.median(ground.reshape(-1, 3), axis=0).astype(np.float32)
        border = ((_PAD, _PAD), (_PAD, _PAD), (0, 0))
        change = np.pad(picture - ground, border)
        tints = _tints(picture, change[_PAD:-_PAD, _PAD:-_PAD]) if tinted else []
        looks = [_Look(style, tint) for style in self._styles for tint in (None, *tints)]
        templates: dict[_Look, dict[int, Array]] = {}
        picture = np.pad(picture, border)
        seen: list[SeenThing] = []
        while len(seen) < most:
            match = self._best(change, flat, looks, templates)
            if match is None or match.fit < _LEAST_FIT or match.change < _LEAST_CHANGE:
                break
            tile = self._tile(match)
            rows, columns = (slice(at, at + n) for at, n in zip((match.y, match.x), tile.shape))
            inside = tile[..., 3] > 0.5
            grown = (tile.shape[0] - match.side) // 2
            seen.append(
                SeenThing(
                    self._subjects[match.number], match.fit, match.y - _PAD + grown,
                    match.x - _PAD + grown, match.side,
                    _main_colour(picture[rows, columns][inside]),
                )
            )  # fmt: skip
            change[rows, columns][tile[..., 3] > 0.02] = 0
        return seen

    def _bank(self, look: _Look) -> dict[int, np.ndarray]:
        """Every glyph at every size of the first search: {side: uint8 (N, side, side, 4)}.

        In 8 bits, as the banks of all styles and colours would fill half a gigabyte otherwise.
        """
        if look not in self._banks:
            first, last = (round(side / _COARSE) for side in self._sides)
            # Above 10 pixels every other size is near enough for the refinement.
            sides = [side for side in range(first, last + 1) if side <= 10 or side % 2 == 0]
            self._banks[look] = {
                side: np.stack(
                    [
                        turned_tile(look.style, subject.glyph, side, 0.0, look.colour)
                        for subject in self._subjects
                    ]
                )
                for side in sides
            }
        return self._banks[look]

    def _tile(self, match: _Match) -> Array:
        glyph = self._subjects[match.number].glyph
        look = match.look
        tile = turned_tile(look.style, glyph, match.side, match.angle, look.colour)
        return _premultiplied(tile)

    def _best(
        self,
        change: Array,
        flat: Array,
        looks: Sequence[_Look],
        templates: dict[_Look, dict[int, Array]],
    ) -> _Match | None:
        """The glyph that explains most of what differs from the ground, None for nothing.

        A look in which something fits well enough is the last that is searched. templates: of
        this ground, kept for the next search.
        """
        if np.count_nonzero(np.abs(change).max(axis=-1) > _VISIBLE) < _LEAST_PIXELS:
            return None
        height, width = (size // _COARSE for size in change.shape[:2])
        small = change[: height * _COARSE, : width * _COARSE]
        small = small.reshape(height, _COARSE, width, _COARSE, 3).mean(axis=(1, 3))
        best: _Match | None = None
        for look in looks:
            if look not in templates:
                templates[look] = {
                    side: _over(_premultiplied(tiles), flat)
                    for side, tiles in self._bank(look).items()
                }
            for candidate in self._search(small, templates[look], look):
                match = self._refine(change, flat, candidate)
                if best is None or match.gain > best.gain:
                    best = match
            if best is not None and best.fit >= _SURE:
                break
        return best

    def _search(self, small: Array, templates: dict[int, Array], look: _Look) -> list[_Match]:
        """The best places at a quarter of the resolution, each of another glyph."""
        best = np.full((len(self._subjects), 4), -np.inf, np.float32)  # gain, side, y, x
        for side, units in templates.items():
            if side > min(small.shape[:2]):
                continue
            windows = sliding_window_view(small, (side, side), axis=(0, 1))
            rows, columns = windows.shape[:2]
            flattened = windows.transpose(0, 1, 3, 4, 2).reshape(rows * columns, -1)
            lengths = np.maximum(np.linalg.norm(flattened, axis=1), 1e-4)
            inner = units @ flattened.T  # (N, places)
            # What a glyph explains counts by how much of its window it explains: or a large one
            # that touches two things would be seen before either.
            gains = np.maximum(inner, 0) ** 2 / lengths
            places = gains.argmax(axis=1)
            y, x = np.divmod(places, columns)
            peaks_of_side = np.stack([gains.max(axis=1), np.full_like(y, side), y, x], axis=1)
            better = peaks_of_side[:, 0] > best[:, 0]
            best[better] = peaks_of_side[better]
        order = np.argsort(-best[:, 0])[:_CANDIDATES]
        return [
            _Match(
                float(best[i, 0]), 0.0, 0.0, int(i), look, int(best[i, 1]) * _COARSE, 0.0,
                int(best[i, 2]) * _COARSE, int(best[i, 3]) * _COARSE,
            )
            for i in order
        ]  # fmt: skip

    def _refine(self, change: Array, flat: Array, match: _Match) -> _Match:
        """One glyph near a coarse place: its position, then its size, then its turn."""
        best = self._around(change, flat, match, match.side, 0.0, 4)
        for side in range(match.side - 4, match.side + 5):
            if side != match.side and self._sides[0] <= side <= SIDE:
                best = _better(best, self._around(change, flat, best, side, 0.0, 1))
        for angle in _TURNS:
            best = _better(best, self._around(change, flat, best, best.side, angle, 1))
        return best

    def _around(
        self, change: Array, flat: Array, near: _Match, side: int, angle: float, reach: int
    ) -> _Match:
        """The best place of a glyph about the middle of a match, at most `reach` away from it."""
        before = self._tile(near).shape if near.fit else (near.side, near.side)
        tile = self._tile(near._replace(side=side, angle=angle))
        (top, bottom), (left, right) = (
            (max(0, middle - reach), min(middle + reach, size - own))
            for middle, size, own in (
                (at + (old - new) // 2, whole, new)
                for at, old, new, whole in zip(
                    (near.y, near.x), before, tile.shape, change.shape
                )
            )
        )  # fmt: skip
        if bottom < top or right < left:
            return near._replace(gain=-1.0)
        height, width = tile.shape[:2]
        part = change[top : bottom + height, left : right + width]
        windows = sliding_window_view(part, (height, width), axis=(0, 1))
        rows, columns = windows.shape[:2]
        flattened = windows.transpose(0, 1, 3, 4, 2).reshape(rows * columns, -1)
        inner = flattened @ _over(tile[None], flat)[0]
        fits = inner / np.maximum(np.linalg.norm(flattened, axis=1), 1e-4)
        gains = np.maximum(inner, 0) * np.maximum(fits, 0)
        peak = int(gains.argmax())
        y, x = divmod(peak, columns)
        return _Match(
            float(gains[peak]), float(fits[peak]),
            float(inner[peak]) / float(np.sqrt(tile[..., :3].size)), near.number, near.look,
            side, angle, top + y, left + x,
        )  # fmt: skip


def _better(first: _Match, second: _Match) -> _Match:
    return second if second.gain > first.gain else first


def ground_of(picture: Array) -> Array:
    """The ground of a picture (H, W, 3): the plane that most of its border lies on.

    Fitted by least absolute differences, so that things at the border do not bend it.
    """
    height, width = picture.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    basis = np.stack([np.ones_like(y), y / height - 0.5, x / width - 0.5], axis=-1)
    edge = np.zeros((height, width), bool)
    edge[[0, 1, -2, -1]] = edge[:, [0, 1, -2, -1]] = True
    rows, values = basis[edge], picture[edge]
    plane = np.zeros((3, 3), np.float32)
    plane[0] = np.median(values, axis=0)
    for _ in range(8):  # iteratively reweighted least squares
        apart = np.abs(values - rows @ plane).sum(axis=1, keepdims=True)
        weights = 1 / np.maximum(apart, 0.01)
        plane = np.linalg.lstsq(rows * weights**0.5, values * weights**0.5, rcond=None)[0]
    ground: Array = (basis @ plane).astype(np.float32).clip(0, 1)
    return ground


def _scaled(pixels: np.ndarray) -> np.ndarray:
    """A picture with a shorter side of 96 pixels. Raises ValueError for what is no picture."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(
            f"pixels are {pixels.dtype} {pixels.shape}, expected a uint8 array (H, W, 3)"
        )
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    if shorter == SIDE:
        return pixels
    size = round(width * SIDE / shorter), round(height * SIDE / shorter)
    smaller = shorter > SIDE
    way = PillowImage.Resampling.BOX if smaller else PillowImage.Resampling.BICUBIC
    return np.asarray(PillowImage.fromarray(pixels).resize(size, way))


def _premultiplied(tile: np.ndarray) -> Array:
    """Glyphs (..., 4) of 8 bits: colours multiplied by alpha, then alpha, in [0, 1]."""
    scaled = tile.astype(np.float32) / 255
    return np.concatenate([scaled[..., :3] * scaled[..., 3:], scaled[..., 3:]], axis=-1)


def _over(tiles: Array, flat: Array) -> Array:
    """What glyphs change of a plain ground: (N, H * W * 3), each of length 1."""
    change = (tiles[..., :3] - tiles[..., 3:] * flat).reshape(len(tiles), -1)
    unit: Array = change / np.maximum(np.linalg.norm(change, axis=1, keepdims=True), 1e-6)
    return unit


def _tints(picture: Array, change: Array) -> list[str]:
    """The colours that what differs from the ground has, of those that a thing may be given."""
    changed = picture[np.abs(change).max(axis=-1) > 0.1]
    names = _colours(changed)
    return [name for name in COLOURS if names.count(name) > _LEAST_TINTED * len(names)]


def _main_colour(pixels: Array) -> str | None:
    """The colour that most of some pixels (M, 3) have; None where less than a fifth has a hue."""
    names = _colours(pixels)
    counts = {name: names.count(name) for name in COLOURS}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] >= max(1, len(names) / 5) else None


def _colours(pixels: Array) -> list[str | None]:
    step = max(1, len(pixels) // 300)
    return [nearest_colour(pixel) for pixel in pixels[::step]]

"""Judging what a model makes: pictures by their glyphs, words by edits.

The judge of pictures knows the atlas and nothing of the world's own layout: a glyph may lie
anywhere and have any size, and whatever fits the picture best is what the picture shows.

Legend: H W pixels, N subjects.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image as PillowImage

from unified_base.extras import missing_extra
from unified_data.pocket.atlas import TILE, glyph
from unified_data.pocket.subjects import Subject, load_subjects

__all__ = [
    "GlyphJudge",
    "Match",
    "corpus_word_error_rate",
    "word_edits",
    "word_error_rate",
    "word_recall",
    "words",
]

Array = np.ndarray[Any, np.dtype[np.float32]]


class Match(NamedTuple):
    """A glyph found in a picture.

    score: normalised correlation in [-1, 1]. y, x: its top-left corner, side: its size, in pixels.
    """

    subject: Subject
    score: float
    y: int
    x: int
    side: int


class GlyphJudge:
    """Names what a picture shows by normalised correlation with every glyph of the atlas.

    The picture's background colour is read from its border and subtracted. A glyph at a position
    and a size, over the same background, predicts what is left; its score is the cosine between
    prediction and picture, which is 1 for a perfect render. Both include the glyph's surround, so a
    plain glyph does not win by lying inside a larger thing of its colour. The search runs over all
    positions and sizes at a third of the resolution, then around the best candidates at full
    resolution.
    """

    SIDES = (40, TILE)
    """Sizes searched for the one thing of a picture, pixels, both ends included."""
    SMALL_SIDES = (40, 48)
    """Sizes searched for each of two things."""

    _COARSE = 3
    _CANDIDATES = 6

    def __init__(self, subjects: Sequence[Subject] | None = None) -> None:
        """subjects: those it may name; the default is all of the world's."""
        self.subjects = tuple(load_subjects() if subjects is None else subjects)
        if not self.subjects:
            raise ValueError("the judge was given no subjects; it needs at least one to name")
        first, last = (round(side / self._COARSE) for side in self.SIDES)
        self._tiles = {
            side: np.stack([_tile(subject.glyph, side) for subject in self.subjects])
            for side in range(first, last + 1)
        }

    def best(self, pixels: np.ndarray) -> Match:
        """The glyph that explains a picture best.

        pixels: uint8 (H, W, 3), at least 84x84. A picture of plain background scores 0.

        Raises ValueError for other pixels.
        """
        background, figure = self._read(pixels)
        return self._search(background, figure, self.SIDES)

    def best_small(self, pixels: np.ndarray) -> Match:
        """The small glyph that explains a picture of several things best.

        Raises ValueError as `best` does.
        """
        return self._search(*self._read(pixels), self.SMALL_SIDES)

    def best_two(self, pixels: np.ndarray) -> tuple[Match, Match]:
        """The two things of a picture: the best match of a small glyph, then the best beside it.

        The windows of the two overlap by at most a tenth. Raises ValueError as `best` does.
        """
        background, figure = self._read(pixels)
        first = self._search(background, figure, self.SMALL_SIDES)
        rest = figure.copy()
        rest[first.y : first.y + first.side, first.x : first.x + first.side] = 0
        return first, self._search(background, rest, self.SMALL_SIDES, beside=first)

    def _read(self, pixels: np.ndarray) -> tuple[Array, Array]:
        """The background colour (3,) and the picture without it (H, W, 3), in units of 255."""
        least = self.SIDES[1]
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(
                f"pixels are {pixels.dtype} {pixels.shape}, expected a uint8 array (H, W, 3)"
            )
        height, width, _ = pixels.shape
        if min(height, width) < least:
            raise ValueError(
                f"the picture is {height}x{width} pixels, expected at least {least}x{least}"
            )
        scaled = pixels.astype(np.float32) / 255
        border = (scaled[0], scaled[-1], scaled[:, 0], scaled[:, -1])
        background = np.median(np.concatenate(border), axis=0)
        return background, scaled - background

    def _search(
        self, background: Array, figure: Array, sides: tuple[int, int], beside: Match | None = None
    ) -> Match:
        energy = float(np.linalg.norm(figure))
        if energy == 0:
            return Match(self.subjects[0], 0.0, 0, 0, sides[0])
        factor = self._COARSE
        height, width = (side // factor for side in figure.shape[:2])
        small = np.stack(
            [
                np.asarray(
                    PillowImage.fromarray(np.ascontiguousarray(figure[..., k])).resize(
                        (width, height), PillowImage.Resampling.BOX
                    )
                )
                for k in range(3)
            ],
            axis=-1,
        )
        # The best place of every subject: (score, side, y, x).
        coarse = np.full((len(self.subjects), 4), -np.inf, np.float32)
        for side in range(round(sides[0] / factor), round(sides[1] / factor) + 1):
            scores = _correlate(small, _over(self._tiles[side], background))  # (N, y, x)
            if beside is not None:
                scores = np.where(_overlap(scores.shape, side, beside, factor) > 0.1, -1e9, scores)
            flat = scores.reshape(len(scores), -1)
            peaks = flat.argmax(axis=1)
            y, x = np.divmod(peaks, scores.shape[2])
            rows = np.stack([flat.max(axis=1), np.full_like(y, side), y, x], axis=1)
            better = rows[:, 0] > coarse[:, 0]
            coarse[better] = rows[better]
        order = np.argsort(-coarse[:, 0])[: self._CANDIDATES]
        matches = [self._refine(background, figure, sides, int(i), coarse[i]) for i in order]
        best = max(matches, key=lambda match: match.score)
        return best._replace(score=best.score / energy)

    def _refine(
        self, background: Array, figure: Array, sides: tuple[int, int], number: int, coarse: Array
    ) -> Match:
        """The best of one subject near a coarse place: first its position, then its size."""
        side, y, x = (int(value) * self._COARSE for value in coarse[1:])
        subject = self.subjects[number]
        side = min(max(side, sides[0]), sides[1])
        best = Match(subject, -math.inf, y, x, side)
        best = self._around(background, figure, best, side, 3)
        for near in range(max(side - 2, sides[0]), min(side + 2, sides[1]) + 1):
            if near != side:
                other = self._around(background, figure, best, near, 1)
                best = max(best, other, key=lambda match: match.score)
        return best

    def _around(
        self, background: Array, figure: Array, match: Match, side: int, reach: int
    ) -> Match:
        """The best place of a glyph of some size, its corner at most `reach` from a match's."""
        limits = [size - side for size in figure.shape[:2]]
        shift = (match.side - side) // 2
        (top, bottom), (left, right) = (
            (min(max(0, at + shift - reach), limit), min(max(0, at + shift + reach), limit))
            for at, limit in zip((match.y, match.x), limits)
        )
        template = _over(_tile(match.subject.glyph, side)[None], background)
        part = figure[top : bottom + side, left : right + side]
        scores = _correlate(part, template)[0]
        y, x = divmod(int(scores.argmax()), scores.shape[1])
        return Match(match.subject, float(scores[y, x]), top + y, left + x, side)


@lru_cache(maxsize=512)
def _tile(character: str, side: int) -> Array:
    """A glyph, (side, side, 4): colours multiplied by alpha, then alpha, in units of 255."""
    tile = glyph(character, side).astype(np.float32) / 255
    return np.concatenate([tile[..., :3] * tile[..., 3:], tile[..., 3:]], axis=-1)


def _over(tiles: Array, background: Array) -> Array:
    """What glyphs change of a background, (N, side * side * 3), each of length 1."""
    change = tiles[..., :3] - tiles[..., 3:] * background
    flat = change.reshape(len(change), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _correlate(figure: Array, templates: Array) -> Array:
    """Inner products at every place where the templates lie inside: (N, y, x)."""
    side = math.isqrt(templates.shape[1] // 3)
    windows = sliding_window_view(figure, (side, side), axis=(0, 1))
    rows, columns = windows.shape[:2]
    flat = windows.transpose(0, 1, 3, 4, 2).reshape(rows * columns, -1)
    return (templates @ flat.T).reshape(len(templates), rows, columns)


def _overlap(shape: tuple[int, ...], side: int, match: Match, factor: int) -> Array:
    """Share of a coarse window at every place (y, x) that lies inside a match's window."""
    spans = []
    for at, places in ((match.y, shape[1]), (match.x, shape[2])):
        start = np.arange(places) * factor
        stop = np.minimum(start + side * factor, at + match.side)
        spans.append(np.maximum(0, stop - np.maximum(start, at)))
    return np.multiply.outer(*spans) / (side * factor) ** 2


def words(text: str) -> list[str]:
    """The words of a text: lower case, apostrophes dropped, all other punctuation splits."""
    return re.findall(r"\w+", re.sub(r"['’]", "", text.lower()))


def word_error_rate(reference: str, hypothesis: str) -> float:
    """Words to insert, delete or replace for the reference, over its number of words; may pass 1.

    Raises ValueError for a reference without words, or without jiwer (the extra `measure`).
    """
    return corpus_word_error_rate([(reference, hypothesis)])


def corpus_word_error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Edits of all (reference, hypothesis) pairs over the words of all references.

    Raises ValueError where no reference has a word, or without jiwer (the extra `measure`).
    """
    try:
        import jiwer
    except ImportError:
        raise missing_extra("a word error rate", "jiwer", "measure") from None
    spaced = [tuple(" ".join(words(text)) for text in pair) for pair in pairs]
    # Without a word in any reference jiwer gives a number of edits, which is no rate.
    if not any(reference for reference, _ in spaced):
        raise ValueError("there is no reference with words in it, so there is no error rate")
    references, hypotheses = zip(*spaced)
    return float(jiwer.wer(list(references), list(hypotheses)))


def word_edits(reference: str, hypothesis: str) -> tuple[int, int]:
    """Words to insert, delete or replace for the reference, and the number of its words."""
    expected, recognized = words(reference), words(hypothesis)
    row = list(range(len(recognized) + 1))
    for i, word in enumerate(expected, start=1):
        previous, row = row, [i]
        for j, other in enumerate(recognized, start=1):
            replaced = previous[j - 1] + (word != other)
            row.append(min(replaced, previous[j] + 1, row[-1] + 1))
    return row[-1], len(expected)


def word_recall(reference: str, hypothesis: str) -> float:
    """Share of the reference's words that come back in their order (longest common subsequence).

    Raises ValueError for a reference without words.
    """
    expected, recognized = words(reference), words(hypothesis)
    if not expected:
        raise ValueError(f"the reference {reference!r} has no words, so nothing can come back")
    row = [0] * (len(recognized) + 1)
    for word in expected:
        previous, row = row, [0]
        for j, other in enumerate(recognized, start=1):
            row.append(previous[j - 1] + 1 if word == other else max(previous[j], row[-1]))
    return row[-1] / len(expected)

"""Places as codes: a grid of cells over a picture, and the cells' numbers (location ids).

As in Pix2Seq (arXiv:2109.10852), Kosmos-2 (arXiv:2306.14824) and PaliGemma (`<loc0512>`), a
coordinate is one id of a block of bins that both axes share: a box is four of them, a point two.
Nothing is learnt; what there is to say is how a place is rounded.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from unified_base.structured import read_json
from unified_base.text import quoted
from unified_tokenizers.plain_codes import PlainCodes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MAX_BINS", "LocationTokenizer"]

MAX_BINS = 65_536
_COORDINATES = {"box": 4, "point": 2}
Number = int | float


class LocationTokenizer(PlainCodes):
    """The codes of boxes, or of points: `bins` cells along each side of a picture.

    A box's codes are its first and its last cell: (left, top, right, bottom), each end included, so
    that right >= left and bottom >= top. An edge goes to the nearest border between cells; a box
    that is thinner than half a cell becomes the cell that holds its middle, so that none is lost. A
    point's codes are (column, row) of the cell that it is in.

    What comes back is exact: the place of some codes has these codes again, and a box whose edges
    lie on borders comes back as it was. With at least as many bins as a picture has pixels along a
    side no edge moves by more than half a pixel.

    modality: "box" or "point".
    """

    def __init__(self, modality: str, bins: int) -> None:
        """Raises ValueError for another modality, and bins that are not 1 to 65,536."""
        if modality not in _COORDINATES:
            raise ValueError(f"modality is {quoted(modality)}, expected 'box' or 'point'")
        if not isinstance(bins, int) or isinstance(bins, bool) or not 1 <= bins <= MAX_BINS:
            raise ValueError(f"bins is {quoted(bins)}, expected a whole number, 1 to {MAX_BINS:,}")
        self.modality = modality
        self.bins = bins

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self.bins,)

    def quantise(self, at: Sequence[Number], width: int, height: int) -> np.ndarray:
        """Codes int64 (4,) or (2,) of coordinates in a frame of width x height.

        Raises ValueError for another number of coordinates, for an empty box and a place outside.
        """
        if len(at) != _COORDINATES[self.modality]:
            raise ValueError(
                f"a {self.modality} has {len(at)} coordinates, expected"
                f" {_COORDINATES[self.modality]}"
            )
        sides = (width, height) * (len(at) // 2)
        # Fractions, for what lies on a border in floats may lie beside it.
        cells = [Fraction(value) * self.bins / side for value, side in zip(at, sides)]
        if self.modality == "point":
            codes = [math.floor(cell) for cell in cells]
            inside = all(0 <= code < self.bins for code in codes)
        else:
            inside = all(0 <= cell <= self.bins for cell in cells)
            if not (cells[0] < cells[2] and cells[1] < cells[3]):
                raise ValueError(f"the box {tuple(at)} is empty, expected x0 < x1 and y0 < y1")
            across, down = _cells(cells[0], cells[2]), _cells(cells[1], cells[3])
            codes = [across[0], down[0], across[1], down[1]]
        if not inside:
            raise ValueError(
                f"the {self.modality} {tuple(at)} leaves its picture of {width}x{height}"
            )
        return np.array(codes, np.int64)

    def dequantise(self, codes: Sequence[int] | np.ndarray) -> tuple[Number, ...]:
        """The coordinates of codes, in a frame of bins x bins: a box from the first border of its
        first cell to the last of its last, a point in the middle of its cell.

        Raises ValueError for another number of codes, for those of no bin, and a box whose last
        cell is before its first.
        """
        values = [int(code) for code in codes]
        if len(values) != _COORDINATES[self.modality]:
            raise ValueError(
                f"a {self.modality} has {len(values)} codes, expected {_COORDINATES[self.modality]}"
            )
        if not all(0 <= value < self.bins for value in values):
            raise ValueError(f"codes are {values}, expected 0 to {self.bins - 1}")
        if self.modality == "point":
            return tuple(value + 0.5 for value in values)
        left, top, right, bottom = values
        if right < left or bottom < top:
            raise ValueError(
                f"codes of a box are {values}, expected left <= right and top <= bottom"
            )
        return left, top, right + 1, bottom + 1

    def code_vectors(self) -> tuple[Tensor, ...]:
        """Sines and cosines of each bin's position, (bins, 16), so that near bins begin alike.

        The wavelengths are 2 to 1/64 of a side; see Vaswani et al., arXiv:1706.03762, 3.5.
        """
        import torch

        position = (torch.arange(self.bins, dtype=torch.float64) + 0.5) / self.bins
        angles = math.pi * position[:, None] * 2.0 ** torch.arange(8, dtype=torch.float64)
        vectors = torch.cat([angles.sin(), angles.cos()], 1)
        return ((vectors - vectors.mean(0)).float(),)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], /) -> Self:
        """Raises ValueError for a config.json of something else."""
        path = Path(folder) / "config.json"
        config = read_json(path)
        if set(config) != {"model_type", "modality", "bins"}:
            raise ValueError(
                f"{path} has {quoted(sorted(config))}, expected model_type, modality and bins"
            )
        try:
            return cls(config["modality"], config["bins"])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def _config(self) -> dict[str, Any]:
        return {"model_type": "locations", "modality": self.modality, "bins": self.bins}


def _cells(low: Fraction, high: Fraction) -> tuple[int, int]:
    """The first and the last cell between two edges, in cells."""
    first, end = (math.floor(edge + Fraction(1, 2)) for edge in (low, high))
    if end > first:
        return first, end - 1
    middle = math.floor((low + high) / 2)
    return middle, middle

"""GLM-Image's preprocessing of pictures that it is to change: scaled, and halved.

Legend: H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unified_base.text import quoted
from unified_tokenizers.processors import PictureProcessor, check_picture, check_sides

__all__ = ["GlmImageProcessor"]

_LONGEST = 4
"""Times as long as wide; the published processor refuses what is longer."""


@dataclass(frozen=True)
class GlmImageProcessor(PictureProcessor):
    """The shorter side to at least `sqrt(min_pixels)`, the longer one to at most
    `sqrt(max_pixels)`, then both halved and rounded to multiples of `patch_size`.

    `GlmImageImageProcessorPil` of transformers, by default with the settings of zai-org/GLM-Image.
    """

    min_pixels: int = 512 * 512
    max_pixels: int = 2048 * 2048
    patch_size: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sides(patch_size=self.patch_size)
        if not self.patch_size**2 <= self.min_pixels <= self.max_pixels <= 1 << 28:
            raise ValueError(
                f"min_pixels is {self.min_pixels} and max_pixels {self.max_pixels}, expected"
                f" {self.patch_size**2} <= min_pixels <= max_pixels <= {1 << 28:,}"
            )

    @classmethod
    def _flat(cls, entries: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        size = entries.get("size")
        if size is not None and not isinstance(size, Mapping):
            raise ValueError(f"{where}: size is {quoted(size)}, expected its two edges")
        # The edges are areas, whatever they are called.
        names = {"shortest_edge": "min_pixels", "longest_edge": "max_pixels"}
        areas = {names[name]: area for name, area in (size or {}).items() if name in names}
        for name in ("merge_size", "temporal_patch_size"):
            if entries.get(name, 1) != 1:
                raise ValueError(f"{where}: {name} is {quoted(entries[name])}, expected 1")
        return {**areas, **entries}

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of about half the picture's, multiples of `patch_size`.

        Raises ValueError for a picture smaller than a patch, or more than 4 times as long as wide.
        """
        factor = self.patch_size
        shorter, longer = min(height, width), max(height, width)
        if shorter < factor:
            raise ValueError(
                f"a picture of {width}x{height} pixels is smaller than a patch, which has"
                f" {factor}x{factor}; scale it up first"
            )
        if longer > _LONGEST * shorter:
            raise ValueError(
                f"a picture of {width}x{height} pixels is more than {_LONGEST} times as long as"
                " wide; crop it first"
            )
        if not self.do_resize:
            return height, width
        shortest = round(math.sqrt(self.min_pixels))
        longest = round(math.sqrt(self.max_pixels))
        scale = shortest / shorter if shorter < shortest else 1.0
        if longer * scale > longest:
            scale = longest / longer
        halves = [side // 2 for side in (height, width)]
        sides = [max(factor, round(side * scale / factor) * factor) for side in halves]
        if max(sides) > longest:
            excess = max(sides) / longest
            sides = [max(factor, math.floor(side / excess / factor) * factor) for side in sides]
        return sides[0], sides[1]

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """See `PictureProcessor`."""
        check_picture(pixels)
        size = self.size(pixels.shape[0], pixels.shape[1])
        return self._resized(pixels, *size) if self.do_resize else pixels

"""Pictures of any size as a training wants them: cropped, resized, or in buckets of their shapes.

`crop` cuts a window of the size at the picture's own scale; `resize` scales the shorter side to the
size first; `bucket` gives every picture the nearest of some shapes of about the same area. What
does not cover its shape is scaled up until it does: nothing is padded. Scaling is Lanczos' with
antialiasing.

Legend: H W pixels of a picture as it is, h w of the shape it is to have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

__all__ = ["FITS", "PictureFit"]

FITS = ("crop", "resize", "bucket")

_RATIOS = (1 / 2, 2 / 3, 3 / 4, 1.0, 4 / 3, 3 / 2, 2.0)


@dataclass(frozen=True)
class PictureFit:
    """How pictures are made to fit.

    Attributes:
        mode: one of `FITS`.
        height, width: pixels; of `bucket`, those of its square, whose area the others have.
        multiple: sides of buckets are multiples of it.
    """

    mode: str
    height: int
    width: int
    multiple: int

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The shapes (h, w) that pictures may get."""
        if self.mode != "bucket":
            return [(self.height, self.width)]
        shapes = set()
        for ratio in _RATIOS:  # of width to height
            sides = self.height / math.sqrt(ratio), self.width * math.sqrt(ratio)
            h, w = (max(1, round(side / self.multiple)) * self.multiple for side in sides)
            shapes.add((h, w))
        return sorted(shapes)

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """The shape (h, w) for a picture of so many pixels: the one whose ratio is nearest."""
        ratio = math.log(width / height)
        return min(self.shapes, key=lambda shape: abs(math.log(shape[1] / shape[0]) - ratio))

    def reduce(self, pixels_HW3: np.ndarray) -> np.ndarray:
        """What of a picture is worth holding: scaled down, where windows are cut after scaling.

        uint8 (H, W, 3) both. Of `crop` it is the picture itself.
        """
        height, width = pixels_HW3.shape[:2]
        h, w = self.shape(height, width)
        scale = max(h / height, w / width)
        if self.mode == "crop" or scale >= 1:
            return pixels_HW3
        size = max(w, round(width * scale)), max(h, round(height * scale))
        return np.asarray(
            Image.fromarray(pixels_HW3).resize(size, Image.Resampling.LANCZOS), np.uint8
        )

    def window(
        self, reduced_HW3: np.ndarray, shape: tuple[int, int], rng: np.random.Generator | None
    ) -> np.ndarray:
        """A window uint8 (h, w, 3) of what `reduce` gave, anywhere in it, or without rng in its
        middle."""
        height, width = reduced_HW3.shape[:2]
        h, w = shape
        scale = max(h / height, w / width)
        across, along = (rng.random(), rng.random()) if rng is not None else (0.5, 0.5)
        if scale <= 1:
            top, left = int((height - h + 1) * across), int((width - w + 1) * along)
            if rng is None:
                top, left = (height - h) // 2, (width - w) // 2
            return reduced_HW3[top : top + h, left : left + w]
        # Only the window is scaled: of a picture of one row the whole might be endless.
        inner_h, inner_w = min(height, h / scale), min(width, w / scale)
        above, before = (height - inner_h) * across, (width - inner_w) * along
        box = (before, above, min(width, before + inner_w), min(height, above + inner_h))
        return np.asarray(
            Image.fromarray(reduced_HW3).resize((w, h), Image.Resampling.LANCZOS, box=box), np.uint8
        )

"""Regions: a picture and a mask over it. Their files are .npy, for no picture format keeps a colour
where it is transparent.

Shapes: H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from unified_base.arrays import decode_npy, encode_npy
from unified_base.cells import picture_cell
from unified_data.segments import Image, Media, Role, register_media

__all__ = ["Region"]


@register_media
@dataclass(frozen=True, eq=False)
class Region(Media):
    """A part of a picture, of any outline. Not to be changed.

    pixels: uint8 (H, W, 3), of the whole picture. mask: bool (H, W), True inside; somewhere at
    least.
    """

    modality: ClassVar[str] = "region"
    noun: ClassVar[str] = "region"
    plural: ClassVar[str] = "regions"
    endings: ClassVar[tuple[str, ...]] = ("npy",)

    pixels: np.ndarray
    mask: np.ndarray
    role: Role | None = None
    loss: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        height, width = Image(self.pixels).pixels.shape[:2]
        mask = self.mask
        if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != (height, width):
            shape = getattr(mask, "shape", type(mask).__name__)
            raise ValueError(
                f"region mask is {getattr(mask, 'dtype', '')} {shape}, expected bool"
                f" ({height}, {width}), as its picture"
            )
        if not mask.any():
            raise ValueError("region mask holds no pixel, expected one at least")

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes + self.mask.nbytes

    def to_file(self) -> tuple[str, bytes]:
        """A .npy file, uint8 (H, W, 4): the pixels, and 0 or 1 of the mask."""
        return "npy", encode_npy(np.dstack([self.pixels, self.mask.astype(np.uint8)]))

    @classmethod
    def from_file(cls, data: bytes, name: str, role: Role | None, loss: float) -> Region:
        array = decode_npy(data, name)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 4:
            raise ValueError(
                f"{name} holds {array.dtype} {array.shape}, expected uint8 (H, W, 4): pixels and"
                " mask"
            )
        if array[..., 3].max(initial=0) > 1:
            raise ValueError(f"the mask of {name} is not 0 and 1 alone")
        return cls(np.ascontiguousarray(array[..., :3]), array[..., 3] == 1, role, loss)

    def _repr_html_(self) -> str:
        """The picture, grey and light outside the region."""
        outside = (self.pixels.mean(2, keepdims=True) / 2 + 127).astype(np.uint8)
        seen = np.where(self.mask[..., None], self.pixels, outside)
        return picture_cell(np.ascontiguousarray(seen), self.role or "")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Region):
            return NotImplemented
        same = (self.role, self.loss) == (other.role, other.loss)
        pixels = np.array_equal(self.pixels, other.pixels)
        return same and pixels and np.array_equal(self.mask, other.mask)

    __hash__ = None  # type: ignore[assignment]

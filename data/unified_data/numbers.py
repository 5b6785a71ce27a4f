"""Segments that are numbers: states of a world, and points in space. Their files are .npy.

Shapes: n vectors of d numbers; N points of C numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from unified_base.arrays import decode_npy, encode_npy
from unified_base.cells import note_cell
from unified_data.segments import Media, Role, register_media

__all__ = ["MAX_POINTS", "PointCloud", "WorldState"]

MAX_POINTS = 1 << 20
"""Points of a cloud, at most."""
_MOST_VECTORS, _MOST_NUMBERS = 4_096, 65_536


class _Numbers(Media):
    """Media of one float32 array of two axes."""

    endings: ClassVar[tuple[str, ...]] = ("npy",)
    values_field: ClassVar[str]

    @property
    def array(self) -> np.ndarray:
        """The numbers, float32."""
        array: np.ndarray = getattr(self, self.values_field)
        return array

    def _check(self, axes: str, rows: int, columns: range) -> None:
        array = self.array
        what = f"{self.noun} {self.values_field}"
        if not isinstance(array, np.ndarray) or array.dtype != np.float32:
            dtype = getattr(array, "dtype", type(array).__name__)
            raise ValueError(f"{what} are {dtype}, expected a float32 numpy array")
        if array.ndim != 2 or not 1 <= len(array) <= rows or array.shape[1] not in columns:
            raise ValueError(
                f"{what} have shape {array.shape}, expected {axes}, 1 to {rows:,} rows of"
                f" {columns.start} to {columns.stop - 1:,} numbers"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{what} are not all finite")

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    def to_file(self) -> tuple[str, bytes]:
        """A .npy file of float32."""
        return "npy", encode_npy(self.array)

    @classmethod
    def from_file(cls, data: bytes, name: str, role: Role | None, loss: float) -> Self:
        array = decode_npy(data, name)
        if array.dtype.kind not in "iuf":
            raise ValueError(f"{name} holds {array.dtype}, expected real numbers")
        return cls(np.ascontiguousarray(array, np.float32), role, loss)  # type: ignore[call-arg]

    def _repr_html_(self) -> str:
        rows, columns = self.array.shape
        return note_cell(f"[{self.noun}, {rows:,} x {columns}]", self.role or "")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self) or not isinstance(other, _Numbers):
            return NotImplemented
        same = (self.role, self.loss) == (other.role, other.loss)
        return same and np.array_equal(self.array, other.array)

    __hash__ = None  # type: ignore[assignment]


@register_media
@dataclass(frozen=True, eq=False)
class WorldState(_Numbers):
    """What is known of a world as numbers: positions, sizes, angles, speeds. Not to be changed.

    values: float32 (n, d), finite: n things of d numbers each, such as the objects on a table
    (PaLM-E, arXiv:2303.03378, section 4), or one row for all.
    """

    modality: ClassVar[str] = "state"
    noun: ClassVar[str] = "state"
    plural: ClassVar[str] = "states"
    values_field: ClassVar[str] = "values"

    values: np.ndarray
    role: Role | None = None
    loss: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("(n, d)", _MOST_VECTORS, range(1, _MOST_NUMBERS + 1))


@register_media
@dataclass(frozen=True, eq=False)
class PointCloud(_Numbers):
    """Points in space, with or without a colour, in no order. Not to be changed.

    points: float32 (N, 3), x, y and z in any one unit, or (N, 6) with red, green and blue in 0 to 1
    behind; finite, at most 1,048,576 of them.
    """

    modality: ClassVar[str] = "points"
    noun: ClassVar[str] = "point cloud"
    plural: ClassVar[str] = "point clouds"
    values_field: ClassVar[str] = "points"

    points: np.ndarray
    role: Role | None = None
    loss: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("(N, 3) or (N, 6)", MAX_POINTS, range(3, 7))
        if self.points.shape[1] not in (3, 6):
            raise ValueError(
                f"point cloud points have {self.points.shape[1]} numbers, expected 3 (x, y, z) or 6"
                " (and red, green, blue)"
            )
        if self.points.shape[1] == 6 and not (
            self.points[:, 3:].min() >= 0 and self.points[:, 3:].max() <= 1
        ):
            low, high = self.points[:, 3:].min(), self.points[:, 3:].max()
            raise ValueError(f"colours of points are {low:g} to {high:g}, expected 0 to 1")

    @property
    def unit(self) -> np.ndarray:
        """The points about their middle, the farthest at distance 1; colours as they are."""
        points = self.points.copy()
        points[:, :3] -= points[:, :3].mean(0)
        farthest = float(np.linalg.norm(points[:, :3], axis=1).max())
        if farthest > 0:
            points[:, :3] /= np.float32(farthest)
        return points

"""Weights as they are stored: arrays, or tensors in a file, in one of three float types; and those
that are quantized once they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unified.engine.backends.base import Array

__all__ = ["StoredWeight", "ToQuantize", "Weight", "to_quantize", "widen"]

# float32; uint16: the bits of bfloat16, the upper halves of float32 numbers; or int16: those of
# float16. numba has neither type.
Weight = NDArray[Any]


class StoredWeight(Protocol):
    """A weight whose rows are read by slicing: a `Weight`, or one that lies in a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def ndim(self) -> int: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __getitem__(self, rows: slice, /) -> Weight:
        """Rows [start, stop) of it, all columns."""


@dataclass(frozen=True)
class ToQuantize:
    """A matrix to be packed as int8; its rows are read as `weight` has them."""

    weight: StoredWeight

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape

    @property
    def ndim(self) -> int:
        return self.weight.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.int8)

    def __getitem__(self, rows: slice, /) -> Weight:
        return self.weight[rows]


def to_quantize(weights: Mapping[str, StoredWeight]) -> dict[str, StoredWeight]:
    """The same weights by name, of which matrices are to be packed as int8."""
    return {name: ToQuantize(w) if w.ndim == 2 else w for name, w in weights.items()}


def widen(weight: StoredWeight) -> Array:
    """float32 from any type of `Weight`; exact."""
    numbers = weight[:]
    if numbers.dtype == np.uint16:
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    if numbers.dtype == np.int16:
        return numbers.view(np.float16).astype(np.float32)
    return numbers.astype(np.float32, copy=False)

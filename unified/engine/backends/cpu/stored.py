"""Weights as they are stored: arrays, or tensors in a file, in one of three float types."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unified.engine.backends.base import Array

__all__ = ["StoredWeight", "Weight", "widen"]

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


def widen(weight: StoredWeight) -> Array:
    """float32 from any type of `Weight`; exact."""
    numbers = weight[:]
    if numbers.dtype == np.uint16:
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    if numbers.dtype == np.int16:
        return numbers.view(np.float16).astype(np.float32)
    return numbers.astype(np.float32, copy=False)

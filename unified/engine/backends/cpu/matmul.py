"""Matrix products in float32 with a packed weight of any float type, and the packing of weights.

Weights are widened to float32 in registers, which costs nothing beside their reading. What is in a
panel and in a tile, and why a row's outputs are the same bits in any company: `tiles`.

Shape legend: `N` rows of x, `K` inputs, `O` outputs, `P` = ceil(O / PANEL) panels.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types

from unified.engine.backends.cpu.config import PANEL
from unified.engine.backends.cpu.intrinsics import called_only, compiled, entry
from unified.engine.backends.cpu.tiles import (
    LANES,
    MANY_REGISTERS,
    few_registers,
    lane_type,
    make_tile,
    spread,
)

__all__ = [
    "HALF_SUPPORTED", "PANEL", "matmul", "matmul_narrow", "matmul_wide", "pack", "pack_into",
    "read_in_parts",
]  # fmt: skip

_READ_NUMBERS = 1 << 20  # of a weight that are read at once
_BLOCK = 64  # inputs that stay in the nearest cache while they are packed
# Whether this processor widens float16 by itself; LLVM calls a function that may be missing if not.
HALF_SUPPORTED = platform.machine() in ("aarch64", "arm64") or bool(
    binding.get_host_cpu_features().get("f16c", False)
)


class _Float:
    """float32 products, one input a line; see `tiles.Arithmetic`."""

    fetches = False

    def weights(self, builder: Any, pointer: Any, dtype: Any) -> Any:
        stored = lane_type(pointer.type.pointee)
        numbers = builder.load(builder.bitcast(pointer, stored.as_pointer()), align=2)
        vector = lane_type(ir.FloatType())
        if dtype == types.float32:
            return numbers
        if dtype == types.int16:
            halves = builder.bitcast(numbers, lane_type(ir.HalfType()))
            return builder.fpext(halves, vector)
        # bfloat16 is the upper half of a float32.
        words = lane_type(ir.IntType(32))
        shift = ir.Constant(words, [16] * LANES)
        return builder.bitcast(builder.shl(builder.zext(numbers, words), shift), vector)

    def number(self, builder: Any, pointer: Any) -> Any:
        return spread(builder, builder.load(pointer))

    def zero(self) -> Any:
        return ir.Constant(lane_type(ir.FloatType()), [0.0] * LANES)

    def add(self, builder: Any, total: Any, weights: Any, number: Any) -> Any:
        scaled = builder.fmul(number, weights, flags=("contract",))
        return builder.fadd(scaled, total, flags=("contract",))


_one, _two, _four, _eight = (make_tile(_Float(), rows) for rows in (1, 2, 4, 8))


@compiled
def matmul_wide(
    x: np.ndarray, w: np.ndarray, first: int, panels: int, out: np.ndarray, start: int = 0
) -> None:
    """`matmul` for processors with 32 vectors of 16 numbers."""
    called_only()
    N, K = x.shape
    if N == 1:  # one panel after the other: memory is read in one stream, a fifth faster than two
        for p in range(panels):
            _one(x, 0, 0, w, first + p, 0, start, K, out, p * PANEL, 0, 0)
        return
    for p in range(panels):
        n, column = 0, p * PANEL
        while N - n >= 8:
            _eight(x, n, 0, w, first + p, 0, start, K, out, column, 0, 0)
            n += 8
        while N - n >= 4:
            _four(x, n, 0, w, first + p, 0, start, K, out, column, 0, 0)
            n += 4
        if N - n >= 2:
            _two(x, n, 0, w, first + p, 0, start, K, out, column, 0, 0)
            n += 2
        if n < N:
            _one(x, n, 0, w, first + p, 0, start, K, out, column, 0, 0)


matmul_narrow = few_registers(_Float(), 6)
matmul = matmul_wide if MANY_REGISTERS else matmul_narrow
"""out[:, : PANEL panels] = x (N, K) times panels [first, first + panels) of w (P, K, PANEL).

A w of more than K inputs is taken from its input `start` on.
"""


@entry
def pack_into(weight: np.ndarray, packed: np.ndarray) -> None:
    """Write a weight (O, K) into panels (P, K, PANEL) of its type; P * PANEL may be above O."""
    for p in range(packed.shape[0]):
        for start in range(0, weight.shape[1], _BLOCK):
            for j in range(min(PANEL, weight.shape[0] - p * PANEL)):
                row = weight[p * PANEL + j]
                for k in range(start, min(start + _BLOCK, weight.shape[1])):
                    packed[p, k, j] = row[k]


def pack(
    weight: Any, convert: Callable[[np.ndarray], np.ndarray] = lambda rows: rows
) -> np.ndarray:
    """(P, K, PANEL) of a weight (O, K), float32, uint16 or int16; zeros behind the last output.

    weight: an array, or anything of its shape whose rows are read by slicing: they are read a few
    panels at a time, so that no second copy of it is ever in memory. convert: called with these
    rows, to give them another type.
    """
    outputs, inputs = weight.shape
    packed = None
    for first, part in read_in_parts(weight):
        rows = np.ascontiguousarray(convert(part))
        if packed is None:
            packed = np.zeros((-(-outputs // PANEL), inputs, PANEL), rows.dtype)
        pack_into(rows, packed[first : first - (-len(rows) // PANEL)])
    assert packed is not None
    return packed


def read_in_parts(weight: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Rows of a weight (O, K), a few panels at a time, and the number of the first panel."""
    outputs, inputs = weight.shape
    step = PANEL * max(1, _READ_NUMBERS // (PANEL * inputs))
    for first in range(0, outputs, step):
        yield first // PANEL, weight[first : first + step]

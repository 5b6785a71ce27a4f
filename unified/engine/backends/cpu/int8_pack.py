"""Weights quantized to 8 bits while they are read, and packed for `int8_tile`.

Symmetric, with a scale for each output and group of GROUP inputs: the group's largest magnitude /
127, rounded up to bfloat16, so that no number is cut. On the pocket model's held-out documents this
loses 0.0008 bits an id (Kullback-Leibler divergence, rows of x quantized the same way); a scale for
each output and row alone 0.0015, groups of 32 0.0006 (`benchmarks/quantized.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from unified.engine.backends.cpu.config import PANEL
from unified.engine.backends.cpu.matmul import read_in_parts
from unified.engine.backends.cpu.stored import widen

__all__ = [
    "BLOCK", "GROUP", "LINE", "LINE_OFFSET", "LINE_SCALE", "NotFiniteError", "pack_int8",
    "quantize", "side_by_side", "unpack_int8",
]  # fmt: skip

GROUP = 64
"""Inputs that share a scale."""
_QUAD = 4  # inputs whose weights of an output lie side by side
BLOCK = np.dtype([("q", "u1", (GROUP // _QUAD, PANEL, _QUAD)), ("scale", "<u2", (PANEL,))])
"""A group of a panel: weights + 128, and the bits of their outputs' scales, bfloat16."""
LINE = np.dtype([("q", "i1", (GROUP,)), ("scale", "<f4"), ("offset", "<i4")])
"""A group of a row of x; offset: -128 times the sum of its numbers."""
LINE_SCALE, LINE_OFFSET = GROUP, GROUP + 4
"""Where they lie in a line, bytes."""

_AT_ONCE = 1 << 17  # numbers that are quantized at once: they stay in the cache
_own = threading.local()
_ALIGNMENT = 64  # bytes of a cache line, and of the widest vector


class NotFiniteError(ValueError):
    """Weights to quantize are NaN or infinite."""


def quantize(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantize the rows of a weight.

    Args:
        rows: float32 (O, K).

    Returns:
        int8 (O, G, GROUP), zeros behind K, and their scales as the bits of bfloat16, uint16 (O, G).

    Raises:
        NotFiniteError: a number is NaN or infinite.
    """
    outputs, inputs = rows.shape
    groups = -(-inputs // GROUP)
    numbers = np.zeros((outputs, groups * GROUP), np.float32)
    numbers[:, :inputs] = rows
    numbers = numbers.reshape(outputs, groups, GROUP)  # (O, K) -> (O, G, GROUP)
    # Three times as fast as `max(-1)` over so few.
    starts = np.arange(0, numbers.size, GROUP)
    largest = np.maximum.reduceat(np.abs(numbers).reshape(-1), starts).reshape(outputs, groups)
    if not np.isfinite(largest).all():
        raise NotFiniteError("has weights that are NaN or infinite, which int8 cannot hold")
    # bfloat16 is the upper half of a float32.
    bits = ((largest / np.float32(127)).view(np.uint32) + np.uint32(0xFFFF)) >> 16
    scales = (bits << 16).view(np.float32)
    scales[scales == 0] = 1  # of zeros
    numbers /= scales[..., None]
    return np.rint(numbers, out=numbers).astype(np.int8), bits.astype(np.uint16)


def pack_int8(weight: Any) -> np.ndarray:
    """Quantize and pack a weight (O, K) of any type of `Weight`: uint8 (P, lines, PANEL).

    weight: an array, or anything of its shape whose rows are read by slicing, a few panels at a
    time, so that no second copy of it is ever in memory. A panel has G (GROUP + 2) lines.

    Raises NotFiniteError for numbers that are NaN or infinite.
    """
    outputs, inputs = weight.shape
    panels, groups = -(-outputs // PANEL), -(-inputs // GROUP)
    blocks = _take(_packed_size(outputs, inputs)).view(BLOCK).reshape(panels, groups)
    step = PANEL * max(1, _AT_ONCE // (PANEL * inputs))
    for first, rows in read_in_parts(weight):
        for row in range(0, len(rows), step):
            part = rows[row : row + step]
            panel = first + row // PANEL
            _pack_panels(widen(part), blocks[panel : panel - (-len(part) // PANEL)])
    return blocks.view(np.uint8).reshape(panels, -1, PANEL)


def _pack_panels(rows: np.ndarray, blocks: np.ndarray) -> None:
    """Quantize rows float32 (O, K) into the blocks (P, G) of their panels."""
    panels, groups = blocks.shape
    q, bits = quantize(rows)
    if missing := -len(rows) % PANEL:  # outputs behind the last one
        q = np.pad(q, ((0, missing), (0, 0), (0, 0)))
        bits = np.pad(bits, ((0, missing), (0, 0)))
    quads = q.view(np.uint32).reshape(panels, PANEL, groups, GROUP // _QUAD)
    quads ^= 0x80808080  # + 128, of four numbers at once
    # (P, PANEL, G, quads) -> (P, G, quads, PANEL), a number for each four weights.
    blocks["q"].view(np.uint32)[..., 0] = quads.transpose(0, 2, 3, 1)
    blocks["scale"] = bits.reshape(panels, PANEL, groups).transpose(0, 2, 1)


def unpack_int8(packed: np.ndarray, rows: np.ndarray, inputs: int) -> np.ndarray:
    """Rows of a packed weight, float32 (T, K): the embeddings of ids.

    Args:
        packed: by `pack_int8`.
        rows: int64 (T,).
        inputs: K.
    """
    blocks = packed.reshape(len(packed), -1).view(BLOCK)  # (P, G)
    panel, output = rows // PANEL, rows % PANEL
    q = blocks["q"][panel, :, :, output].astype(np.float32)  # (T, G, GROUP / 4, 4)
    bits = blocks["scale"][panel, :, output].astype(np.uint32)  # (T, G)
    numbers = q.reshape(len(rows), -1, GROUP)
    numbers -= 128
    numbers *= (bits << 16).view(np.float32)[..., None]
    return np.ascontiguousarray(numbers.reshape(len(rows), -1)[:, :inputs])


@contextmanager
def side_by_side(shapes: Iterable[tuple[int, ...]]) -> Iterator[None]:
    """Let the matrices that this thread packs meanwhile lie in one block of memory.

    Of single ones most are too small for large pages, without which the processor reads a row's
    weights a third slower (measured: 24 GB/s, 36 with them).

    shapes: of all of them, (O, K); vectors are passed over.
    """
    size = sum(_packed_size(*shape) for shape in shapes if len(shape) == 2)
    _own.block = _zeros(size)
    try:
        yield
    finally:
        del _own.block  # what was packed keeps it


def _packed_size(outputs: int, inputs: int) -> int:
    return -(-outputs // PANEL) * -(-inputs // GROUP) * BLOCK.itemsize


def _take(size: int) -> np.ndarray:
    """Zeroed bytes: the next ones of `side_by_side`, or others."""
    block = getattr(_own, "block", None)
    if block is None or len(block) < size:
        return _zeros(size)
    _own.block = block[size:]
    return block[:size]


def _zeros(size: int) -> np.ndarray:
    """Bytes at an address where no vector crosses a cache line."""
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size]

"""bfloat16 dot products: the processor multiplies pairs of bfloat16 and adds both to a float32.

Twice the products in an instruction of what widening to float32 gives (`vdpbf16ps` of AVX-512:
measured 230 GFLOP/s on a core of an EPYC, 117 at most in float32). Weights are bfloat16 already;
rows of x are rounded to it, to the nearest and to even, sums are float32 in the order of the pairs.
Numbers below 2**-126 count as zero.

Other processors multiply pairs as two numbers in float32.
`products` has them widen weights instead; for caches pairs are half the bytes anywhere.

A word holds inputs k and k + 1 of a pair: the first in its low half. Of an odd number of inputs the
last word's high half is zero, in weights and in x.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from unified.engine.backends.cpu.config import PANEL
from unified.engine.backends.cpu.intrinsics import called_only, compiled, entry
from unified.engine.backends.cpu.matmul import read_in_parts
from unified.engine.backends.cpu.tiles import (
    LANES,
    MANY_REGISTERS,
    few_registers,
    lane_type,
    make_tile,
    spread,
)
from unified_base.processor import processor_has

__all__ = [
    "DOTS_SUPPORTED",
    "matmul_pairs",
    "pack_pairs",
    "pairs",
    "rounded",
    "set_pairs",
    "unpack_rows",
]

DOTS_SUPPORTED = processor_has("avx512bf16")
_BLOCK = 32  # words that stay in the nearest cache while they are packed
_DOT = "llvm.x86.avx512bf16.dpbf16ps.512"


class _Pairs:
    """Products of pairs, one pair a line; see `tiles.Arithmetic`."""

    fetches = DOTS_SUPPORTED

    def weights(self, builder: Any, pointer: Any, dtype: Any) -> Any:
        words = lane_type(ir.IntType(32)).as_pointer()
        return builder.load(builder.bitcast(pointer, words), align=4)

    def number(self, builder: Any, pointer: Any) -> Any:
        return spread(builder, builder.load(pointer))

    def zero(self) -> Any:
        return ir.Constant(lane_type(ir.FloatType()), [0.0] * LANES)

    def add(self, builder: Any, total: Any, weights: Any, number: Any) -> Any:
        if not DOTS_SUPPORTED:
            for half in (_low, _high):
                product = builder.fmul(
                    half(builder, weights), half(builder, number), flags=("contract",)
                )
                total = builder.fadd(product, total, flags=("contract",))
            return total
        # Since LLVM 16 the arguments are bfloat; those of older ones are brought up to date.
        function = builder.module.globals.get(_DOT)
        if function is None:
            kind = ir.FunctionType(total.type, [total.type, weights.type, number.type])
            function = ir.Function(builder.module, kind, _DOT)
        return builder.call(function, [total, weights, number])


def _low(builder: Any, words: Any) -> Any:
    """The first number of each pair as float32, of which bfloat16 is the upper half."""
    shift = ir.Constant(words.type, [16] * LANES)
    return builder.bitcast(builder.shl(words, shift), lane_type(ir.FloatType()))


def _high(builder: Any, words: Any) -> Any:
    """The second number of each pair as float32."""
    mask = ir.Constant(words.type, [0xFFFF0000] * LANES)
    return builder.bitcast(builder.and_(words, mask), lane_type(ir.FloatType()))


_ROWS = 8  # of a tile at most: sixteen vectors of sums
_one, _two, _three, _four, _five, _six, _seven, _eight = (
    make_tile(_Pairs(), rows + 1) for rows in range(_ROWS)
)


@compiled
def _matmul_wide(
    x: np.ndarray, w: np.ndarray, first: int, panels: int, out: np.ndarray, start: int = 0
) -> None:
    """`matmul_pairs` for processors with 32 registers."""
    called_only()
    N, K = x.shape
    if N == 1:  # the processor reads ahead by itself: one panel at a time, 33 GB/s on a core
        for p in range(panels):
            _one(x, 0, 0, w, first + p, 0, start, K, out, p * PANEL, 0, 0)
        return
    # Each tile fetches its share of the next panel while it computes: 16 rows reach 223 GFLOP/s
    # with weights in memory, 199 without.
    tiles = -(-N // _ROWS)
    step = PANEL // tiles
    for p in range(panels):
        column, at = p * PANEL, first + p
        ahead = ((at + 1) * w.shape[1] + start) * PANEL
        if p == panels - 1:
            step, ahead = 0, (at * w.shape[1] + start) * PANEL
        for n in range(0, N - _ROWS + 1, _ROWS):
            _eight(x, n, 0, w, at, 0, start, K, out, column, ahead, step)
            ahead += step * K
        n = N // _ROWS * _ROWS
        if N - n == 1:
            _one(x, n, 0, w, at, 0, start, K, out, column, ahead, step)
        elif N - n == 2:
            _two(x, n, 0, w, at, 0, start, K, out, column, ahead, step)
        elif N - n == 3:
            _three(x, n, 0, w, at, 0, start, K, out, column, ahead, step)
        elif N - n == 4:
            _four(x, n, 0, w, at, 0, start, K, out, column, ahead, step)
        elif N - n == 5:
            _five(x, n, 0, w, at, 0, start, K, out, column, ahead, step)
        elif N - n == 6:
            _six(x, n, 0, w, at, 0, start, K, out, column, ahead, step)
        elif N - n == 7:
            _seven(x, n, 0, w, at, 0, start, K, out, column, ahead, step)


matmul_pairs = _matmul_wide if MANY_REGISTERS else few_registers(_Pairs(), 4)
"""out[:, : PANEL panels] = x times panels [first, first + panels) of w (P, pairs, PANEL).

x: (N, pairs) of `set_pairs`. w: of `pack_pairs`; one of more pairs is taken from pair `start` on.
out: float32.
"""


@compiled
def pairs(inputs: int) -> int:
    """Words of a row of so many inputs."""
    return (inputs + 1) // 2


@compiled
def rounded(word: np.uint32) -> np.uint32:
    """The bits of the bfloat16 nearest to a float32 of these bits, even of two; NaN stays NaN."""
    if word & np.uint32(0x7FFFFFFF) > np.uint32(0x7F800000):
        return word >> np.uint32(16) | np.uint32(64)
    up = np.uint32(0x7FFF) + (word >> np.uint32(16) & np.uint32(1))
    return np.uint32(word + up) >> np.uint32(16)


@compiled
def set_pairs(row: np.ndarray, out: np.ndarray) -> None:
    """out (words,) uint32 = pairs of a float32 row (K,), rounded."""
    K = row.shape[0]
    words = row.view(np.uint32)
    for k in range(K // 2):
        low, high = rounded(words[2 * k]), rounded(words[2 * k + 1])
        out[k] = low | high << np.uint32(16)
    if K % 2:
        out[K // 2] = rounded(words[K - 1])


@entry
def pack_pairs_into(weight: np.ndarray, packed: np.ndarray) -> None:
    """Write a weight (O, K) of bfloat16 (uint16) into panels (P, pairs, PANEL) of words."""
    outputs, K = weight.shape
    for p in range(packed.shape[0]):
        for start in range(0, packed.shape[1], _BLOCK):
            for j in range(min(PANEL, outputs - p * PANEL)):
                row = weight[p * PANEL + j]
                for pair in range(start, min(start + _BLOCK, packed.shape[1])):
                    word = np.uint32(row[2 * pair])
                    if 2 * pair + 1 < K:
                        word |= np.uint32(row[2 * pair + 1]) << np.uint32(16)
                    packed[p, pair, j] = word


def pack_pairs(weight: Any) -> np.ndarray:
    """(P, pairs, PANEL) words of a bfloat16 weight (O, K); zeros behind the last output.

    weight: an array of uint16, or anything of its shape whose rows are read by slicing, a few
    panels at a time.
    """
    outputs, inputs = weight.shape
    packed = np.zeros((-(-outputs // PANEL), pairs.py_func(inputs), PANEL), np.uint32)
    for first, rows in read_in_parts(weight):
        pack_pairs_into(np.ascontiguousarray(rows), packed[first : first - (-len(rows) // PANEL)])
    return packed


def unpack_rows(packed: np.ndarray, outputs: np.ndarray, inputs: int) -> np.ndarray:
    """Weights of some outputs, bfloat16 as uint16 (outputs, K), of what `pack_pairs` made."""
    words = packed[outputs // PANEL, :, outputs % PANEL].astype("<u4")  # (n, pairs)
    return words.view("<u2")[:, :inputs]

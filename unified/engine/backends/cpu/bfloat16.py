"""bfloat16 dot products: the processor multiplies pairs of bfloat16 and adds both to a float32.

Twice the products in an instruction of what widening to float32 gives (`vdpbf16ps` of AVX-512:
measured 230 GFLOP/s on a core of an EPYC, 117 at most in float32). Weights are bfloat16 already;
rows of x are rounded to it, to the nearest and to even, sums are float32 in the order of the pairs.
Numbers below 2**-126 count as zero.

A word holds inputs k and k + 1 of a pair: the first in its low half. Of an odd number of inputs the
last word's high half is zero, in weights and in x.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from unified.engine.backends.cpu.config import PANEL
from unified.engine.backends.cpu.intrinsics import compiled, entry, processor_has
from unified.engine.backends.cpu.matmul import read_in_parts
from unified.engine.backends.cpu.tiles import LANES, lane_type, make_tile, spread

__all__ = ["DOTS_SUPPORTED", "matmul_pairs", "pack_pairs", "pairs", "set_pairs", "unpack_rows"]

DOTS_SUPPORTED = processor_has("avx512bf16")
_BLOCK = 32  # words that stay in the nearest cache while they are packed
_DOT = "llvm.x86.avx512bf16.dpbf16ps.512"


class _Pairs:
    """Products of pairs, one pair a line; see `tiles.Arithmetic`."""

    def weights(self, builder: Any, pointer: Any, dtype: Any) -> Any:
        words = lane_type(ir.IntType(32)).as_pointer()
        return builder.load(builder.bitcast(pointer, words), align=4)

    def number(self, builder: Any, pointer: Any) -> Any:
        return spread(builder, builder.load(pointer))

    def zero(self) -> Any:
        return ir.Constant(lane_type(ir.FloatType()), [0.0] * LANES)

    def add(self, builder: Any, total: Any, weights: Any, number: Any) -> Any:
        # Since LLVM 16 the arguments are bfloat; those of older ones are brought up to date.
        function = builder.module.globals.get(_DOT)
        if function is None:
            kind = ir.FunctionType(total.type, [total.type, weights.type, number.type])
            function = ir.Function(builder.module, kind, _DOT)
        return builder.call(function, [total, weights, number])

    def result(self, builder: Any, total: Any) -> Any:
        return total


_eight, _four, _two = (make_tile(_Pairs(), rows, 1) for rows in (8, 4, 2))
_one, _one_by_two = make_tile(_Pairs(), 1, 1), make_tile(_Pairs(), 1, 2)


@compiled
def matmul_pairs(x: np.ndarray, w: np.ndarray, first: int, panels: int, out: np.ndarray) -> None:
    """out[:, : PANEL panels] = x times panels [first, first + panels) of w (P, pairs, PANEL).

    x: (N, pairs) of `set_pairs`. w: of `pack_pairs`. out: float32.
    """
    N, K = x.shape
    if N == 1:
        whole = panels - panels % 2
        for p in range(0, whole, 2):
            _one_by_two(x, 0, w, first + p, 0, K, out, p * PANEL)
        if whole < panels:
            _one(x, 0, w, first + whole, 0, K, out, whole * PANEL)
        return
    for p in range(panels):
        n = 0
        while N - n >= 8:
            _eight(x, n, w, first + p, 0, K, out, p * PANEL)
            n += 8
        if N - n >= 4:
            _four(x, n, w, first + p, 0, K, out, p * PANEL)
            n += 4
        if N - n >= 2:
            _two(x, n, w, first + p, 0, K, out, p * PANEL)
            n += 2
        if n < N:
            _one(x, n, w, first + p, 0, K, out, p * PANEL)


@compiled
def pairs(inputs: int) -> int:
    """Words of a row of so many inputs."""
    return (inputs + 1) // 2


@compiled
def _rounded(word: np.uint32) -> np.uint32:
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
        low, high = _rounded(words[2 * k]), _rounded(words[2 * k + 1])
        out[k] = low | high << np.uint32(16)
    if K % 2:
        out[K // 2] = _rounded(words[K - 1])


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
    packed = np.zeros((-(-outputs // PANEL), pairs(inputs), PANEL), np.uint32)
    for first, rows in read_in_parts(weight):
        pack_pairs_into(np.ascontiguousarray(rows), packed[first : first - (-len(rows) // PANEL)])
    return packed


def unpack_rows(packed: np.ndarray, outputs: np.ndarray, inputs: int) -> np.ndarray:
    """Weights of some outputs, bfloat16 as uint16 (outputs, K), of what `pack_pairs` made."""
    words = np.ascontiguousarray(packed[outputs // PANEL, :, outputs % PANEL])  # (n, pairs)
    low, high = words.astype(np.uint16), (words >> 16).astype(np.uint16)
    return np.stack([low, high], axis=2).reshape(len(words), -1)[:, :inputs]

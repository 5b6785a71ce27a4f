"""Matrix products with a packed weight, tile by tile, in vector instructions.

A panel is PANEL outputs of a weight: for each input, their weights lie side by side. A tile is a
few rows of x by a few panels, whose sums stay in registers. Every sum runs over the inputs in order
and in a lane of its own: a row's outputs are the same bits whatever rows are computed with it, and
no partial sums are left to add up.

Written in LLVM's instructions, which any processor has, because loops over small arrays of sums do
not stay in registers. 16 rows by bfloat16 weights of 384 inputs reach 143 GFLOP/s on a core of a
Xeon with AVX-512; the best loops reached 100.

Shape legend: `N` rows of x, `K` inputs, `O` outputs, `P` = ceil(O / PANEL) panels.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types

from unified.engine.backends.cpu.config import PANEL
from unified.engine.backends.cpu.intrinsics import compiled, entry, intrinsic

__all__ = ["HALF_SUPPORTED", "PANEL", "matmul", "pack", "pack_into"]

_LANES = 16  # float32 in a vector; processors with narrower ones take two or four for one
_READ_NUMBERS = 1 << 20  # of a weight that are read at once
_BLOCK = 64  # inputs that stay in the nearest cache while they are packed
# Whether this processor widens float16 by itself; LLVM calls a function that may be missing if not.
HALF_SUPPORTED = platform.machine() in ("aarch64", "arm64") or bool(
    binding.get_host_cpu_features().get("f16c", False)
)
# A tile has as many sums as fit into registers beside the weights and a number of x.
_MANY_REGISTERS = binding.get_host_cpu_features().get("avx512f", False)


def _tile(rows: int, panels: int) -> Any:
    """An instruction: out[n + r, column + PANEL p :][:PANEL] = x[n + r] @ w[first + p].

    For r < rows and p < panels. x float32 (N, K), w (P, K or more, PANEL) of any stored type, out
    float32 (N, columns), all contiguous.
    """

    @intrinsic
    def tile(typingctx: Any, x: Any, n: Any, w: Any, first: Any, out: Any, column: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            def array(at: int) -> Any:
                return context.make_array(signature.args[at])(context, builder, args[at])

            x_array, w_array, out_array = array(0), array(2), array(4)
            inputs = builder.extract_value(x_array.shape, 1)
            width = builder.extract_value(out_array.shape, 1)
            long, vector = ir.IntType(64), ir.VectorType(ir.FloatType(), _LANES)
            lanes = PANEL // _LANES

            def line(data: Any, row: int, length: Any) -> Any:
                number = builder.add(args[1], ir.Constant(long, row))
                return builder.gep(data, [builder.mul(number, length)])

            lines = [line(x_array.data, row, inputs) for row in range(rows)]
            length = builder.extract_value(w_array.shape, 1)
            size = builder.mul(length, ir.Constant(long, PANEL))
            starts = [
                builder.gep(
                    w_array.data,
                    [builder.mul(builder.add(args[3], ir.Constant(long, p)), size)],
                )
                for p in range(panels)
            ]
            before, loop = builder.block, builder.append_basic_block("inputs")
            after = builder.append_basic_block("sums")
            builder.branch(loop)
            builder.position_at_end(loop)
            k = builder.phi(long)
            k.add_incoming(ir.Constant(long, 0), before)
            sums = []
            for _ in range(rows * panels * lanes):
                total = builder.phi(vector)
                total.add_incoming(ir.Constant(vector, [0.0] * _LANES), before)
                sums.append(total)
            half = signature.args[2].dtype == types.int16
            weights = [
                _weights(builder, start, k, lane, half) for start in starts for lane in range(lanes)
            ]
            new_sums = []
            for row in range(rows):
                number = builder.load(builder.gep(lines[row], [k]))
                spread = _spread(builder, number, vector)
                for at, weight in enumerate(weights):
                    scaled = builder.fmul(spread, weight, flags=("contract",))
                    total = sums[row * len(weights) + at]
                    new_sums.append(builder.fadd(scaled, total, flags=("contract",)))
            following = builder.add(k, ir.Constant(long, 1))
            k.add_incoming(following, loop)
            for total, new_sum in zip(sums, new_sums):
                total.add_incoming(new_sum, loop)
            builder.cbranch(builder.icmp_signed("<", following, inputs), loop, after)
            builder.position_at_end(after)
            for at, total in enumerate(new_sums):
                row, vector_in_row = divmod(at, len(weights))
                offset = builder.add(args[5], ir.Constant(long, vector_in_row * _LANES))
                target = builder.gep(line(out_array.data, row, width), [offset])
                pointer = builder.bitcast(target, vector.as_pointer())
                builder.store(total, pointer, align=4)
            return context.get_dummy_value()

        return types.void(x, types.int64, w, types.int64, out, types.int64), codegen

    return tile


def _weights(builder: Any, start: Any, k: Any, lane: int, half: bool) -> Any:
    """16 weights of one input as float32. half: 16-bit words are float16, otherwise bfloat16."""
    index = builder.add(
        builder.mul(k, ir.Constant(k.type, PANEL)), ir.Constant(k.type, lane * _LANES)
    )
    pointer = builder.gep(start, [index])
    stored = ir.VectorType(pointer.type.pointee, _LANES)
    numbers = builder.load(builder.bitcast(pointer, stored.as_pointer()), align=2)
    vector = ir.VectorType(ir.FloatType(), _LANES)
    if stored == vector:
        return numbers
    if half:
        halves = builder.bitcast(numbers, ir.VectorType(ir.HalfType(), _LANES))
        return builder.fpext(halves, vector)
    # bfloat16 is the upper half of a float32.
    words = ir.VectorType(ir.IntType(32), _LANES)
    shift = ir.Constant(words, [16] * _LANES)
    return builder.bitcast(builder.shl(builder.zext(numbers, words), shift), vector)


def _spread(builder: Any, number: Any, vector: Any) -> Any:
    """A number of x in all lanes of a vector."""
    first_lane = builder.insert_element(
        ir.Constant(vector, ir.Undefined), number, ir.Constant(ir.IntType(32), 0)
    )
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)
    return builder.shuffle_vector(first_lane, ir.Constant(vector, ir.Undefined), zeros)


_EIGHT, _FOUR = (8, 4) if _MANY_REGISTERS else (2, 2)
_eight, _four = _tile(_EIGHT, 1), _tile(_FOUR, 1)
_two, _one, _one_by_two = _tile(2, 1), _tile(1, 1), _tile(1, 2)


@compiled
def matmul(x: np.ndarray, w: np.ndarray, first: int, panels: int, out: np.ndarray) -> None:
    """out[:, : PANEL panels] = x (N, K) times panels [first, first + panels) of w (P, K, PANEL).

    A w of more than K inputs is taken as far as its first K.
    """
    N = x.shape[0]
    if N == 1:
        pairs = panels - panels % 2
        for p in range(0, pairs, 2):
            _one_by_two(x, 0, w, first + p, out, p * PANEL)
        if pairs < panels:
            _one(x, 0, w, first + pairs, out, pairs * PANEL)
        return
    for p in range(panels):
        n = 0
        while N - n >= _EIGHT:
            _eight(x, n, w, first + p, out, p * PANEL)
            n += _EIGHT
        while N - n >= _FOUR:
            _four(x, n, w, first + p, out, p * PANEL)
            n += _FOUR
        if N - n >= 2:
            _two(x, n, w, first + p, out, p * PANEL)
            n += 2
        if n < N:
            _one(x, n, w, first + p, out, p * PANEL)


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
    step = PANEL * max(1, _READ_NUMBERS // (PANEL * inputs))
    packed = None
    for first in range(0, outputs, step):
        rows = np.ascontiguousarray(convert(weight[first : first + step]))
        if packed is None:
            packed = np.zeros((-(-outputs // PANEL), inputs, PANEL), rows.dtype)
        first_panel, end_panel = first // PANEL, -(-(first + len(rows)) // PANEL)
        pack_into(rows, packed[first_panel:end_panel])
    assert packed is not None
    return packed

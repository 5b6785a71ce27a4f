"""Tiles of matrix products in vector instructions: a few rows by a panel, sums in registers.

A panel is PANEL outputs of a weight: for each input (or group of inputs that one instruction
multiplies), their weights lie side by side in a line. A tile is a few rows of x by a panel or a
part of it, whose sums stay in registers while it goes down the lines. Every sum runs over the
inputs in order and in a lane of its own: a row's outputs are the same bits whatever rows are
computed with it, and no partial sums are left to add up.

Written in LLVM's instructions because loops over small arrays of sums do not stay in registers: 16
rows by bfloat16 weights of 384 inputs reach 143 GFLOP/s on a core of a Xeon with AVX-512, widened
to float32; the best loops reached 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from llvmlite import binding, ir
from numba import types

from unified.engine.backends.cpu.config import PANEL
from unified.engine.backends.cpu.intrinsics import (
    called_only,
    compiled,
    function_of_its_own,
    intrinsic,
    prefetch,
)
from unified_base.processor import processor_has

__all__ = [
    "FEW_REGISTERS", "LANES", "MANY_REGISTERS", "Arithmetic", "few_registers", "in_order",
    "lane_type", "make_tile", "spread",
]  # fmt: skip

# A tile has as many sums as fit into registers beside the weights and a number of x.
MANY_REGISTERS = bool(binding.get_host_cpu_features().get("avx512f", False))
FEW_REGISTERS = processor_has("avx2") and not MANY_REGISTERS

LANES = 16 if MANY_REGISTERS else 8
"""float32 in a vector; processors with narrower ones take two or four for one."""

_HALF = PANEL // 2
_BLOCK_BYTES = 1 << 14  # half of the nearest cache of most processors
_LONG = ir.IntType(64)
_LINE_WORDS = 16  # of 32 bits in a line of the processor's cache


class Arithmetic(Protocol):
    """What a tile does with a word of x and LANES words of weights.

    fetches: whether tiles fetch what is needed soon.
    """

    fetches: bool

    def weights(self, builder: Any, pointer: Any, dtype: Any) -> Any:
        """A vector of the LANES weights at an address, stored as numba's type `dtype`."""

    def number(self, builder: Any, pointer: Any) -> Any:
        """The word of x at an address, in all lanes of a vector."""

    def zero(self) -> Any:
        """LANES empty sums."""

    def add(self, builder: Any, total: Any, weights: Any, number: Any) -> Any:
        """The sums with these products added."""


def lane_type(number: Any) -> Any:
    """A vector of LANES such numbers."""
    return ir.VectorType(number, LANES)


def spread(builder: Any, number: Any) -> Any:
    """A number in all lanes of a vector."""
    nothing = ir.Constant(lane_type(number.type), ir.Undefined)
    first_lane = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(lane_type(ir.IntType(32)), [0] * LANES)
    return builder.shuffle_vector(first_lane, nothing, zeros)


def make_tile(
    arithmetic: Arithmetic, rows: int, vectors: int = PANEL // LANES, adds: bool = False
) -> Any:
    """An instruction: out[n + r, column : column + width] = x[n + r] @ w[panel], for r < rows.

    Of the panel's outputs, width = LANES * vectors from `lane` on. Its arguments are (x, n, word,
    w, panel, lane, start, lines, out, column, ahead, step): x (N, words), of which words [word,
    word + lines) are taken, w (P, lines of a panel, PANEL), of which lines [start, start + lines)
    are taken, out (N, columns), all contiguous; lines at least 1. adds: whether sums go on from
    what is in `out`. With every line, two lines of the processor's cache are fetched from words of
    w that are needed soon: from `ahead` on, each time `step` words further. A step of 0 fetches
    nothing new.
    """

    @intrinsic
    def tile(
        typingctx: Any, x: Any, n: Any, word: Any, w: Any, panel: Any, lane: Any, start: Any,
        lines: Any, out: Any, column: Any, ahead: Any, step: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x_array, w_array, out_array = (
                context.make_array(signature.args[at])(context, builder, args[at])
                for at in (0, 3, 8)
            )
            words, width = (builder.extract_value(a.shape, 1) for a in (x_array, out_array))
            first_word = builder.add(builder.mul(args[1], words), args[2])
            panel_lines = builder.extract_value(w_array.shape, 1)
            line = builder.add(builder.mul(args[4], panel_lines), args[6])
            number = builder.add(builder.mul(line, _long(PANEL)), args[5])
            target = builder.add(builder.mul(args[1], width), args[9])
            addresses = [
                builder.gep(array.data, [at])
                for array, at in (
                    (x_array, first_word), (w_array, number), (w_array, args[10]),
                    (out_array, target),
                )
            ]  # fmt: skip
            x_row, begin, soon, out_row = addresses
            function = _function(
                builder.module, arithmetic, (rows, vectors, adds), signature.args[3].dtype,
                [address.type for address in addresses],
            )  # fmt: skip
            builder.call(function, [x_row, words, begin, args[7], soon, args[11], out_row, width])
            return context.get_dummy_value()

        long = types.int64
        numbers = long, long, long
        return types.void(x, long, long, w, long, *numbers, out, *numbers), codegen

    return tile


def _function(
    module: Any, arithmetic: Arithmetic, tile: tuple[int, int, bool], dtype: Any,
    kinds: Sequence[Any],
) -> Any:  # fmt: skip
    """The loop of a tile: rows, vectors and `adds` of `make_tile`. kinds: types of the addresses of
    x, w, what is fetched, and out."""
    rows, vectors, adds = tile
    x, w, soon, out = kinds
    name = f"tile_{type(arithmetic).__name__}_{dtype}_{rows}_{vectors}" + "_adds" * adds
    function, builder = function_of_its_own(
        module, name, [x, _LONG, w, _LONG, soon, _LONG, out, _LONG]
    )
    if builder is None:
        return function
    x_row, words, begin, lines, ahead, step, out_row, width = function.args
    x_rows = [builder.gep(x_row, [builder.mul(words, _long(row))]) for row in range(rows)]
    zero = arithmetic.zero()
    targets = []
    for row in range(rows):
        for lane in range(0, vectors * LANES, LANES):
            offset = builder.add(builder.mul(width, _long(row)), _long(lane))
            target = builder.gep(out_row, [offset])
            targets.append(builder.bitcast(target, zero.type.as_pointer()))
    first = [builder.load(target, align=4) if adds else zero for target in targets]
    sums = _go_down(arithmetic, builder, dtype, lines, x_rows, begin, first, (ahead, step))
    for total, target in zip(sums, targets):
        builder.store(total, target, align=4)
    builder.ret_void()
    return function


def _go_down(
    arithmetic: Arithmetic, builder: Any, dtype: Any, lines: Any, x_rows: Sequence[Any],
    begin: Any, first: Sequence[Any], fetched: tuple[Any, Any],
) -> list[Any]:  # fmt: skip
    """The sums of all rows, vector by vector, after the loop over `lines` lines; `first` before."""
    vectors = len(first) // len(x_rows)
    before, loop = builder.block, builder.append_basic_block("lines")
    after = builder.append_basic_block("sums")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(_LONG)
    k.add_incoming(_long(0), before)
    sums = [builder.phi(total.type) for total in first]
    for total, start in zip(sums, first):
        total.add_incoming(start, before)
    weights = []
    for vector in range(vectors):
        index = builder.add(builder.mul(k, _long(PANEL)), _long(vector * LANES))
        weights.append(arithmetic.weights(builder, builder.gep(begin, [index]), dtype))
    if arithmetic.fetches:
        ahead, step = fetched
        soon = builder.gep(ahead, [builder.mul(k, step)])
        prefetch(builder, soon)
        prefetch(builder, builder.gep(soon, [_long(_LINE_WORDS)]))
    new_sums = []
    for row, x_row in enumerate(x_rows):
        number = arithmetic.number(builder, builder.gep(x_row, [k]))
        (number,) = in_order(builder, [number])
        row_sums = sums[row * vectors : (row + 1) * vectors]
        new_sums += in_order(
            builder,
            [
                arithmetic.add(builder, total, weight, number)
                for total, weight in zip(row_sums, weights)
            ],
        )
    following = builder.add(k, _long(1))
    k.add_incoming(following, loop)
    for total, new_sum in zip(sums, new_sums):
        total.add_incoming(new_sum, loop)
    builder.cbranch(builder.icmp_signed("<", following, lines), loop, after)
    builder.position_at_end(after)
    return new_sums


def few_registers(arithmetic: Arithmetic, most_rows: int) -> Any:
    """A product like `matmul`, for processors with sixteen registers of 256 bits.

    Compiled; (x, w, first, panels, out, start): out[:, : PANEL panels] = x (N, words) times panels
    [first, first + panels) of w, from line `start` on. Tiles of three rows and more take half a
    panel: with six rows, 12 of the 16 registers hold sums, each waiting for its last product while
    the others go on, and weights are widened for six rows at once. They take so many lines at a
    time that these stay in the nearest cache for all rows.

    most_rows: of a tile, at most 6.
    """
    alone, pair = make_tile(arithmetic, 1), make_tile(arithmetic, 2)
    two, three, four, five, six = (
        make_tile(arithmetic, rows, _HALF // LANES, adds=True) for rows in (2, 3, 4, 5, 6)
    )

    @compiled
    def product(
        x: np.ndarray, w: np.ndarray, first: int, panels: int, out: np.ndarray, start: int = 0
    ) -> None:
        called_only()
        N, K = x.shape
        if N == 1:
            for p in range(panels):
                alone(x, 0, 0, w, first + p, 0, start, K, out, p * PANEL, 0, 0)
            return
        if N == 2:
            for p in range(panels):
                pair(x, 0, 0, w, first + p, 0, start, K, out, p * PANEL, 0, 0)
            return
        groups, most = -(-N // most_rows), _BLOCK_BYTES // (PANEL * w.itemsize)
        for p in range(first, first + panels):
            column = (p - first) * PANEL
            for n in range(N):
                row = out[n, column : column + PANEL]
                for lane in range(PANEL):
                    row[lane] = 0
            for word in range(0, K, most):
                n, lines, line = 0, min(most, K - word), start + word
                for group in range(groups):  # of rows, as equal as can be
                    rows = -(-(N - n) // (groups - group))
                    for half in range(0, PANEL, _HALF):
                        at = column + half
                        if rows == 2:
                            two(x, n, word, w, p, half, line, lines, out, at, 0, 0)
                        elif rows == 3:
                            three(x, n, word, w, p, half, line, lines, out, at, 0, 0)
                        elif rows == 4:
                            four(x, n, word, w, p, half, line, lines, out, at, 0, 0)
                        elif rows == 5:
                            five(x, n, word, w, p, half, line, lines, out, at, 0, 0)
                        else:
                            six(x, n, word, w, p, half, line, lines, out, at, 0, 0)
                    n += rows

    return product


def in_order(builder: Any, vectors: Sequence[Any]) -> list[Any]:
    """The same vectors, made after all that were `in_order` before, where registers are few.

    LLVM would read more numbers ahead than sixteen registers hold, and store and load them again:
    six rows by bfloat16 weights reach 92 GFLOP/s on a core of an EPYC with AVX2 of 104 at most, 60
    without. No instruction comes of it. Vectors that are no register pass as they are.
    """
    kinds = [vector.type for vector in vectors]
    if not FEW_REGISTERS or kinds[0].count != LANES:
        return list(vectors)
    results = kinds[0] if len(kinds) == 1 else ir.LiteralStructType(kinds)
    constraints = ["=x"] * len(kinds) + [str(at) for at in range(len(kinds))]
    result = builder.asm(
        ir.FunctionType(results, kinds), "", ",".join(constraints), vectors, side_effect=True
    )
    if len(kinds) == 1:
        return [result]
    return [builder.extract_value(result, at) for at in range(len(kinds))]


def _long(number: int) -> Any:
    return ir.Constant(_LONG, number)

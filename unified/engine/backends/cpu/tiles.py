"""Tiles of matrix products in vector instructions: a few rows by a few panels, sums in registers.

A panel is PANEL outputs of a weight: for each input (or group of inputs that one instruction
multiplies), their weights lie side by side in a line. A tile is a few rows of x by a few panels,
whose sums stay in registers while it goes down the lines. Every sum runs over the inputs in order
and in a lane of its own: a row's outputs are the same bits whatever rows are computed with it, and
no partial sums are left to add up.

Written in LLVM's instructions because loops over small arrays of sums do not stay in registers: 16
rows by bfloat16 weights of 384 inputs reach 143 GFLOP/s on a core of a Xeon with AVX-512, widened
to float32; the best loops reached 100.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from llvmlite import binding, ir
from numba import types

from unified.engine.backends.cpu.config import PANEL
from unified.engine.backends.cpu.intrinsics import intrinsic, prefetch

__all__ = ["LANES", "MANY_REGISTERS", "Arithmetic", "lane_type", "make_tile", "spread"]

LANES = 16
"""float32 in a vector; processors with narrower ones take two or four for one."""

# A tile has as many sums as fit into registers beside the weights and a number of x.
MANY_REGISTERS = bool(binding.get_host_cpu_features().get("avx512f", False))

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

    def result(self, builder: Any, total: Any) -> Any:
        """The sums in the type of `out`."""


def lane_type(number: Any) -> Any:
    """A vector of LANES such numbers."""
    return ir.VectorType(number, LANES)


def spread(builder: Any, number: Any) -> Any:
    """A number in all lanes of a vector."""
    nothing = ir.Constant(lane_type(number.type), ir.Undefined)
    first_lane = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(lane_type(ir.IntType(32)), [0] * LANES)
    return builder.shuffle_vector(first_lane, nothing, zeros)


def make_tile(arithmetic: Arithmetic, rows: int, panels: int = 1) -> Any:
    """An instruction: out[n + r, column + PANEL p :][:PANEL] = x[n + r, :lines] @ w[first + p].

    For r < rows and p < panels. Its arguments are (x, n, w, first, start, lines, out, column,
    ahead, step): x (N, words), w (P, lines of a panel, PANEL), of which lines [start, start +
    lines) are taken, out (N, columns), all contiguous; lines at least 1. With every line, two lines
    of the processor's cache are fetched from words of w that are needed soon: from `ahead` on, each
    time `step` words further. A step of 0 fetches nothing new.
    """

    @intrinsic
    def tile(
        typingctx: Any, x: Any, n: Any, w: Any, first: Any, start: Any, lines: Any, out: Any,
        column: Any, ahead: Any, step: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x_array, w_array, out_array = (
                context.make_array(signature.args[at])(context, builder, args[at])
                for at in (0, 2, 6)
            )
            x_rows = [_row(builder, x_array, args[1], row) for row in range(rows)]
            size = builder.mul(builder.extract_value(w_array.shape, 1), _long(PANEL))
            skipped = builder.mul(args[4], _long(PANEL))
            starts = []
            for p in range(panels):
                panel = builder.mul(builder.add(args[3], _long(p)), size)
                starts.append(builder.gep(w_array.data, [builder.add(panel, skipped)]))

            def weights(pointer: Any) -> Any:
                return arithmetic.weights(builder, pointer, signature.args[2].dtype)

            fetched = builder.gep(w_array.data, [args[8]]), args[9]
            sums = _go_down(arithmetic, builder, args[5], x_rows, starts, weights, fetched)
            for at, total in enumerate(sums):
                row, vector_in_row = divmod(at, len(sums) // rows)
                offset = builder.add(args[7], _long(vector_in_row * LANES))
                target = builder.gep(_row(builder, out_array, args[1], row), [offset])
                result = arithmetic.result(builder, total)
                pointer = builder.bitcast(target, result.type.as_pointer())
                builder.store(result, pointer, align=4)
            return context.get_dummy_value()

        long = types.int64
        return types.void(x, long, w, long, long, long, out, long, long, long), codegen

    return tile


def _row(builder: Any, array: Any, n: Any, row: int) -> Any:
    """The address of line n + row of a contiguous matrix."""
    number = builder.add(n, _long(row))
    return builder.gep(array.data, [builder.mul(number, builder.extract_value(array.shape, 1))])


def _go_down(
    arithmetic: Arithmetic, builder: Any, lines: Any, x_rows: Sequence[Any],
    starts: Sequence[Any], weights_at: Callable[[Any], Any], fetched: tuple[Any, Any],
) -> list[Any]:  # fmt: skip
    """The sums of all rows, vector by vector, after the loop over `lines` lines."""
    before, loop = builder.block, builder.append_basic_block("lines")
    after = builder.append_basic_block("sums")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(_LONG)
    k.add_incoming(_long(0), before)
    zero = arithmetic.zero()
    sums = [builder.phi(zero.type) for _ in range(len(x_rows) * len(starts) * (PANEL // LANES))]
    for total in sums:
        total.add_incoming(zero, before)
    weights = []
    for start in starts:
        for lane in range(0, PANEL, LANES):
            index = builder.add(builder.mul(k, _long(PANEL)), _long(lane))
            weights.append(weights_at(builder.gep(start, [index])))
    if arithmetic.fetches:
        ahead, step = fetched
        soon = builder.gep(ahead, [builder.mul(k, step)])
        prefetch(builder, soon)
        prefetch(builder, builder.gep(soon, [_long(_LINE_WORDS)]))
    new_sums = []
    for row, x_row in enumerate(x_rows):
        number = arithmetic.number(builder, builder.gep(x_row, [k]))
        for at, weight in enumerate(weights):
            total = sums[row * len(weights) + at]
            new_sums.append(arithmetic.add(builder, total, weight, number))
    following = builder.add(k, _long(1))
    k.add_incoming(following, loop)
    for total, new_sum in zip(sums, new_sums):
        total.add_incoming(new_sum, loop)
    builder.cbranch(builder.icmp_signed("<", following, lines), loop, after)
    builder.position_at_end(after)
    return new_sums


def _long(number: int) -> Any:
    return ir.Constant(_LONG, number)

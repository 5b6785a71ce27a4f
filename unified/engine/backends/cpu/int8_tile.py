"""Matrix products with 8-bit weights: rows of x are quantized, and their sums are integers.

Weights and rows of x are quantized in groups of GROUP inputs, each with a scale of its own:
w = q * scale with q in [-127, 127]. A group's products are summed in 32-bit integers, exactly; its
sum times both scales is added to a float32 sum, group after group. A row's outputs are the same
bits whatever rows are computed with it, and with any instructions for the integers (`int8_dot`).

How they lie in memory (`int8_pack`): a row of x is a LINE for each group; a panel of a weight is a
BLOCK for each group, where for four inputs after another the four weights of each output lie side
by side. Weights are stored as q + 128, since the instruction multiplies unsigned with signed
numbers; a LINE has what takes that away again.

16 rows by 1,024 inputs and outputs reach 415 of 469 thousand million operations a second on a core
of an EPYC with avx512_vnni; float32 products 100 of 117.

Shape legend: `N` rows of x, `K` inputs, `O` outputs, `P` = ceil(O / PANEL) panels, `G` = ceil(K /
GROUP) groups.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from unified.engine.backends.cpu.config import PANEL
from unified.engine.backends.cpu.int8_dot import DOT_KINDS, dot, host_dot_kind, spread
from unified.engine.backends.cpu.int8_pack import BLOCK, GROUP, LINE, LINE_OFFSET, LINE_SCALE
from unified.engine.backends.cpu.intrinsics import compiled, function_of_its_own, intrinsic
from unified.engine.backends.cpu.tiles import in_order

__all__ = ["block_lines", "matmul_int8", "matmul_narrow", "matmul_wide", "tile_int8"]

_LONG, _WORD, _FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()
_SCALE = GROUP * PANEL  # where a block's scales begin
_LINE_BYTES, _BLOCK_BYTES = LINE.itemsize, BLOCK.itemsize


@compiled
def block_lines(inputs: int) -> int:
    """Lines of PANEL bytes of a panel of so many inputs."""
    return (inputs + GROUP - 1) // GROUP * (GROUP + 2)


def tile_int8(rows: int, kind: str | None = None, width: int = PANEL) -> Any:
    """An instruction: out[n + r, column : column + width] = x[n + r] @ w[panel], for r < rows.

    Its arguments are (x, n, w, panel, lane, out, column): x uint8 (N, G LINE.itemsize), w uint8 (P,
    lines, PANEL), of whose outputs `width` from `lane` on are taken, out float32 (N, columns), all
    contiguous. kind: of `int8_dot`; None for this processor's fastest.
    """
    kind = kind or host_dot_kind()
    lanes, _ = DOT_KINDS[kind]
    parts = range(0, width, lanes)  # of the outputs, by vectors
    integers, numbers = ir.VectorType(_WORD, lanes), ir.VectorType(_FLOAT, lanes)
    products_of = dot(kind)
    nothing = ir.Constant(integers, [0] * lanes)

    def add_group(
        builder: Any, lines: Any, line: Any, panel: Any, block: Any, lane: Any
    ) -> list[Any]:
        """A group's products, float32: of each row, those of all parts."""
        sums = []
        for start in lines:
            offset = nothing
            if products_of.takes_offset:
                offset = _load(builder, start, line, LINE_OFFSET, _WORD)
                offset = spread(builder, offset, lanes)
            sums += [offset] * len(parts)
        quads = builder.add(block, builder.mul(lane, _long(4)))
        scales_at = builder.add(block, builder.mul(lane, _long(2)))
        # A single row has few sums, each waiting for its last product: two for one.
        others = [nothing] * len(sums) if rows == 1 else sums
        for quad in range(0, GROUP, 4):
            into = others if quad % 8 else sums
            stored = [
                _load(builder, panel, quads, quad * PANEL + 4 * part, integers) for part in parts
            ]
            weights = [products_of.weights(builder, words) for words in in_order(builder, stored)]
            for row, start in enumerate(lines):
                x = spread(builder, _load(builder, start, line, quad, _WORD), lanes)
                (x,) = in_order(builder, [x])
                row_sums = slice(row * len(parts), (row + 1) * len(parts))
                into[row_sums] = in_order(
                    builder,
                    [
                        products_of.add(builder, total, weight, x)
                        for total, weight in zip(into[row_sums], weights)
                    ],
                )
        if rows == 1:
            sums = [builder.add(total, other) for total, other in zip(sums, others)]
        halves = ir.VectorType(ir.IntType(16), lanes)
        sixteen = ir.Constant(integers, [16] * lanes)
        scales = []
        for part in parts:  # bfloat16 is the upper half of a float32
            words = _load(builder, panel, scales_at, _SCALE + 2 * part, halves, align=2)
            bits = builder.shl(builder.zext(words, integers), sixteen)
            scales.append(builder.bitcast(bits, numbers))
        products = []
        for row, start in enumerate(lines):
            x_scale = spread(builder, _load(builder, start, line, LINE_SCALE, _FLOAT), lanes)
            for at, scale in enumerate(scales, row * len(parts)):
                product = builder.sitofp(sums[at], numbers)
                scaled = builder.fmul(x_scale, scale)
                products.append(builder.fmul(product, scaled, flags=("contract",)))
        return products

    def go_down(module: Any, kinds: list[Any]) -> Any:
        """The loop over groups. kinds: types of the addresses of x, w and out."""
        name = f"tile_int8_{kind}_{rows}_{width}"
        function, builder = function_of_its_own(module, name, [*kinds, _LONG, _LONG, _LONG])
        if builder is None:
            return function
        x, weights, out, lane, line_bytes, columns = function.args
        lines = [builder.gep(x, [builder.mul(line_bytes, _long(row))]) for row in range(rows)]
        before, loop = builder.block, builder.append_basic_block("groups")
        after = builder.append_basic_block("sums")
        builder.branch(loop)
        builder.position_at_end(loop)
        line, block = builder.phi(_LONG), builder.phi(_LONG)
        totals = [builder.phi(numbers) for _ in range(rows * len(parts))]
        for phi in (line, block):
            phi.add_incoming(_long(0), before)
        for total in totals:
            total.add_incoming(ir.Constant(numbers, [0.0] * lanes), before)
        products = add_group(builder, lines, line, weights, block, lane)
        new_totals = [
            builder.fadd(product, total, flags=("contract",))
            for product, total in zip(products, totals)
        ]
        next_line = builder.add(line, _long(_LINE_BYTES))
        line.add_incoming(next_line, loop)
        block.add_incoming(builder.add(block, _long(_BLOCK_BYTES)), loop)
        for total, new_total in zip(totals, new_totals):
            total.add_incoming(new_total, loop)
        builder.cbranch(builder.icmp_signed("<", next_line, line_bytes), loop, after)
        builder.position_at_end(after)
        for at, total in enumerate(new_totals):
            row, part = divmod(at, len(parts))
            offset = builder.add(builder.mul(columns, _long(row)), _long(parts[part]))
            target = builder.gep(out, [offset])
            builder.store(total, builder.bitcast(target, numbers.as_pointer()), align=4)
        builder.ret_void()
        return function

    @intrinsic
    def tile(
        typingctx: Any, x: Any, n: Any, w: Any, panel: Any, lane: Any, out: Any, column: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x_array, w_array, out_array = (
                context.make_array(signature.args[at])(context, builder, args[at])
                for at in (0, 2, 5)
            )
            line_bytes, panel_lines, columns = (
                builder.extract_value(array.shape, 1) for array in (x_array, w_array, out_array)
            )
            panel = builder.mul(args[3], builder.mul(panel_lines, _long(PANEL)))
            target = builder.add(builder.mul(args[1], columns), args[6])
            addresses = [
                builder.gep(array.data, [at])
                for array, at in (
                    (x_array, builder.mul(args[1], line_bytes)), (w_array, panel),
                    (out_array, target),
                )
            ]  # fmt: skip
            function = go_down(builder.module, [a.type for a in addresses])
            builder.call(function, [*addresses, args[4], line_bytes, columns])
            return context.get_dummy_value()

        long = types.int64
        return types.void(x, long, w, long, long, out, long), codegen

    return tile


def _long(number: int) -> Any:
    return ir.Constant(_LONG, number)


def _load(builder: Any, data: Any, offset: Any, more: int, kind: Any, align: int = 4) -> Any:
    where = builder.gep(data, [builder.add(offset, _long(more))])
    return builder.load(builder.bitcast(where, kind.as_pointer()), align=align)


_one, _two, _four, _eight = (tile_int8(rows) for rows in (1, 2, 4, 8))
_half_two, _half_three, _half_four = (tile_int8(rows, width=PANEL // 2) for rows in (2, 3, 4))
_HALF = PANEL // 2


@compiled
def matmul_wide(x: np.ndarray, w: np.ndarray, first: int, panels: int, out: np.ndarray) -> None:
    """As many sums as fit into 32 vectors of 16 numbers beside the weights: those of 8 rows spill
    over, but cost less than reading the weights more often."""
    N = x.shape[0]
    for p in range(panels):
        n, column = 0, p * PANEL
        while N - n >= 8:
            _eight(x, n, w, first + p, 0, out, column)
            n += 8
        while N - n >= 4:
            _four(x, n, w, first + p, 0, out, column)
            n += 4
        if N - n >= 2:
            _two(x, n, w, first + p, 0, out, column)
            n += 2
        if n < N:
            _one(x, n, w, first + p, 0, out, column)


@compiled
def matmul_narrow(x: np.ndarray, w: np.ndarray, first: int, panels: int, out: np.ndarray) -> None:
    """With 16 vectors of 8 numbers: four rows by half a panel, whose weights are made ready once
    for all four."""
    N = x.shape[0]
    groups = -(-N // 4)
    for p in range(first, first + panels):
        column = (p - first) * PANEL
        if N == 1:
            _one(x, 0, w, p, 0, out, column)
        elif N == 2:
            _two(x, 0, w, p, 0, out, column)
        else:
            # Halves apart: that of 1,024 inputs stays in the nearest cache for all rows.
            for half in range(0, PANEL, _HALF):
                n, at = 0, column + half
                for group in range(groups):  # of rows, as equal as can be
                    rows = -(-(N - n) // (groups - group))
                    if rows == 2:
                        _half_two(x, n, w, p, half, out, at)
                    elif rows == 3:
                        _half_three(x, n, w, p, half, out, at)
                    else:
                        _half_four(x, n, w, p, half, out, at)
                    n += rows


matmul_int8 = matmul_wide if host_dot_kind().startswith("avx512") else matmul_narrow
"""out[:, : PANEL panels] = rows of x times panels [first, first + panels) of w.

x uint8 (N, G LINE.itemsize) by `int8_rows.set_line`, w uint8 (P, lines, PANEL) by `pack_int8`.
"""

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
from unified.engine.backends.cpu.intrinsics import compiled, intrinsic

__all__ = ["block_lines", "matmul_int8", "tile_int8"]

_LONG, _WORD, _FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()
_SCALE = GROUP * PANEL  # where a block's scales begin
_LINE_BYTES, _BLOCK_BYTES = LINE.itemsize, BLOCK.itemsize


@compiled
def block_lines(inputs: int) -> int:
    """Lines of PANEL bytes of a panel of so many inputs."""
    return (inputs + GROUP - 1) // GROUP * (GROUP + 2)


def tile_int8(rows: int, kind: str | None = None) -> Any:
    """An instruction: out[n + r, column : column + PANEL] = x[n + r] @ w[panel], for r < rows.

    x uint8 (N, G LINE.itemsize), w uint8 (P, lines, PANEL), out
    float32 (N, columns), all contiguous. kind: of `int8_dot`; None for this processor's fastest.
    """
    kind = kind or host_dot_kind()
    lanes, _ = DOT_KINDS[kind]
    parts = range(0, PANEL, lanes)  # of a panel, by vectors
    integers, numbers = ir.VectorType(_WORD, lanes), ir.VectorType(_FLOAT, lanes)
    multiply = dot(kind)

    def add_group(builder: Any, lines: Any, line: Any, panel: Any, block: Any) -> list[Any]:
        """A group's products, float32: of each row, those of all parts of the panel."""
        sums = []
        for start in lines:
            offset = _load(builder, start, line, LINE_OFFSET, _WORD)
            sums += [spread(builder, offset, lanes)] * len(parts)
        # A single row has few sums, each waiting for its last product: two for one.
        others = [ir.Constant(integers, [0] * lanes)] * len(sums) if rows == 1 else sums
        for quad in range(0, GROUP, 4):
            into = others if quad % 8 else sums
            weights = [
                _load(builder, panel, block, quad * PANEL + 4 * part, integers) for part in parts
            ]
            for row, start in enumerate(lines):
                x = spread(builder, _load(builder, start, line, quad, _WORD), lanes)
                for at, weight in enumerate(weights, row * len(parts)):
                    into[at] = multiply(builder, into[at], weight, x)
        if rows == 1:
            sums = [builder.add(total, other) for total, other in zip(sums, others)]
        halves = ir.VectorType(ir.IntType(16), lanes)
        sixteen = ir.Constant(integers, [16] * lanes)
        scales = []
        for part in parts:  # bfloat16 is the upper half of a float32
            words = _load(builder, panel, block, _SCALE + 2 * part, halves, align=2)
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

    @intrinsic
    def tile(typingctx: Any, x: Any, n: Any, w: Any, panel: Any, out: Any, column: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x_array, w_array, out_array = (
                context.make_array(signature.args[at])(context, builder, args[at])
                for at in (0, 2, 4)
            )
            line_bytes = builder.extract_value(x_array.shape, 1)
            panel_lines = builder.extract_value(w_array.shape, 1)
            panel_bytes = builder.mul(panel_lines, _long(PANEL))
            width = builder.extract_value(out_array.shape, 1)

            def start(data: Any, number: Any, more: int, size: Any) -> Any:
                return builder.gep(data, [builder.mul(builder.add(number, _long(more)), size)])

            lines = [start(x_array.data, args[1], row, line_bytes) for row in range(rows)]
            weights = start(w_array.data, args[3], 0, panel_bytes)
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
            products = add_group(builder, lines, line, weights, block)
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
                offset = builder.add(args[5], _long(parts[part]))
                target = builder.gep(start(out_array.data, args[1], row, width), [offset])
                builder.store(total, builder.bitcast(target, numbers.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(x, types.int64, w, types.int64, out, types.int64), codegen

    return tile


def _long(number: int) -> Any:
    return ir.Constant(_LONG, number)


def _load(builder: Any, data: Any, offset: Any, more: int, kind: Any, align: int = 4) -> Any:
    where = builder.gep(data, [builder.add(offset, _long(more))])
    return builder.load(builder.bitcast(where, kind.as_pointer()), align=align)


# As many sums as fit into registers beside the weights: those of 8 rows spill over, but cost less
# than reading the weights more often.
_EIGHT, _FOUR = (8, 4) if host_dot_kind().startswith("avx512") else (2, 2)
_eight, _four, _two, _one = (tile_int8(rows) for rows in (_EIGHT, _FOUR, 2, 1))


@compiled
def matmul_int8(x: np.ndarray, w: np.ndarray, first: int, panels: int, out: np.ndarray) -> None:
    """out[:, : PANEL panels] = rows of x times panels [first, first + panels) of w.

    x uint8 (N, G LINE.itemsize) by `int8_rows.set_line`, w uint8 (P, lines, PANEL) by `pack_int8`.
    """
    N = x.shape[0]
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

"""Tiles of bfloat16 products and the passes between them, for `attention`; words: see `ir`."""

from __future__ import annotations

from typing import Any

from numba import types

from unified.engine.backends.cpu.intrinsics import intrinsic
from unified.training.kernels.ir import (
    FLOATS,
    LANES,
    WORDS,
    Loop,
    below,
    data_of,
    dot,
    every,
    exp_of,
    fma,
    half_of,
    load,
    long,
    spread,
    store,
    sum_of,
    words_of,
)

__all__ = ["ROWS", "WIDE", "exponentials", "slopes", "tile"]

ROWS = 12
"""Rows of a tile: with two vectors of columns its sums fill 24 of 32 registers."""
WIDE = 2 * LANES
"""Columns of a tile."""


def tile(vectors: int, added: bool) -> Any:
    """An instruction: out (12, 16 vectors) = or += a (12, 2 steps) @ b (2 steps, 16 vectors).

    a, b: uint32, words. Word s of row r of a stands at `a_at + r * a_row + s * a_step`; the words
    of pair s of b lie side by side from `b_at + s * b_step` on. out: float32, row r from
    `out_at + r * out_row` on.
    """

    @intrinsic
    def product(
        typingctx: Any, a: Any, a_at: Any, a_row: Any, a_step: Any, b: Any, b_at: Any, b_step: Any,
        steps: Any, out: Any, out_at: Any, out_row: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            a, b, out = (data_of(context, builder, signature, args, n) for n in (0, 4, 8))
            _, a_at, a_row, a_step, _, b_at, b_step, steps, _, out_at, out_row = args
            targets = [
                builder.add(builder.add(out_at, builder.mul(out_row, long(row))), long(v * LANES))
                for row in range(ROWS)
                for v in range(vectors)
            ]
            lines = [
                builder.gep(a, [builder.add(a_at, builder.mul(a_row, long(row)))])
                for row in range(ROWS)
            ]
            start = builder.gep(b, [b_at])
            sums = [
                load(builder, out, target, FLOATS) if added else every(0.0) for target in targets
            ]
            loop = Loop(builder, long(0), steps, 1, sums)
            words_at = builder.mul(loop.index, b_step)
            columns = [
                load(builder, start, builder.add(words_at, long(v * LANES)), WORDS)
                for v in range(vectors)
            ]
            at, sums = builder.mul(loop.index, a_step), []
            for row in range(ROWS):
                pair = spread(builder, builder.load(builder.gep(lines[row], [at])))
                for v in range(vectors):
                    total = loop.values[row * vectors + v]
                    sums.append(dot(builder, total, pair, columns[v]))
            for total, target in zip(loop.close(sums), targets):
                store(builder, total, out, target)
            return context.get_dummy_value()

        longs = (types.int64,) * 3
        kinds = (a, *longs, b, *longs, out, types.int64, types.int64)
        return types.void(*kinds), codegen

    return product


@intrinsic
def exponentials(
    typingctx: Any, scores: Any, at: Any, scale: Any, top: Any, visible: Any, end: Any, out: Any,
    out_at: Any,
) -> Any:  # fmt: skip
    """out[out_at :][:end] = exp(scores[at :] * scale - top), 0 from `visible` on; their sum.

    out: uint16, bits of bfloat16; up to 15 more of it are written. The sum is of what is not
    rounded, in a fixed order.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scores, out = (data_of(context, builder, signature, args, n) for n in (0, 6))
        _, at, scale, top, visible, end, _, out_at = args
        factor, less = spread(builder, scale), spread(builder, builder.fneg(top))
        loop = Loop(builder, long(0), end, LANES, [every(0.0)])
        x = load(builder, scores, builder.add(at, loop.index), FLOATS)
        x = exp_of(builder, fma(builder, x, factor, less))
        x = builder.select(below(builder, loop.index, visible), x, every(0.0))
        store(builder, half_of(builder, x), out, builder.add(out_at, loop.index))
        (total,) = loop.close([builder.fadd(loop.values[0], x)])
        return sum_of(builder, total)

    longs, float32 = (types.int64,) * 2, types.float32
    kinds = (scores, types.int64, float32, float32, *longs, out, types.int64)
    return float32(*kinds), codegen


@intrinsic
def slopes(
    typingctx: Any, scores: Any, above: Any, at: Any, row: Any, scale: Any, shift: Any,
    other_shift: Any, mean: Any, other_mean: Any, visible: Any, other_visible: Any, end: Any,
    pairs: Any, slope_pairs: Any, pairs_at: Any, rows: Any, rows_at: Any,
) -> Any:  # fmt: skip
    """The probabilities of two queries and the slopes of their scores, for `end` keys.

    Of the first query: p = exp(scores[at :] * scale - shift), slope = p * (above[at :] - mean), 0
    from `visible` on; of the other one, `row` further on, likewise. pairs, slope_pairs: uint32,
    words of both queries' p and slopes from `pairs_at` on. rows: uint16, slopes of each query by
    itself, from `rows_at` and `rows_at + row` on. Up to 15 more are written.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scores, above, pairs, slope_pairs, rows = (
            data_of(context, builder, signature, args, n) for n in (0, 1, 12, 13, 15)
        )
        at, row, scale = args[2:5]
        shifts, means, visible, end = args[5:7], args[7:9], args[9:11], args[11]
        pairs_at, rows_at = args[14], args[16]
        loop = Loop(builder, long(0), end, LANES, [])
        factor = spread(builder, scale)
        shares, bent = [], []
        for query in range(2):
            line = builder.add(at, loop.index)
            target = builder.add(rows_at, loop.index)
            if query:
                line, target = builder.add(line, row), builder.add(target, row)
            x = load(builder, scores, line, FLOATS)
            less = spread(builder, builder.fneg(shifts[query]))
            p = exp_of(builder, fma(builder, x, factor, less))
            slope = builder.fsub(load(builder, above, line, FLOATS), spread(builder, means[query]))
            slope = builder.fmul(p, slope)
            inside = below(builder, loop.index, visible[query])
            p, slope = (builder.select(inside, x, every(0.0)) for x in (p, slope))
            shares.append(half_of(builder, p))
            bent.append(half_of(builder, slope))
            store(builder, bent[-1], rows, target)
        to = builder.add(pairs_at, loop.index)
        store(builder, words_of(builder, *shares), pairs, to)
        store(builder, words_of(builder, *bent), slope_pairs, to)
        loop.close([])
        return context.get_dummy_value()

    longs, float32 = (types.int64,) * 3, types.float32
    kinds = (scores, above, types.int64, types.int64, *(float32,) * 5, *longs)
    return types.void(*kinds, pairs, slope_pairs, types.int64, rows, types.int64), codegen

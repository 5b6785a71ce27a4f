"""Instructions of the training kernels that numba has no Python for: tiles of bfloat16 products.

A word is 32 bits with two bfloat16 numbers that follow one another in the sum of a product, the
first in the lower half, as AVX512_BF16's `vdpbf16ps` takes them.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types

from unified.engine.backends.cpu.intrinsics import intrinsic

__all__ = ["ROWS", "SUPPORTED", "WIDE", "exponentials", "halves", "slopes", "tile"]

SUPPORTED = bool(binding.get_host_cpu_features().get("avx512bf16", False))
"""Whether this processor multiplies bfloat16 numbers."""

LANES = 16
ROWS = 12
"""Rows of a tile: with two vectors of columns its sums fill 24 of 32 registers."""
WIDE = 2 * LANES
"""Columns of a tile."""

_LONG, _INT, _FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()
_FLOATS, _WORDS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)


class _BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite does not name."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


_HALVES, _PAIRS = ir.VectorType(_BFloat(), LANES), ir.VectorType(_BFloat(), 2 * LANES)
_SHORTS = ir.VectorType(ir.IntType(16), LANES)


def _long(number: int) -> Any:
    return ir.Constant(_LONG, number)


def _all(number: float) -> Any:
    return ir.Constant(_FLOATS, [number] * LANES)


def _spread(builder: Any, number: Any) -> Any:
    """A number in all lanes of a vector."""
    kind = ir.VectorType(number.type, LANES)
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_WORDS, [0] * LANES))


def _load(builder: Any, data: Any, at: Any, kind: Any) -> Any:
    pointer = builder.bitcast(builder.gep(data, [at]), kind.as_pointer())
    return builder.load(pointer, align=2)


def _store(builder: Any, vector: Any, data: Any, at: Any) -> None:
    pointer = builder.bitcast(builder.gep(data, [at]), vector.type.as_pointer())
    builder.store(vector, pointer, align=2)


def _data(context: Any, builder: Any, signature: Any, args: Any, at: int) -> Any:
    return context.make_array(signature.args[at])(context, builder, args[at]).data


def _call(builder: Any, name: str, kind: Any, *args: Any) -> Any:
    """A call of an instruction of LLVM's."""
    name = f"llvm.{name}"
    function = builder.module.globals.get(name)
    if function is None:
        signature = ir.FunctionType(kind, [arg.type for arg in args])
        function = ir.Function(builder.module, signature, name)
    return builder.call(function, args)


def _fma(builder: Any, first: Any, second: Any, third: Any) -> Any:
    """first * second + third, rounded once."""
    return _call(builder, "fma.v16f32", _FLOATS, first, second, third)


def _dot(builder: Any, total: Any, first: Any, second: Any) -> Any:
    """total + the products of 16 pairs of words; both numbers of a pair, rounded once."""
    pairs = (builder.bitcast(words, _PAIRS) for words in (first, second))
    return _call(builder, "x86.avx512bf16.dpbf16ps.512", _FLOATS, total, *pairs)


class _Loop:
    """A loop in IR: `index` counts from `begin` by `step` while below `end`; `values` go round."""

    def __init__(self, builder: Any, begin: Any, end: Any, step: int, values: list[Any]) -> None:
        self._builder, self._end, self._step = builder, end, step
        before = builder.block
        self._body = builder.append_basic_block("body")
        self._after = builder.append_basic_block("after")
        builder.cbranch(builder.icmp_signed("<", begin, end), self._body, self._after)
        builder.position_at_end(self._body)
        self.index = builder.phi(_LONG)
        self.index.add_incoming(begin, before)
        self.values = [builder.phi(value.type) for value in values]
        for phi, value in zip(self.values, values):
            phi.add_incoming(value, before)
        self._before, self._initial = before, values

    def close(self, values: list[Any]) -> list[Any]:
        """End the body; returns `values` as they are after the loop."""
        builder = self._builder
        following = builder.add(self.index, _long(self._step))
        block = builder.block
        self.index.add_incoming(following, block)
        for phi, value in zip(self.values, values):
            phi.add_incoming(value, block)
        builder.cbranch(builder.icmp_signed("<", following, self._end), self._body, self._after)
        builder.position_at_end(self._after)
        results = []
        for initial, value in zip(self._initial, values):
            result = builder.phi(value.type)
            result.add_incoming(initial, self._before)
            result.add_incoming(value, block)
            results.append(result)
        return results


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
            a, b, out = (_data(context, builder, signature, args, n) for n in (0, 4, 8))
            _, a_at, a_row, a_step, _, b_at, b_step, steps, _, out_at, out_row = args
            targets = [
                builder.add(builder.add(out_at, builder.mul(out_row, _long(row))), _long(v * LANES))
                for row in range(ROWS)
                for v in range(vectors)
            ]
            lines = [
                builder.gep(a, [builder.add(a_at, builder.mul(a_row, _long(row)))])
                for row in range(ROWS)
            ]
            start = builder.gep(b, [b_at])
            sums = [
                _load(builder, out, target, _FLOATS) if added else _all(0.0) for target in targets
            ]
            loop = _Loop(builder, _long(0), steps, 1, sums)
            words_at = builder.mul(loop.index, b_step)
            columns = [
                _load(builder, start, builder.add(words_at, _long(v * LANES)), _WORDS)
                for v in range(vectors)
            ]
            at, sums = builder.mul(loop.index, a_step), []
            for row in range(ROWS):
                pair = _spread(builder, builder.load(builder.gep(lines[row], [at])))
                for v in range(vectors):
                    total = loop.values[row * vectors + v]
                    sums.append(_dot(builder, total, pair, columns[v]))
            for total, target in zip(loop.close(sums), targets):
                _store(builder, total, out, target)
            return context.get_dummy_value()

        longs = (types.int64,) * 3
        kinds = (a, *longs, b, *longs, out, types.int64, types.int64)
        return types.void(*kinds), codegen

    return product


def _exp(builder: Any, x: Any) -> Any:
    """exp of a vector, as the engine's (Cephes' polynomial); below -87 that of -87."""

    def fused(a: Any, b: Any, c: Any) -> Any:
        return _fma(builder, a, b, c)

    x = builder.select(builder.fcmp_ordered("<", x, _all(-87.0)), _all(-87.0), x)
    n = _call(builder, "floor.v16f32", _FLOATS, fused(x, _all(1.44269504), _all(0.5)))
    x = fused(n, _all(-0.693359375), x)
    x = fused(n, _all(2.12194440e-4), x)
    y = _all(1.9875691500e-4)
    for factor in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
                   5.0000001201e-1):  # fmt: skip
        y = fused(y, x, _all(factor))
    y = builder.fadd(fused(builder.fmul(y, x), x, x), _all(1.0))
    exponent = builder.add(builder.fptosi(n, _WORDS), ir.Constant(_WORDS, [127] * LANES))
    power = builder.shl(exponent, ir.Constant(_WORDS, [23] * LANES))
    return builder.fmul(y, builder.bitcast(power, _FLOATS))


def _half(builder: Any, x: Any) -> Any:
    """A vector in bfloat16, as its bits."""
    return builder.bitcast(_call(builder, "x86.avx512bf16.cvtneps2bf16.512", _HALVES, x), _SHORTS)


def _words(builder: Any, first: Any, second: Any) -> Any:
    """Words of the bits of two vectors."""
    low, high = (builder.zext(half, _WORDS) for half in (first, second))
    return builder.or_(low, builder.shl(high, ir.Constant(_WORDS, [16] * LANES)))


def _below(builder: Any, at: Any, end: Any) -> Any:
    """Of the 16 positions from `at` on, which are below `end`."""
    kind = ir.VectorType(_LONG, LANES)
    positions = builder.add(_spread(builder, at), ir.Constant(kind, list(range(LANES))))
    return builder.icmp_signed("<", positions, _spread(builder, end))


def _sum(builder: Any, vector: Any) -> Any:
    """The sum of a vector's lanes, one by one."""
    total = builder.extract_element(vector, ir.Constant(_INT, 0))
    for lane in range(1, LANES):
        total = builder.fadd(total, builder.extract_element(vector, ir.Constant(_INT, lane)))
    return total


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
        scores, out = (_data(context, builder, signature, args, n) for n in (0, 6))
        _, at, scale, top, visible, end, _, out_at = args
        factor, less = _spread(builder, scale), _spread(builder, builder.fneg(top))
        loop = _Loop(builder, _long(0), end, LANES, [_all(0.0)])
        x = _load(builder, scores, builder.add(at, loop.index), _FLOATS)
        x = _exp(builder, _fma(builder, x, factor, less))
        x = builder.select(_below(builder, loop.index, visible), x, _all(0.0))
        _store(builder, _half(builder, x), out, builder.add(out_at, loop.index))
        (total,) = loop.close([builder.fadd(loop.values[0], x)])
        return _sum(builder, total)

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
            _data(context, builder, signature, args, n) for n in (0, 1, 12, 13, 15)
        )
        at, row, scale = args[2:5]
        shifts, means, visible, end = args[5:7], args[7:9], args[9:11], args[11]
        pairs_at, rows_at = args[14], args[16]
        loop = _Loop(builder, _long(0), end, LANES, [])
        factor = _spread(builder, scale)
        shares, bent = [], []
        for query in range(2):
            line = builder.add(at, loop.index)
            target = builder.add(rows_at, loop.index)
            if query:
                line, target = builder.add(line, row), builder.add(target, row)
            x = _load(builder, scores, line, _FLOATS)
            less = _spread(builder, builder.fneg(shifts[query]))
            p = _exp(builder, _fma(builder, x, factor, less))
            slope = builder.fsub(
                _load(builder, above, line, _FLOATS), _spread(builder, means[query])
            )
            slope = builder.fmul(p, slope)
            inside = _below(builder, loop.index, visible[query])
            p, slope = (builder.select(inside, x, _all(0.0)) for x in (p, slope))
            shares.append(_half(builder, p))
            bent.append(_half(builder, slope))
            _store(builder, bent[-1], rows, target)
        to = builder.add(pairs_at, loop.index)
        _store(builder, _words(builder, *shares), pairs, to)
        _store(builder, _words(builder, *bent), slope_pairs, to)
        loop.close([])
        return context.get_dummy_value()

    longs, float32 = (types.int64,) * 3, types.float32
    kinds = (scores, above, types.int64, types.int64, *(float32,) * 5, *longs)
    return types.void(*kinds, pairs, slope_pairs, types.int64, rows, types.int64), codegen


@intrinsic
def halves(
    typingctx: Any, values: Any, at: Any, factor: Any, count: Any, out: Any, out_at: Any
) -> Any:
    """out[out_at :][:count] = values[at :][:count] * factor, float32 to bits of bfloat16."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values, out = (_data(context, builder, signature, args, n) for n in (0, 4))
        _, at, factor, count, _, out_at = args
        factors = _spread(builder, factor)
        whole = builder.and_(count, _long(-LANES))
        loop = _Loop(builder, _long(0), whole, LANES, [])
        x = _load(builder, values, builder.add(at, loop.index), _FLOATS)
        x = _half(builder, builder.fmul(x, factors))
        _store(builder, x, out, builder.add(out_at, loop.index))
        loop.close([])
        # What is left goes through a vector of its own, of which some lanes are stored.
        loop = _Loop(builder, whole, count, 1, [])
        x = builder.load(builder.gep(values, [builder.add(at, loop.index)]))
        bits = _half(builder, builder.fmul(_spread(builder, x), factors))
        first = builder.extract_element(bits, ir.Constant(_INT, 0))
        builder.store(first, builder.gep(out, [builder.add(out_at, loop.index)]))
        loop.close([])
        return context.get_dummy_value()

    kinds = (values, types.int64, types.float32, types.int64, out, types.int64)
    return types.void(*kinds), codegen

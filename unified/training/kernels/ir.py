"""LLVM's instructions as the training kernels' own intrinsics put them together.

A word is 32 bits with two bfloat16 numbers that follow one another in the sum of a product, the
first in the lower half, as AVX512_BF16's `vdpbf16ps` takes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from unified_base.processor import processor_has

__all__ = [
    "FLOATS",
    "INT",
    "LANES",
    "SUPPORTED",
    "WORDS",
    "Loop",
    "below",
    "call",
    "data_of",
    "dot",
    "each",
    "every",
    "exp_of",
    "fma",
    "half_of",
    "load",
    "long",
    "spread",
    "store",
    "sum_of",
    "words_of",
]  # fmt: skip

SUPPORTED = processor_has("avx512bf16")
"""Whether this processor multiplies bfloat16 numbers."""

LANES = 16

LONG, INT, FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()
FLOATS, WORDS = ir.VectorType(FLOAT, LANES), ir.VectorType(INT, LANES)


class _BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite does not name."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


HALVES, PAIRS = ir.VectorType(_BFloat(), LANES), ir.VectorType(_BFloat(), 2 * LANES)
SHORTS = ir.VectorType(ir.IntType(16), LANES)


def long(number: int) -> Any:
    return ir.Constant(LONG, number)


def every(number: float) -> Any:
    return ir.Constant(FLOATS, [number] * LANES)


def spread(builder: Any, number: Any) -> Any:
    """A number in all lanes of a vector."""
    kind = ir.VectorType(number.type, LANES)
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(INT, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(WORDS, [0] * LANES))


def load(builder: Any, data: Any, at: Any, kind: Any) -> Any:
    pointer = builder.bitcast(builder.gep(data, [at]), kind.as_pointer())
    return builder.load(pointer, align=2)


def store(builder: Any, vector: Any, data: Any, at: Any) -> None:
    pointer = builder.bitcast(builder.gep(data, [at]), vector.type.as_pointer())
    builder.store(vector, pointer, align=2)


def data_of(context: Any, builder: Any, signature: Any, args: Any, at: int) -> Any:
    return context.make_array(signature.args[at])(context, builder, args[at]).data


def call(builder: Any, name: str, kind: Any, *args: Any) -> Any:
    """A call of an instruction of LLVM's."""
    name = f"llvm.{name}"
    function = builder.module.globals.get(name)
    if function is None:
        signature = ir.FunctionType(kind, [arg.type for arg in args])
        function = ir.Function(builder.module, signature, name)
    return builder.call(function, args)


def fma(builder: Any, first: Any, second: Any, third: Any) -> Any:
    """first * second + third, rounded once."""
    return call(builder, "fma.v16f32", FLOATS, first, second, third)


def dot(builder: Any, total: Any, first: Any, second: Any) -> Any:
    """total + the products of 16 pairs of words; both numbers of a pair, rounded once."""
    pairs = (builder.bitcast(words, PAIRS) for words in (first, second))
    return call(builder, "x86.avx512bf16.dpbf16ps.512", FLOATS, total, *pairs)


class Loop:
    """A loop in IR: `index` counts from `begin` by `step` while below `end`; `values` go round."""

    def __init__(self, builder: Any, begin: Any, end: Any, step: int, values: list[Any]) -> None:
        self._builder, self._end, self._step = builder, end, step
        before = builder.block
        self._body = builder.append_basic_block("body")
        self._after = builder.append_basic_block("after")
        builder.cbranch(builder.icmp_signed("<", begin, end), self._body, self._after)
        builder.position_at_end(self._body)
        self.index = builder.phi(LONG)
        self.index.add_incoming(begin, before)
        self.values = [builder.phi(value.type) for value in values]
        for phi, value in zip(self.values, values):
            phi.add_incoming(value, before)
        self._before, self._initial = before, values

    def close(self, values: list[Any]) -> list[Any]:
        """End the body; returns `values` as they are after the loop."""
        builder = self._builder
        following = builder.add(self.index, long(self._step))
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


def exp_of(builder: Any, x: Any) -> Any:
    """exp of a vector, as the engine's (Cephes' polynomial); below -87 that of -87."""

    def fused(a: Any, b: Any, c: Any) -> Any:
        return fma(builder, a, b, c)

    x = builder.select(builder.fcmp_ordered("<", x, every(-87.0)), every(-87.0), x)
    n = call(builder, "floor.v16f32", FLOATS, fused(x, every(1.44269504), every(0.5)))
    x = fused(n, every(-0.693359375), x)
    x = fused(n, every(2.12194440e-4), x)
    y = every(1.9875691500e-4)
    for factor in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
                   5.0000001201e-1):  # fmt: skip
        y = fused(y, x, every(factor))
    y = builder.fadd(fused(builder.fmul(y, x), x, x), every(1.0))
    exponent = builder.add(builder.fptosi(n, WORDS), ir.Constant(WORDS, [127] * LANES))
    power = builder.shl(exponent, ir.Constant(WORDS, [23] * LANES))
    return builder.fmul(y, builder.bitcast(power, FLOATS))


def half_of(builder: Any, x: Any) -> Any:
    """A vector in bfloat16, as its bits."""
    return builder.bitcast(call(builder, "x86.avx512bf16.cvtneps2bf16.512", HALVES, x), SHORTS)


def words_of(builder: Any, first: Any, second: Any) -> Any:
    """Words of the bits of two vectors."""
    low, high = (builder.zext(half, WORDS) for half in (first, second))
    return builder.or_(low, builder.shl(high, ir.Constant(WORDS, [16] * LANES)))


def below(builder: Any, at: Any, end: Any) -> Any:
    """Of the 16 positions from `at` on, which are below `end`."""
    kind = ir.VectorType(LONG, LANES)
    positions = builder.add(spread(builder, at), ir.Constant(kind, list(range(LANES))))
    return builder.icmp_signed("<", positions, spread(builder, end))


def sum_of(builder: Any, vector: Any) -> Any:
    """The sum of a vector's lanes: of halves, of quarters and so on, always in the same order."""
    undefined = ir.Constant(FLOATS, ir.Undefined)
    width = LANES // 2
    while width:
        lanes = [(lane + width) % LANES for lane in range(LANES)]
        other = builder.shuffle_vector(vector, undefined, ir.Constant(WORDS, lanes))
        vector = builder.fadd(vector, other)
        width //= 2
    return builder.extract_element(vector, ir.Constant(INT, 0))


class Lanes:
    """Numbers of flat arrays that a vector takes up, or a single one in all its lanes."""

    def __init__(self, builder: Any, index: Any, single: bool) -> None:
        self._builder, self._index, self._single = builder, index, single

    def floats(self, data: Any, start: Any) -> Any:
        """float32 numbers of an array of theirs from `start` on."""
        builder, at = self._builder, self._builder.add(start, self._index)
        if self._single:
            return spread(builder, builder.load(builder.gep(data, [at])))
        return load(builder, data, at, FLOATS)

    def halves(self, data: Any, start: Any) -> Any:
        """Bits of bfloat16 as float32."""
        builder, at = self._builder, self._builder.add(start, self._index)
        if self._single:
            bits = spread(builder, builder.load(builder.gep(data, [at])))
        else:
            bits = load(builder, data, at, SHORTS)
        words = builder.shl(builder.zext(bits, WORDS), ir.Constant(WORDS, [16] * LANES))
        return builder.bitcast(words, FLOATS)

    def store(self, vector: Any, data: Any, start: Any) -> None:
        """Into an array of float32, or rounded into one of bits of bfloat16."""
        builder, at = self._builder, self._builder.add(start, self._index)
        if data.type.pointee != FLOAT:
            vector = half_of(builder, vector)
        if self._single:
            first = builder.extract_element(vector, ir.Constant(INT, 0))
            builder.store(first, builder.gep(data, [at]))
        else:
            store(builder, vector, data, at)

    def counted(self, vector: Any) -> Any:
        """For sums: a single number in one lane, 0 in the others."""
        if not self._single:
            return vector
        zeros = every(0.0)
        first = self._builder.extract_element(vector, ir.Constant(INT, 0))
        return self._builder.insert_element(zeros, first, ir.Constant(INT, 0))


def each(builder: Any, count: Any, body: Callable[[Lanes], Any], summed: bool = False) -> Any:
    """Emit `body` for `count` numbers: 16 at once, then one by one what is left.

    summed: the body gives vectors; returns the sum of their lanes, in a fixed order.
    """
    whole = builder.and_(count, long(-LANES))
    total = [every(0.0)] if summed else []
    for single, step, begin, end in ((False, LANES, long(0), whole), (True, 1, whole, count)):
        loop = Loop(builder, begin, end, step, total)
        lanes = Lanes(builder, loop.index, single)
        more = body(lanes)
        if summed:
            total = loop.close([builder.fadd(loop.values[0], lanes.counted(more))])
        else:
            loop.close([])
    return sum_of(builder, total[0]) if summed else None

"""Rows of x quantized to 8 bits, group by group, while they are made ready for a product."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from unified.engine.backends.cpu.int8_dot import spread
from unified.engine.backends.cpu.int8_pack import GROUP, LINE, LINE_OFFSET, LINE_SCALE
from unified.engine.backends.cpu.intrinsics import compiled, intrinsic

__all__ = ["line_bytes", "set_line"]

_LANES = 16
_LONG, _WORD, _BYTE, _FLOAT = ir.IntType(64), ir.IntType(32), ir.IntType(8), ir.FloatType()
_NUMBERS, _INTEGERS, _BYTES = (ir.VectorType(kind, _LANES) for kind in (_FLOAT, _WORD, _BYTE))
# 1.5 * 2**23: added to a small number, it leaves the nearest integer in the low bits of the sum.
_ROUND, _ROUND_BITS = 12582912.0, 0x4B400000
_LINE_BYTES = LINE.itemsize
_SMALLEST = 1e-30  # what is smaller counts as zero: its inverse would be infinite


@compiled
def line_bytes(inputs: int) -> int:
    """Bytes of a row of so many inputs: a `LINE` for each group."""
    return (inputs + GROUP - 1) // GROUP * _LINE_BYTES


@intrinsic
def _quantize_row(typingctx: Any, row: Any, line: Any) -> Any:
    """`set_line` as an instruction."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        row_array, line_array = (
            context.make_array(kind)(context, builder, arg)
            for kind, arg in zip(signature.args, args)
        )
        inputs = builder.extract_value(row_array.shape, 0)
        padded = builder.bitcast(
            cgutils.alloca_once(builder, ir.ArrayType(_FLOAT, GROUP)), _FLOAT.as_pointer()
        )
        groups = builder.sdiv(builder.add(inputs, _long(GROUP - 1)), _long(GROUP))
        with cgutils.for_range(builder, groups, intp=_LONG) as loop:
            begin = builder.mul(loop.index, _long(GROUP))
            numbers = builder.gep(row_array.data, [begin])
            left = builder.sub(inputs, begin)
            whole = builder.icmp_signed(">=", left, _long(GROUP))
            with builder.if_then(builder.not_(whole)):
                _pad(builder, numbers, left, padded)
            block = builder.gep(line_array.data, [builder.mul(loop.index, _long(_LINE_BYTES))])
            _quantize_group(builder, builder.select(whole, numbers, padded), block)
        return context.get_dummy_value()

    return types.void(row, line), codegen


@compiled
def set_line(row: np.ndarray, line: np.ndarray) -> None:
    """Quantize a row of x, float32 (K,), into uint8 (G LINE.itemsize,): see `LINE`.

    The scale of a group is its largest magnitude / 127; numbers are rounded to the nearest integer,
    ties to the even number. Behind K stand zeros. A group with NaN or infinity has such a scale,
    so that none of its products is finite.
    """
    _quantize_row(row, line)


def _long(number: int) -> Any:
    return ir.Constant(_LONG, number)


def _all(kind: Any, number: Any) -> Any:
    return ir.Constant(kind, [number] * _LANES)


def _at(builder: Any, data: Any, offset: int, kind: Any) -> Any:
    return builder.bitcast(builder.gep(data, [_long(offset)]), kind.as_pointer())


def _pad(builder: Any, numbers: Any, count: Any, padded: Any) -> None:
    """The first `count` numbers, and zeros up to a whole group."""
    for at in range(0, GROUP, _LANES):
        builder.store(_all(_NUMBERS, 0.0), _at(builder, padded, at, _NUMBERS), align=4)
    with cgutils.for_range(builder, count, intp=_LONG) as loop:
        number = builder.load(builder.gep(numbers, [loop.index]))
        builder.store(number, builder.gep(padded, [loop.index]))


def _reduced(builder: Any, name: str, vector: Any) -> Any:
    kind = ir.FunctionType(_WORD, [_INTEGERS])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.{name}")
    return builder.call(function, [vector])


def _quantize_group(builder: Any, numbers: Any, block: Any) -> None:
    """GROUP numbers as a `LINE` at `block`."""
    vectors = [
        builder.load(_at(builder, numbers, at, _NUMBERS), align=4) for at in range(0, GROUP, _LANES)
    ]
    top = _all(_INTEGERS, 0)
    for vector in vectors:
        # Magnitudes compare as their bits do; NaN is above all.
        words = builder.bitcast(vector, _INTEGERS)
        magnitudes = builder.and_(words, _all(_INTEGERS, 0x7FFFFFFF))
        greater = builder.icmp_unsigned(">", magnitudes, top)
        top = builder.select(greater, magnitudes, top)
    largest = builder.bitcast(_reduced(builder, "umax.v16i32", top), _FLOAT)
    nothing = builder.fcmp_ordered("<", largest, ir.Constant(_FLOAT, _SMALLEST))
    zero = ir.Constant(_FLOAT, 0.0)
    inverse = builder.fdiv(ir.Constant(_FLOAT, 127.0), largest)
    inverses = spread(builder, builder.select(nothing, zero, inverse), _LANES)
    scale = builder.fdiv(largest, ir.Constant(_FLOAT, 127.0))
    total = _all(_INTEGERS, 0)
    for at, vector in enumerate(vectors):
        scaled = builder.fmul(vector, inverses, flags=("contract",))
        rounded = builder.fadd(scaled, _all(_NUMBERS, _ROUND), flags=("contract",))
        bits = builder.bitcast(rounded, _INTEGERS)
        total = builder.add(total, builder.sub(bits, _all(_INTEGERS, _ROUND_BITS)))
        target = _at(builder, block, at * _LANES, _BYTES)
        builder.store(builder.trunc(bits, _BYTES), target, align=1)
    too_high = builder.mul(_reduced(builder, "add.v16i32", total), ir.Constant(_WORD, -128))
    target = _at(builder, block, LINE_SCALE, _FLOAT)
    builder.store(builder.select(nothing, zero, scale), target, align=4)
    builder.store(too_high, _at(builder, block, LINE_OFFSET, _WORD), align=4)

"""Dot products of four 8-bit numbers at a time in 32-bit lanes, by what the processor has for them.

A lane of a vector holds four weights (unsigned, their value plus 128) and is multiplied with four
numbers of x (signed), whose products are added to the lane's sum. Sums are integers: every way of
computing them gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from unified.engine.backends.cpu.intrinsics import processor_has

__all__ = ["DOT_KINDS", "dot", "host_dot_kind", "spread"]

_WORD = ir.IntType(32)
# Of each kind: the lanes of its vectors, and the feature that LLVM names it by.
DOT_KINDS: dict[str, tuple[int, str]] = {
    "avx512_vnni": (16, "avx512vnni"),
    "avx_vnni": (8, "avxvnni"),
    "avx512": (16, "avx512bw"),
    "avx2": (8, "avx2"),
    "portable": (16, ""),
}


def host_dot_kind() -> str:
    """The fastest kind of `DOT_KINDS` that code compiled here may use."""
    return next(
        kind for kind, (_, feature) in DOT_KINDS.items() if not feature or processor_has(feature)
    )


def spread(builder: Any, number: Any, lanes: int) -> Any:
    """A number in all lanes of a vector."""
    vector = ir.VectorType(number.type, lanes)
    undefined = ir.Constant(vector, ir.Undefined)
    first_lane = builder.insert_element(undefined, number, ir.Constant(_WORD, 0))
    zeros = ir.Constant(ir.VectorType(_WORD, lanes), [0] * lanes)
    return builder.shuffle_vector(first_lane, undefined, zeros)


def dot(kind: str) -> Callable[[Any, Any, Any, Any], Any]:
    """A function (builder, sums, weights, numbers of x) -> sums, all vectors of 32-bit lanes."""
    lanes, _ = DOT_KINDS[kind]
    if kind in ("avx512_vnni", "avx_vnni"):
        return _instruction(f"llvm.x86.avx512.vpdpbusd.{32 * lanes}", lanes)
    if kind == "portable":
        return _widened
    name = "llvm.x86.avx512.pmaddw.d.512" if lanes == 16 else "llvm.x86.avx2.pmadd.wd"
    return _pairs(name, lanes)


def _instruction(name: str, lanes: int) -> Callable[[Any, Any, Any, Any], Any]:
    vector = ir.VectorType(_WORD, lanes)
    kind = ir.FunctionType(vector, [vector] * 3)

    def emit(builder: Any, sums: Any, weights: Any, numbers: Any) -> Any:
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(function, [sums, weights, numbers])

    return emit


def _pairs(name: str, lanes: int) -> Callable[[Any, Any, Any, Any], Any]:
    """Of 16-bit numbers, two products and their sum in each lane: first of the even bytes, then of
    the odd ones. The instruction for unsigned times signed bytes saturates, so it would not do."""
    shorts = ir.VectorType(ir.IntType(16), 2 * lanes)
    kind = ir.FunctionType(ir.VectorType(_WORD, lanes), [shorts] * 2)
    eight = ir.Constant(shorts, [8] * (2 * lanes))

    def emit(builder: Any, sums: Any, weights: Any, numbers: Any) -> Any:
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        w, x = builder.bitcast(weights, shorts), builder.bitcast(numbers, shorts)
        low = ir.Constant(shorts, [255] * (2 * lanes))
        even = builder.and_(w, low), builder.ashr(builder.shl(x, eight), eight)
        odd = builder.lshr(w, eight), builder.ashr(x, eight)
        for pair in (even, odd):
            sums = builder.add(sums, builder.call(function, pair))
        return sums

    return emit


def _widened(builder: Any, sums: Any, weights: Any, numbers: Any) -> Any:
    """Byte by byte, in instructions that any processor has."""
    vector = sums.type

    def constant(number: int) -> Any:
        return ir.Constant(vector, [number] * vector.count)

    for byte in range(4):
        w = builder.and_(builder.lshr(weights, constant(8 * byte)), constant(255))
        x = builder.ashr(builder.shl(numbers, constant(24 - 8 * byte)), constant(24))
        sums = builder.add(sums, builder.mul(w, x))
    return sums

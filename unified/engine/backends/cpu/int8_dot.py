"""Dot products of four 8-bit numbers at a time in 32-bit lanes, by what the processor has for them.

A lane of a vector holds four weights (unsigned, their value plus 128) and is multiplied with four
numbers of x (signed, from -127 to 127), whose products are added to the lane's sum. Sums are
integers: every way of computing them gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from llvmlite import ir
from numba.core import cgutils

from unified_base.processor import processor_has

__all__ = ["DOT_KINDS", "Dot", "dot", "host_dot_kind", "spread"]

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


class Dot(Protocol):
    """Products of vectors of 32-bit lanes.

    takes_offset: whether weights are multiplied as they are stored, 128 too high.
    """

    takes_offset: bool

    def weights(self, builder: Any, stored: Any) -> Any:
        """Weights as `add` takes them: made once for all rows of a tile."""

    def add(self, builder: Any, sums: Any, weights: Any, numbers: Any) -> Any:
        """The sums with the products of weights and numbers of x added."""


def dot(kind: str) -> Dot:
    """The products of a kind."""
    lanes, _ = DOT_KINDS[kind]
    if kind in ("avx512_vnni", "avx_vnni"):
        return _Instruction(f"llvm.x86.avx512.vpdpbusd.{32 * lanes}")
    if kind == "avx512":
        return _Pairs("llvm.x86.avx512.pmaddw.d.512")
    return _Signs() if kind == "avx2" else _Widened()


def _call(builder: Any, name: str, result: Any, *args: Any) -> Any:
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def _filled(kind: Any, number: int) -> Any:
    return ir.Constant(kind, [number] * kind.count)


@dataclass(frozen=True)
class _Instruction:
    """One instruction for all of it."""

    name: str
    takes_offset = True

    def weights(self, builder: Any, stored: Any) -> Any:
        return stored

    def add(self, builder: Any, sums: Any, weights: Any, numbers: Any) -> Any:
        return _call(builder, self.name, sums.type, sums, weights, numbers)


@dataclass(frozen=True)
class _Pairs:
    """Of 16-bit numbers, two products and their sum in each lane: first of the even bytes, then of
    the odd ones. The instruction for unsigned times signed bytes saturates, so it would not do."""

    name: str
    takes_offset = True

    def weights(self, builder: Any, stored: Any) -> Any:
        shorts = _shorts(stored)
        w = builder.bitcast(stored, shorts)
        return builder.and_(w, _filled(shorts, 255)), builder.lshr(w, _filled(shorts, 8))

    def add(self, builder: Any, sums: Any, weights: Any, numbers: Any) -> Any:
        shorts = _shorts(numbers)
        x, eight = builder.bitcast(numbers, shorts), _filled(shorts, 8)
        even, odd = builder.ashr(builder.shl(x, eight), eight), builder.ashr(x, eight)
        for pair in zip(weights, (even, odd)):
            sums = builder.add(sums, _call(builder, self.name, sums.type, *pair))
        return sums


class _Signs:
    """Magnitudes of weights (unsigned) times numbers of x that take the weights' signs (signed):
    sums of two of these products, at most 2 * 127 * 127, fit into 16 bits, so that the instruction
    that saturates there loses nothing."""

    takes_offset = False

    def weights(self, builder: Any, stored: Any) -> Any:
        bytes_ = ir.VectorType(ir.IntType(8), 4 * stored.type.count)
        w = builder.xor(builder.bitcast(stored, bytes_), _filled(bytes_, 128))
        no = ir.Constant(ir.IntType(1), 0)
        return _call(builder, f"llvm.abs.v{bytes_.count}i8", bytes_, w, no), w

    def add(self, builder: Any, sums: Any, weights: Any, numbers: Any) -> Any:
        magnitudes, w = weights
        x = builder.bitcast(numbers, w.type)
        signed = _call(builder, "llvm.x86.avx2.psign.b", w.type, x, w)
        shorts = _shorts(numbers)
        pairs = _call(builder, "llvm.x86.avx2.pmadd.ub.sw", shorts, magnitudes, signed)
        ones = _filled(shorts, 1)
        return builder.add(sums, _call(builder, "llvm.x86.avx2.pmadd.wd", sums.type, pairs, ones))


class _Widened:
    """Byte by byte, in instructions that any processor has."""

    takes_offset = True

    def weights(self, builder: Any, stored: Any) -> Any:
        return stored

    def add(self, builder: Any, sums: Any, weights: Any, numbers: Any) -> Any:
        vector = sums.type
        for byte in range(4):
            shifted = builder.lshr(weights, _filled(vector, 8 * byte))
            w = builder.and_(shifted, _filled(vector, 255))
            shifted = builder.shl(numbers, _filled(vector, 24 - 8 * byte))
            x = builder.ashr(shifted, _filled(vector, 24))
            sums = builder.add(sums, builder.mul(w, x))
        return sums


def _shorts(vector: Any) -> Any:
    """The type of a vector's halves of lanes."""
    return ir.VectorType(ir.IntType(16), 2 * vector.type.count)

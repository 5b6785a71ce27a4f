"""Stored numbers in float32, one by one: what `stored.widen` is to arrays."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from unified.engine.backends.cpu.intrinsics import intrinsic

__all__ = ["widened"]


@intrinsic
def widened(typingctx: Any, stored: Any) -> Any:
    """float32 from a number of any type of `Weight`; exact. float16 (int16) only where the
    processor widens it (`HALF_SUPPORTED`)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (number,) = args
        if stored == types.float32:
            return number
        if stored == types.int16:
            return builder.fpext(builder.bitcast(number, ir.HalfType()), ir.FloatType())
        # bfloat16 is the upper half of a float32.
        word = builder.zext(number, ir.IntType(32))
        return builder.bitcast(builder.shl(word, ir.Constant(word.type, 16)), ir.FloatType())

    return types.float32(stored), codegen

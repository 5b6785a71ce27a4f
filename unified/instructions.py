"""Instructions that numba has no Python for: bits, wide vectors, addresses."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending, njit, types

__all__ = [
    "bits",
    "compiled",
    "entry",
    "intrinsic",
    "pointer",
    "wide_vectors",
]

# What it makes is called without the first argument, which type checkers cannot know.
intrinsic: Any = extending.intrinsic

# How the decoder's loops are compiled. Sums may be reordered, so that they are vectorized; NaN and
# infinity keep their meaning, so that damaged weights are noticed.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},
}
compiled: Any = njit(**_OPTIONS)
# For what Python calls: kept on disk, with all it calls inside.
entry: Any = njit(**_OPTIONS, cache=True)


@intrinsic
def bits(typingctx: Any, word: Any) -> Any:
    """float32 from the bits of a uint32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), codegen


@intrinsic
def wide_vectors(typingctx: Any) -> Any:
    """Let loops of the function around this use 512 bits at once, where the processor has them.
    LLVM halves that by itself; two rows cost what one costs only with all of them."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        # llvmlite knows no attributes with values.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def pointer(typingctx: Any, address: Any, like: Any) -> Any:
    """A pointer to numbers of the type that the array `like` holds."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(types.int64, like), codegen

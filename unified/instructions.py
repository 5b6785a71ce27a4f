"""Instructions that numba has no Python for: bits, prefetching, wide vectors, addresses."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending, njit, types
from numba.core import cgutils

__all__ = [
    "bits",
    "compiled",
    "entry",
    "intrinsic",
    "pointer",
    "prefetch",
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
def prefetch(typingctx: Any, array: Any, number: Any) -> Any:
    """Ask memory for what lies `number` elements after the first of an array; past its end this
    does nothing. The processor foresees long streams alone: sixteen rows over 150 ids each took
    6.0 ms a step without, 5.0 with it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[0]
        data = context.make_array(kind)(context, builder, args[0]).data
        place = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        word = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [place.type, word, word, word]),
            "llvm.prefetch.p0",
        )
        builder.call(function, [place, word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


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

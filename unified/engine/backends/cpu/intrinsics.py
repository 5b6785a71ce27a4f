"""What numba has no Python for: bits, vector width, addresses, sums in a fixed order."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import Any

from llvmlite import ir
from numba import extending, njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target

from unified.engine.backends.cpu.kernel_cache import KernelCache

__all__ = [
    "bits",
    "by_type",
    "called_only",
    "compiled",
    "entry",
    "intrinsic",
    "largest",
    "pointer",
    "processor_has",
    "squares",
    "total",
    "wide_vectors",
    "word",
]

# An intrinsic is called without its first argument, which type checkers cannot know.
intrinsic: Any = extending.intrinsic

# How the decoder's loops are compiled. A product and a sum may be one instruction; nothing else is
# reordered, so that every machine code of a loop gives the same bits, and NaN stays NaN. One flag,
# not several: numba names functions by how a set of them prints, which changes from run to run.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
compiled: Any = njit(**_OPTIONS)


def processor_has(feature: str) -> bool:
    """Whether loops are compiled for a processor with this feature, by LLVM's name for it.

    numba's answer and not the processor's: NUMBA_CPU_FEATURES may leave features out.
    """
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return f"+{feature}" in features.split(",")


def by_type(choose: Callable[..., Callable[..., Any]]) -> Any:
    """A function that is chosen by the types of its arguments when its caller is compiled.

    choose: gets numba's types in place of arguments, or arguments where Python calls; returns a
    function of the same arguments.
    """

    @wraps(choose)
    def chosen(*args: Any) -> Any:
        return choose(*args)(*args)

    def implementation(*args: Any) -> Any:
        return _bare(choose(*args))

    implementation.__wrapped__ = _bare(choose)  # type: ignore[attr-defined]
    extending.overload(chosen, jit_options=_OPTIONS)(implementation)
    return chosen


def _bare(function: Any) -> Any:
    """A function without its annotations, which numba compares as it does names."""
    parts = function.__code__, function.__globals__, function.__name__
    return FunctionType(*parts, function.__defaults__, function.__closure__)


def entry(function: Callable[..., Any]) -> Any:
    """For what Python calls: compiled, and kept on disk with all it calls inside."""
    dispatcher = compiled(function)
    dispatcher._cache = KernelCache(function)  # numba's own trusts what it reads
    return dispatcher


@intrinsic
def bits(typingctx: Any, word: Any) -> Any:
    """float32 from the bits of a uint32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), codegen


@intrinsic
def word(typingctx: Any, number: Any) -> Any:
    """The bits of a float32 as a uint32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), codegen


@intrinsic
def called_only(typingctx: Any) -> Any:
    """Keep the function around this out of its callers, so that all of them get the same bits: sums
    of products can be contracted in more than one way."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen


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
def pointer(typingctx: Any, address: Any, dtype_like: Any) -> Any:
    """A pointer to numbers of the type of the array `dtype_like`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(dtype_like.dtype)(types.int64, dtype_like), codegen


_LANES = 16


def _fold(kind: str) -> Any:
    """The sum, the sum of squares or the largest of the first numbers of a float32 line.

    In a fixed order: sixteen lanes side by side, the numbers left over by themselves, then one half
    of the lanes and the other until one is left, then both.
    """

    @intrinsic
    def fold(typingctx: Any, line: Any, length: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, args[0]).data
            long, number = ir.IntType(64), ir.FloatType()
            vector = ir.VectorType(number, _LANES)
            start = float("-inf") if kind == "largest" else 0.0

            def join(result: Any, more: Any) -> Any:
                if kind == "largest":
                    greater = builder.fcmp_ordered(">", more, result)
                    return builder.select(greater, more, result)
                return builder.fadd(more, result, flags=("contract",))

            def add(result: Any, more: Any) -> Any:
                if kind == "squares":
                    more = builder.fmul(more, more, flags=("contract",))
                return join(result, more)

            def loop(kind: Any, step: int, begin: Any, end: Any) -> Any:
                """Fold numbers [begin, end), `step` at a time, as `kind`."""
                first = [start] * _LANES if step > 1 else start
                sums = cgutils.alloca_once(builder, kind)
                builder.store(ir.Constant(kind, first), sums)
                with cgutils.for_range_slice(
                    builder, begin, end, ir.Constant(long, step), inc=True
                ) as (at, _):
                    where = builder.bitcast(builder.gep(data, [at]), kind.as_pointer())
                    more = builder.load(where, align=4)
                    builder.store(add(builder.load(sums), more), sums)
                return builder.load(sums)

            zero, lanes = ir.Constant(long, 0), ir.Constant(long, _LANES)
            whole = builder.sub(args[1], builder.srem(args[1], lanes))
            side_by_side = loop(vector, _LANES, zero, whole)
            result = loop(number, 1, whole, args[1])
            while side_by_side.type.count > 1:
                half = side_by_side.type.count // 2
                words = ir.VectorType(ir.IntType(32), half)
                low, high = (
                    builder.shuffle_vector(
                        side_by_side, side_by_side, ir.Constant(words, [*range(at, at + half)])
                    )
                    for at in (0, half)
                )
                side_by_side = join(low, high)
            lanes_left = builder.extract_element(side_by_side, ir.Constant(ir.IntType(32), 0))
            return join(result, lanes_left)

        return types.float32(line, types.int64), codegen

    return fold


total, squares, largest = _fold("total"), _fold("squares"), _fold("largest")

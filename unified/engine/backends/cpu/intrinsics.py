"""What numba has no Python for: bits, vector width, addresses, sums in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from types import FunctionType
from typing import Any, cast

from llvmlite import ir
from numba import extending, njit, types
from numba.core import cgutils

from unified.engine.backends.cpu.kernel_cache import KernelCache

__all__ = [
    "bits",
    "by_type",
    "called_only",
    "compiled",
    "entry",
    "function_of_its_own",
    "inlined",
    "intrinsic",
    "largest",
    "pointer",
    "prefetch",
    "squares",
    "total",
    "wide_vectors",
    "word",
]

# An intrinsic is called without its first argument, which type checkers cannot know.
intrinsic: Any = extending.intrinsic

_LANES = 16
_PREFETCH = "llvm.prefetch.p0i8"

# How the decoder's loops are compiled. A product and a sum may be one instruction; nothing else is
# reordered, so that every machine code of a loop gives the same bits, and NaN stays NaN. One flag,
# not several: numba names functions by how a set of them prints, which changes from run to run.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
compiled: Any = njit(**_OPTIONS)
# The same inside its callers before they are compiled: a phase of a layer knows which workspaces
# are its caller's own, and loops over them stay vectorized (4% of a pass of one row).
inlined: Any = njit(inline="always", **_OPTIONS)


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
    extending.overload(chosen, jit_options=cast(Any, _OPTIONS))(implementation)
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


def prefetch(builder: Any, pointer: Any) -> None:
    """Begin to read a line of the cache into the second nearest cache."""
    byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    function = builder.module.globals.get(_PREFETCH)
    if function is None:
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = ir.Function(builder.module, kind, _PREFETCH)
    builder.call(function, [builder.bitcast(pointer, byte), number(0), number(2), number(1)])


@intrinsic
def called_only(typingctx: Any) -> Any:
    """Keep the function around this out of its callers: it is compiled once and not for each, and
    all get the same bits, where sums of products can be contracted in more than one way."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen


def _prefer_wide_vectors(function: Any) -> None:
    # llvmlite knows no attributes with values.
    set.add(function.attributes, '"prefer-vector-width"="512"')


@intrinsic
def wide_vectors(typingctx: Any) -> Any:
    """Let loops of the function around this use 512 bits at once, where the processor has them.
    LLVM halves that by itself; two rows cost what one costs only with all of them."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _prefer_wide_vectors(builder.function)
        return context.get_dummy_value()

    return types.void(), codegen


def function_of_its_own(module: Any, name: str, kinds: Sequence[Any]) -> tuple[Any, Any]:
    """A function (addresses and numbers of types `kinds`) -> nothing, for a loop whose sums are to
    stay in registers: inside another function, what is needed around the loop takes some of them.

    Returns it and a builder of what it does; no builder where the module has it already.
    """
    if name in module.globals:
        return module.globals[name], None
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    function.linkage = "internal"
    for attribute in ("noinline", "nounwind"):
        function.attributes.add(attribute)
    _prefer_wide_vectors(function)
    return function, ir.IRBuilder(function.append_basic_block("entry"))


@intrinsic
def pointer(typingctx: Any, address: Any, dtype_like: Any) -> Any:
    """A pointer to numbers of the type of the array `dtype_like`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(dtype_like.dtype)(types.int64, dtype_like), codegen


def _fold(kind: str) -> Any:
    """The sum, the sum of squares or the largest of the first numbers of a float32 line.

    In a fixed order: 64 lanes side by side, then sixteen, the numbers left over by themselves; one
    half of lanes is folded with the other until one lane is left.
    """

    @intrinsic
    def fold(typingctx: Any, line: Any, length: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, args[0]).data
            long, number = ir.IntType(64), ir.FloatType()
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

            def loop(first: Any, step: int, begin: Any, end: Any) -> Any:
                """Fold numbers [begin, end), `step` at a time, on top of `first`."""
                sums = cgutils.alloca_once(builder, first.type)
                builder.store(first, sums)
                with cgutils.for_range_slice(
                    builder, begin, end, ir.Constant(long, step), inc=True
                ) as (at, _):
                    where = builder.bitcast(builder.gep(data, [at]), first.type.as_pointer())
                    more = builder.load(where, align=4)
                    builder.store(add(builder.load(sums), more), sums)
                return builder.load(sums)

            def whole(lanes: int) -> Any:
                """The numbers that fill vectors of so many lanes."""
                return builder.sub(args[1], builder.srem(args[1], ir.Constant(long, lanes)))

            def halved(sums: Any, lanes: int) -> Any:
                """Fold one half of the lanes with the other until so many are left."""
                while sums.type.count > lanes:
                    half = sums.type.count // 2
                    words = ir.VectorType(ir.IntType(32), half)
                    low, high = (
                        builder.shuffle_vector(
                            sums, sums, ir.Constant(words, [*range(at, at + half)])
                        )
                        for at in (0, half)
                    )
                    sums = join(low, high)
                return sums

            zero, wide = ir.Constant(long, 0), 4 * _LANES
            empty = ir.Constant(ir.VectorType(number, wide), [start] * wide)
            sums = halved(loop(empty, wide, zero, whole(wide)), _LANES)
            sums = loop(sums, _LANES, whole(wide), whole(_LANES))
            result = loop(ir.Constant(number, start), 1, whole(_LANES), args[1])
            side_by_side = halved(sums, 1)
            lanes_left = builder.extract_element(side_by_side, ir.Constant(ir.IntType(32), 0))
            return join(result, lanes_left)

        return types.float32(line, types.int64), codegen

    return fold


total, squares, largest = _fold("total"), _fold("squares"), _fold("largest")

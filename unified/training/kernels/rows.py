"""Passes over a row: what numba has no vectors for, since rows are short and may overlap.

Arrays are flat: a row begins at the index that follows its array. Arrays of uint16 are bits of
bfloat16; sums are float32, in a fixed order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from unified.engine.backends.cpu.intrinsics import intrinsic
from unified.training.kernels.ir import Lanes, data_of, each, every, exp_of, fma, spread

__all__ = ["centred", "gated", "gated_gradient", "halves", "rotated", "squares_of", "weighed"]

_LONG, _FLOAT = types.int64, types.float32


def _pass(
    arrays: Any, kinds: tuple[Any, ...], body: Callable[..., Any], summed: bool = False
) -> tuple[Any, Callable[..., Any]]:
    """(signature, code) of an intrinsic that does `body` for each number of a row.

    arrays: types of arguments that are arrays by their number; kinds: types of all arguments, the
    last one is how many numbers the row has. body: called with the builder, `Lanes`, and a list of
    the arguments, of arrays their data.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = [
            data_of(context, builder, signature, args, n) if n in arrays else value
            for n, value in enumerate(args)
        ]
        total = each(builder, args[-1], lambda lanes: body(builder, lanes, values), summed)
        return total if summed else context.get_dummy_value()

    return (_FLOAT if summed else types.void)(*kinds), codegen


@intrinsic
def halves(
    typingctx: Any, values: Any, at: Any, factor: Any, out: Any, out_at: Any, count: Any
) -> Any:
    """out = values * factor, float32 to bits of bfloat16."""

    def body(builder: Any, lanes: Lanes, args: list[Any]) -> None:
        values, at, factor, out, out_at, _ = args
        x = builder.fmul(lanes.floats(values, at), spread(builder, factor))
        lanes.store(x, out, out_at)

    return _pass((0, 3), (values, _LONG, _FLOAT, out, _LONG, _LONG), body)


@intrinsic
def squares_of(typingctx: Any, x: Any, at: Any, count: Any) -> Any:
    """The sum of squares of a row of bits."""

    def body(builder: Any, lanes: Lanes, args: list[Any]) -> Any:
        number = lanes.halves(args[0], args[1])
        return builder.fmul(number, number)

    return _pass((0,), (x, _LONG, _LONG), body, summed=True)


@intrinsic
def rotated(
    typingctx: Any, x: Any, at: Any, factors: Any, factors_at: Any, cos: Any, sin: Any,
    turn_at: Any, sign: Any, out: Any, half: Any,
) -> Any:  # fmt: skip
    """out (2 half) float32, from 0 on, = x, bits, times factors, rotated as `rotate_half` does it.

    cos, sin: bits, both halves alike. sign: 1, or -1 to rotate back.
    """

    def body(builder: Any, lanes: Lanes, args: list[Any]) -> None:
        x, at, factors, factors_at, cos, sin, turn_at, sign, out, half = args
        high_at, high_factors = builder.add(at, half), builder.add(factors_at, half)
        low = builder.fmul(lanes.halves(x, at), lanes.floats(factors, factors_at))
        high = builder.fmul(lanes.halves(x, high_at), lanes.floats(factors, high_factors))
        cosine = lanes.halves(cos, turn_at)
        sine = builder.fmul(lanes.halves(sin, turn_at), spread(builder, sign))
        zero = builder.sub(at, at)
        back = builder.fneg(sine)
        lanes.store(fma(builder, low, cosine, builder.fmul(high, back)), out, zero)
        lanes.store(fma(builder, high, cosine, builder.fmul(low, sine)), out, half)

    kinds = (x, _LONG, factors, _LONG, cos, sin, _LONG, _FLOAT, out, _LONG)
    return _pass((0, 2, 4, 5, 8), kinds, body)


@intrinsic
def weighed(
    typingctx: Any, grad: Any, at: Any, x: Any, x_at: Any, factors: Any, factors_at: Any,
    scale: Any, sums: Any, sums_at: Any, count: Any,
) -> Any:  # fmt: skip
    """The sum of grad * factors * x * scale; grad * x * scale is added to sums.

    grad, factors, sums: float32. x: bits.
    """

    def body(builder: Any, lanes: Lanes, args: list[Any]) -> Any:
        grad, at, x, x_at, factors, factors_at, scale, sums, sums_at, _ = args
        normed = builder.fmul(lanes.halves(x, x_at), spread(builder, scale))
        product = builder.fmul(lanes.floats(grad, at), normed)
        lanes.store(builder.fadd(lanes.floats(sums, sums_at), product), sums, sums_at)
        return builder.fmul(product, lanes.floats(factors, factors_at))

    kinds = (grad, _LONG, x, _LONG, factors, _LONG, _FLOAT, sums, _LONG, _LONG)
    return _pass((0, 2, 4, 7), kinds, body, summed=True)


@intrinsic
def centred(
    typingctx: Any, grad: Any, at: Any, x: Any, x_at: Any, factors: Any, factors_at: Any,
    scale: Any, shift: Any, out: Any, out_at: Any, count: Any,
) -> Any:  # fmt: skip
    """out = grad * factors * scale - x * shift, in bits; x: bits, grad and factors: float32."""

    def body(builder: Any, lanes: Lanes, args: list[Any]) -> None:
        grad, at, x, x_at, factors, factors_at, scale, shift, out, out_at, _ = args
        less = builder.fneg(spread(builder, shift))
        above = builder.fmul(lanes.floats(grad, at), lanes.floats(factors, factors_at))
        off = builder.fmul(lanes.halves(x, x_at), less)
        lanes.store(fma(builder, above, spread(builder, scale), off), out, out_at)

    kinds = (grad, _LONG, x, _LONG, factors, _LONG, _FLOAT, _FLOAT, out, _LONG, _LONG)
    return _pass((0, 2, 4, 8), kinds, body)


def _sigmoid(builder: Any, x: Any) -> Any:
    whole = every(1.0)
    return builder.fdiv(whole, builder.fadd(whole, exp_of(builder, builder.fneg(x))))


@intrinsic
def gated(typingctx: Any, x: Any, at: Any, out: Any, out_at: Any, count: Any) -> Any:
    """out = silu(x) * what stands `count` further on in x; bits."""

    def body(builder: Any, lanes: Lanes, args: list[Any]) -> None:
        x, at, out, out_at, count = args
        gate, up = lanes.halves(x, at), lanes.halves(x, builder.add(at, count))
        share = _sigmoid(builder, gate)
        lanes.store(builder.fmul(builder.fmul(gate, share), up), out, out_at)

    return _pass((0, 2), (x, _LONG, out, _LONG, _LONG), body)


@intrinsic
def gated_gradient(
    typingctx: Any, grad: Any, at: Any, x: Any, x_at: Any, x_grad: Any, out: Any, count: Any
) -> Any:
    """x_grad, at `x_at`, = the gradient of `gated` for grad; out, at `at`, = what it gave; bits."""

    def body(builder: Any, lanes: Lanes, args: list[Any]) -> None:
        grad, at, x, x_at, x_grad, out, count = args
        up_at = builder.add(x_at, count)
        gate, up = lanes.halves(x, x_at), lanes.halves(x, up_at)
        above = lanes.halves(grad, at)
        share = _sigmoid(builder, gate)
        silu = builder.fmul(gate, share)
        rest = builder.fsub(every(1.0), share)
        slope = fma(builder, silu, rest, share)
        lanes.store(builder.fmul(silu, up), out, at)
        lanes.store(builder.fmul(builder.fmul(above, up), slope), x_grad, x_at)
        lanes.store(builder.fmul(above, silu), x_grad, up_at)

    kinds = (grad, _LONG, x, _LONG, x_grad, out, _LONG)
    return _pass((0, 2, 4, 5), kinds, body)

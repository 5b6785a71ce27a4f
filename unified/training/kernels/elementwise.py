"""What a layer does beside its products and its attention, in one pass each, bfloat16 in and out.

Inside a pass everything is float32 and is rounded once. Rows are claimed in chunks by whichever
thread is free; sums over rows are added chunk by chunk in their order, so that the bits do not
depend on the threads. Arrays of uint16 are bits of bfloat16.

Legend: N rows, D width, I width inside the MLP, C channels of a head, S chunks.
"""

from __future__ import annotations

import numpy as np

from unified.engine.backends.cpu.attention import exp
from unified.engine.backends.cpu.intrinsics import (
    bits,
    compiled,
    entry,
    squares,
    total,
    wide_vectors,
)
from unified.engine.backends.cpu.threads import claim_chunk, finish_chunk, wait_for_phase
from unified.training.kernels.vectors import halves

__all__ = ["CHUNK", "gate", "gate_gradient", "norm", "norm_gradient", "turn", "turn_gradient"]

CHUNK = 32
"""Rows that a thread claims at once."""
_ONE = np.float32(1)


@compiled
def _widen(source: np.ndarray, out: np.ndarray) -> None:
    """Bits of bfloat16 to float32."""
    wide_vectors()
    for d in range(len(out)):
        out[d] = bits(np.uint32(source[d]) << np.uint32(16))


@compiled
def _scale_of(row: np.ndarray, eps: np.float32) -> np.float32:
    """What RMSNorm multiplies a row with."""
    D = len(row)
    return np.float32(1) / np.sqrt(squares(row, D) / np.float32(D) + eps)


@entry
def norm(
    x: np.ndarray, weight: np.ndarray, eps: np.float32, out: np.ndarray, counters: np.ndarray
) -> None:
    """out (N, D) = RMSNorm of each row of x, times weight (D,)."""
    wide_vectors()
    N, D = x.shape
    chunks = (N + CHUNK - 1) // CHUNK
    row, factors, flat = np.empty(D, np.float32), np.empty(D, np.float32), out.reshape(-1)
    _widen(weight, factors)
    while True:
        chunk = claim_chunk(counters, 0)
        if chunk >= chunks:
            break
        for n in range(chunk * CHUNK, min(N, (chunk + 1) * CHUNK)):
            _widen(x[n], row)
            scale = _scale_of(row, eps)
            for d in range(D):
                row[d] *= factors[d]
            halves(row, 0, scale, D, flat, n * D)
        finish_chunk(counters, 0, chunks)
    wait_for_phase(counters, 0, chunks)


@compiled
def _back_through_norm(
    row: np.ndarray, grad: np.ndarray, factors: np.ndarray, eps: np.float32, sums: np.ndarray,
    product: np.ndarray,
) -> np.float32:  # fmt: skip
    """grad becomes the gradient of a row, but for the factor that is returned; sums (D,) gets what
    it adds to that of the weight."""
    wide_vectors()
    D = len(row)
    scale = _scale_of(row, eps)
    for d in range(D):
        row[d] *= scale
    for d in range(D):
        product[d] = grad[d] * row[d]
    for d in range(D):
        sums[d] += product[d]
    for d in range(D):
        product[d] *= factors[d]
    mean = total(product, D) / np.float32(D)
    for d in range(D):
        grad[d] = grad[d] * factors[d] - row[d] * mean
    return scale


@entry
def norm_gradient(
    grad: np.ndarray, x: np.ndarray, weight: np.ndarray, eps: np.float32, x_grad: np.ndarray,
    sums: np.ndarray, counters: np.ndarray,
) -> None:  # fmt: skip
    """x_grad (N, D), and sums float32 (S, D), that add up to the weight's gradient."""
    wide_vectors()
    N, D = x.shape
    chunks = (N + CHUNK - 1) // CHUNK
    row, above, product = np.empty(D, np.float32), np.empty(D, np.float32), np.empty(D, np.float32)
    factors, flat = np.empty(D, np.float32), x_grad.reshape(-1)
    _widen(weight, factors)
    while True:
        chunk = claim_chunk(counters, 0)
        if chunk >= chunks:
            break
        sums[chunk] = 0
        for n in range(chunk * CHUNK, min(N, (chunk + 1) * CHUNK)):
            _widen(x[n], row)
            _widen(grad[n], above)
            scale = _back_through_norm(row, above, factors, eps, sums[chunk], product)
            halves(above, 0, scale, D, flat, n * D)
        finish_chunk(counters, 0, chunks)
    wait_for_phase(counters, 0, chunks)


@compiled
def _rotate(row: np.ndarray, cos: np.ndarray, sin: np.ndarray, sign: np.float32) -> None:
    """As transformers' `rotate_half`: number c is paired with c + C / 2."""
    wide_vectors()
    half = len(row) // 2
    low, high = row[:half], row[half:]
    for c in range(half):
        a, b = low[c], high[c]
        low[c] = a * cos[c] - sign * b * sin[c]
        high[c] = b * cos[c] + sign * a * sin[c]


@entry
def turn(
    x: np.ndarray, heads: int, C: int, weights: np.ndarray, first: int, eps: np.float32,
    cos: np.ndarray, sin: np.ndarray, out: np.ndarray, counters: np.ndarray,
) -> None:  # fmt: skip
    """out (N, heads C) = the first heads of each row of x (N, more), normalised and rotated.

    weights: (2, C), of the norms of the first `first` heads (queries) and of the others (keys);
    (2, 0): there are none. cos, sin: (N, C), both halves alike.
    """
    wide_vectors()
    N = x.shape[0]
    chunks = (N + CHUNK - 1) // CHUNK
    row, flat = np.empty(C, np.float32), out.reshape(-1)
    cosines, sines = np.empty(C, np.float32), np.empty(C, np.float32)
    normed = weights.shape[1] > 0
    factors = np.empty((2, C), np.float32)
    if normed:
        _widen(weights[0], factors[0])
        _widen(weights[1], factors[1])
    while True:
        chunk = claim_chunk(counters, 0)
        if chunk >= chunks:
            break
        for n in range(chunk * CHUNK, min(N, (chunk + 1) * CHUNK)):
            _widen(cos[n], cosines)
            _widen(sin[n], sines)
            for h in range(heads):
                _widen(x[n, h * C : (h + 1) * C], row)
                scale = _ONE
                if normed:
                    scale = _scale_of(row, eps)
                    factor = factors[0] if h < first else factors[1]
                    for c in range(C):
                        row[c] *= factor[c]
                _rotate(row, cosines, sines, _ONE)
                halves(row, 0, scale, C, flat, (n * heads + h) * C)
        finish_chunk(counters, 0, chunks)
    wait_for_phase(counters, 0, chunks)


@entry
def turn_gradient(
    grad: np.ndarray, x: np.ndarray, heads: int, C: int, weights: np.ndarray, first: int,
    eps: np.float32, cos: np.ndarray, sin: np.ndarray, sums: np.ndarray, counters: np.ndarray,
) -> None:  # fmt: skip
    """The first heads of grad (N, more), gradients of what `turn` gave, become those of x.

    sums: float32 (S, 2, C), that add up to the gradients of `weights`.
    """
    wide_vectors()
    N, width = grad.shape
    chunks = (N + CHUNK - 1) // CHUNK
    row, above, product = np.empty(C, np.float32), np.empty(C, np.float32), np.empty(C, np.float32)
    cosines, sines = np.empty(C, np.float32), np.empty(C, np.float32)
    normed, flat = weights.shape[1] > 0, grad.reshape(-1)
    factors = np.empty((2, C), np.float32)
    if normed:
        _widen(weights[0], factors[0])
        _widen(weights[1], factors[1])
    while True:
        chunk = claim_chunk(counters, 0)
        if chunk >= chunks:
            break
        sums[chunk] = 0
        for n in range(chunk * CHUNK, min(N, (chunk + 1) * CHUNK)):
            _widen(cos[n], cosines)
            _widen(sin[n], sines)
            for h in range(heads):
                _widen(grad[n, h * C : (h + 1) * C], above)
                _rotate(above, cosines, sines, -_ONE)
                scale = _ONE
                if normed:
                    kind = 0 if h < first else 1
                    _widen(x[n, h * C : (h + 1) * C], row)
                    scale = _back_through_norm(
                        row, above, factors[kind], eps, sums[chunk, kind], product
                    )
                halves(above, 0, scale, C, flat, n * width + h * C)
        finish_chunk(counters, 0, chunks)
    wait_for_phase(counters, 0, chunks)


@entry
def gate(x: np.ndarray, out: np.ndarray, counters: np.ndarray) -> None:
    """out (N, I) = silu(first half of each row of x (N, 2 I)) * second half."""
    wide_vectors()
    N, inner = out.shape
    chunks = (N + CHUNK - 1) // CHUNK
    row, flat = np.empty(inner, np.float32), out.reshape(-1)
    while True:
        chunk = claim_chunk(counters, 0)
        if chunk >= chunks:
            break
        for n in range(chunk * CHUNK, min(N, (chunk + 1) * CHUNK)):
            first, second = x[n, :inner], x[n, inner:]
            for i in range(inner):
                a = bits(np.uint32(first[i]) << np.uint32(16))
                b = bits(np.uint32(second[i]) << np.uint32(16))
                row[i] = a / (_ONE + exp(-a)) * b
            halves(row, 0, _ONE, inner, flat, n * inner)
        finish_chunk(counters, 0, chunks)
    wait_for_phase(counters, 0, chunks)


@entry
def gate_gradient(
    grad: np.ndarray, x: np.ndarray, x_grad: np.ndarray, out: np.ndarray, counters: np.ndarray
) -> None:
    """x_grad (N, 2 I) = the gradient of `gate` for grad (N, I); out (N, I) = what it gave."""
    wide_vectors()
    N, inner = out.shape
    chunks = (N + CHUNK - 1) // CHUNK
    row, both = np.empty(inner, np.float32), np.empty(2 * inner, np.float32)
    low, high = both[:inner], both[inner:]
    flat, flat_grad = out.reshape(-1), x_grad.reshape(-1)
    while True:
        chunk = claim_chunk(counters, 0)
        if chunk >= chunks:
            break
        for n in range(chunk * CHUNK, min(N, (chunk + 1) * CHUNK)):
            _widen(x[n, :inner], low)
            _widen(x[n, inner:], high)
            above = grad[n]
            for i in range(inner):
                a, b = low[i], high[i]
                g = bits(np.uint32(above[i]) << np.uint32(16))
                share = _ONE / (_ONE + exp(-a))
                gated = a * share
                row[i] = gated * b
                low[i] = g * b * (share + gated * (_ONE - share))
                high[i] = g * gated
            halves(row, 0, _ONE, inner, flat, n * inner)
            halves(both, 0, _ONE, 2 * inner, flat_grad, n * 2 * inner)
        finish_chunk(counters, 0, chunks)
    wait_for_phase(counters, 0, chunks)

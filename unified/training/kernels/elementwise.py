"""What a layer does beside its products and its attention, in one pass each, bfloat16 in and out.

Inside a pass everything is float32 and is rounded once. Rows are claimed in chunks by whichever
thread is free; sums over rows are added chunk by chunk in their order, so that the bits do not
depend on the threads. Arrays of uint16 are bits of bfloat16.

Legend: N rows, D width, I width inside the MLP, C channels of a head, S chunks.
"""

from __future__ import annotations

import numpy as np

from unified.engine.backends.cpu.intrinsics import bits, compiled, entry, wide_vectors
from unified.engine.backends.cpu.threads import claim_chunk, finish_chunk, wait_for_phase
from unified.training.kernels.rows import (
    centred,
    gated,
    gated_gradient,
    halves,
    rotated,
    squares_of,
    weighed,
)

__all__ = [
    "CHUNK", "add", "gate", "gate_gradient", "norm", "norm_gradient", "turn", "turn_gradient",
]  # fmt: skip

CHUNK = 32
"""Rows that a thread claims at once."""
_ONE = np.float32(1)
_PIECE = 1 << 14  # numbers that a thread claims at once where there are no rows


@compiled
def _widen(source: np.ndarray, out: np.ndarray) -> None:
    """Bits of bfloat16 to float32."""
    wide_vectors()
    for d in range(len(out)):
        out[d] = bits(np.uint32(source[d]) << np.uint32(16))


@compiled
def _scale_of(x: np.ndarray, at: int, D: int, eps: np.float32) -> np.float32:
    """What RMSNorm multiplies a row with."""
    return _ONE / np.sqrt(squares_of(x, at, D) / np.float32(D) + eps)


@entry
def norm(
    x: np.ndarray, weight: np.ndarray, eps: np.float32, out: np.ndarray, counters: np.ndarray
) -> None:
    """out (N, D) = RMSNorm of each row of x, times weight (D,)."""
    wide_vectors()
    N, D = x.shape
    chunks = (N + CHUNK - 1) // CHUNK
    flat_x, flat = x.reshape(-1), out.reshape(-1)
    row, factors = np.empty(D, np.float32), np.empty(D, np.float32)
    _widen(weight, factors)
    while True:
        chunk = claim_chunk(counters, 0)
        if chunk >= chunks:
            break
        for n in range(chunk * CHUNK, min(N, (chunk + 1) * CHUNK)):
            scale = _scale_of(flat_x, n * D, D, eps)
            _widen(x[n], row)
            for d in range(D):
                row[d] *= factors[d]
            halves(row, 0, scale, flat, n * D, D)
        finish_chunk(counters, 0, chunks)
    wait_for_phase(counters, 0, chunks)


@entry
def norm_gradient(
    grad: np.ndarray, x: np.ndarray, weight: np.ndarray, eps: np.float32, x_grad: np.ndarray,
    sums: np.ndarray, counters: np.ndarray,
) -> None:  # fmt: skip
    """x_grad (N, D), and sums float32 (S, D), that add up to the weight's gradient."""
    wide_vectors()
    N, D = x.shape
    chunks = (N + CHUNK - 1) // CHUNK
    flat_x, flat, flat_sums = x.reshape(-1), x_grad.reshape(-1), sums.reshape(-1)
    above, factors = np.empty(D, np.float32), np.empty(D, np.float32)
    _widen(weight, factors)
    while True:
        chunk = claim_chunk(counters, 0)
        if chunk >= chunks:
            break
        sums[chunk] = 0
        for n in range(chunk * CHUNK, min(N, (chunk + 1) * CHUNK)):
            scale = _scale_of(flat_x, n * D, D, eps)
            _widen(grad[n], above)
            mean = weighed(above, 0, flat_x, n * D, factors, 0, scale, flat_sums, chunk * D, D)
            shift = mean / np.float32(D) * scale * scale
            centred(above, 0, flat_x, n * D, factors, 0, scale, shift, flat, n * D, D)
        finish_chunk(counters, 0, chunks)
    wait_for_phase(counters, 0, chunks)


@compiled
def _factors_of(weights: np.ndarray, C: int) -> np.ndarray:
    """Weights of the norms of queries and keys, float32 (2 C,); 1 where there are none."""
    factors = np.ones(2 * C, np.float32)
    if weights.shape[1]:
        _widen(weights[0], factors[:C])
        _widen(weights[1], factors[C:])
    return factors


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
    N, width = x.shape
    chunks = (N + CHUNK - 1) // CHUNK
    row, factors, normed = np.empty(C, np.float32), _factors_of(weights, C), weights.shape[1] > 0
    flat_x, flat, cosines, sines = x.reshape(-1), out.reshape(-1), cos.reshape(-1), sin.reshape(-1)
    while True:
        chunk = claim_chunk(counters, 0)
        if chunk >= chunks:
            break
        for n in range(chunk * CHUNK, min(N, (chunk + 1) * CHUNK)):
            for h in range(heads):
                at = n * width + h * C
                scale = _scale_of(flat_x, at, C, eps) if normed else _ONE
                kind = 0 if h < first else C
                rotated(flat_x, at, factors, kind, cosines, sines, n * C, _ONE, row, C // 2)
                halves(row, 0, scale, flat, (n * heads + h) * C, C)
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
    above, factors, normed = np.empty(C, np.float32), _factors_of(weights, C), weights.shape[1] > 0
    ones = np.ones(C, np.float32)
    flat_x, flat, flat_sums = x.reshape(-1), grad.reshape(-1), sums.reshape(-1)
    cosines, sines = cos.reshape(-1), sin.reshape(-1)
    while True:
        chunk = claim_chunk(counters, 0)
        if chunk >= chunks:
            break
        sums[chunk] = 0
        for n in range(chunk * CHUNK, min(N, (chunk + 1) * CHUNK)):
            for h in range(heads):
                at = n * width + h * C
                rotated(flat, at, ones, 0, cosines, sines, n * C, -_ONE, above, C // 2)
                if not normed:
                    halves(above, 0, _ONE, flat, at, C)
                    continue
                kind = 0 if h < first else C
                scale = _scale_of(flat_x, at, C, eps)
                mean = weighed(
                    above, 0, flat_x, at, factors, kind, scale, flat_sums, 2 * chunk * C + kind, C
                )
                shift = mean / np.float32(C) * scale * scale
                centred(above, 0, flat_x, at, factors, kind, scale, shift, flat, at, C)
        finish_chunk(counters, 0, chunks)
    wait_for_phase(counters, 0, chunks)


@entry
def gate(x: np.ndarray, out: np.ndarray, counters: np.ndarray) -> None:
    """out (N, I) = silu(first half of each row of x (N, 2 I)) * second half."""
    wide_vectors()
    N, inner = out.shape
    chunks = (N + CHUNK - 1) // CHUNK
    flat_x, flat = x.reshape(-1), out.reshape(-1)
    while True:
        chunk = claim_chunk(counters, 0)
        if chunk >= chunks:
            break
        for n in range(chunk * CHUNK, min(N, (chunk + 1) * CHUNK)):
            gated(flat_x, 2 * n * inner, flat, n * inner, inner)
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
    flat, flat_x, flat_grad = grad.reshape(-1), x.reshape(-1), x_grad.reshape(-1)
    flat_out = out.reshape(-1)
    while True:
        chunk = claim_chunk(counters, 0)
        if chunk >= chunks:
            break
        for n in range(chunk * CHUNK, min(N, (chunk + 1) * CHUNK)):
            gated_gradient(flat, n * inner, flat_x, 2 * n * inner, flat_grad, flat_out, inner)
        finish_chunk(counters, 0, chunks)
    wait_for_phase(counters, 0, chunks)


@entry
def add(total: np.ndarray, x: np.ndarray, counters: np.ndarray) -> None:
    """total (N,) float32 += x (N,), bits. torch widens x first, into memory."""
    wide_vectors()
    N = len(total)
    chunks = (N + _PIECE - 1) // _PIECE
    while True:
        chunk = claim_chunk(counters, 0)
        if chunk >= chunks:
            break
        stop = min(N, (chunk + 1) * _PIECE)
        sums, more = total[chunk * _PIECE : stop], x[chunk * _PIECE : stop]
        for n in range(len(sums)):
            sums[n] += bits(np.uint32(more[n]) << np.uint32(16))
        finish_chunk(counters, 0, chunks)
    wait_for_phase(counters, 0, chunks)

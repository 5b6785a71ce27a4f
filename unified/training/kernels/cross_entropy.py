"""Cross-entropy and its slopes, a row of logits at a time.

Legend: N rows, R logits of a row.
"""

from __future__ import annotations

import numpy as np

from unified.engine.backends.cpu.attention import exp
from unified.engine.backends.cpu.intrinsics import (
    bits,
    compiled,
    entry,
    largest,
    total,
    wide_vectors,
)
from unified.engine.backends.cpu.threads import claim_chunk, finish_chunk, wait_for_phase
from unified.training.kernels.vectors import halves

__all__ = ["cross_entropy"]

_ROWS = 8  # that a thread claims at once


@compiled
def _exponentials(source: np.ndarray, row: np.ndarray) -> np.float32:
    """row (R,) = exp(bits of bfloat16 - their largest), which is returned."""
    wide_vectors()
    for t in range(len(row)):
        row[t] = bits(np.uint32(source[t]) << np.uint32(16))
    top = largest(row, len(row))
    for t in range(len(row)):
        row[t] = exp(row[t] - top)
    return top


@entry
def cross_entropy(
    logits: np.ndarray, targets: np.ndarray, weights: np.ndarray, z_loss: np.float32,
    train: bool, losses: np.ndarray, normalisers: np.ndarray, counters: np.ndarray,
) -> None:  # fmt: skip
    """losses, normalisers (N,) of logits (N, R), which become their slopes where `train` is set.

    Args:
        logits: bits of bfloat16. Their slopes are those of the weighted loss and of `z_loss` times
            the weighted square of the normaliser.
        targets: int64 (N,).
        weights: float32 (N,).
        z_loss: weight of the squared log-normaliser.
        train: whether slopes are wanted.
        losses, normalisers: float32 (N,).
        counters: of one phase.
    """
    wide_vectors()
    N, R = logits.shape
    chunks = (N + _ROWS - 1) // _ROWS
    row, flat = np.empty(R, np.float32), logits.reshape(-1)
    while True:
        chunk = claim_chunk(counters, 0)
        if chunk >= chunks:
            break
        for n in range(chunk * _ROWS, min(N, (chunk + 1) * _ROWS)):
            target = bits(np.uint32(logits[n, targets[n]]) << np.uint32(16))
            top = _exponentials(logits[n], row)
            weight = total(row, R)
            normaliser = top + np.log(weight)
            losses[n], normalisers[n] = normaliser - target, normaliser
            if train:
                slope = weights[n] * (np.float32(1) + np.float32(2) * z_loss * normaliser)
                factor = slope / weight
                for t in range(R):
                    row[t] *= factor
                row[targets[n]] -= weights[n]
                halves(row, 0, np.float32(1), R, flat, n * R)
        finish_chunk(counters, 0, chunks)
    wait_for_phase(counters, 0, chunks)

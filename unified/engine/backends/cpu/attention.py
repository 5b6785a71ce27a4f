"""Attention of a few queries, rotary positions, norms and exponentials: loops of the decoder.

Legend: `N` rows, `R` queries, `L` cache length, `C` head width, `D` width.
"""

from __future__ import annotations

import numpy as np

from unified.engine.backends.cpu.intrinsics import (
    bits,
    compiled,
    largest,
    squares,
    total,
    wide_vectors,
)
from unified.engine.backends.cpu.matmul import PANEL, product

__all__ = ["attend", "exp", "norm", "turn"]


@compiled
def exp(x: np.float32) -> np.float32:
    """exp to 2 units in the last place, as loops over it are vectorized (Cephes' polynomial)."""
    # Not min and max: a NaN has to stay one.
    x = np.float32(-87) if x < np.float32(-87) else x
    x = np.float32(88) if x > np.float32(88) else x
    n = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    x = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    y = np.float32(1.9875691500e-4)
    y = y * x + np.float32(1.3981999507e-3)
    y = y * x + np.float32(8.3334519073e-3)
    y = y * x + np.float32(4.1665795894e-2)
    y = y * x + np.float32(1.6666665459e-1)
    y = y * x + np.float32(5.0000001201e-1)
    y = y * x * x + x + np.float32(1)
    return y * bits(np.uint32(np.int32(n) + np.int32(127)) << np.uint32(23))


@compiled
def norm(x: np.ndarray, weight: np.ndarray, eps: np.float32, out: np.ndarray) -> None:
    """RMSNorm of each line of x (N, D)."""
    wide_vectors()
    for n in range(x.shape[0]):
        line, made, D = x[n], out[n], x.shape[1]
        scale = np.float32(1) / np.sqrt(squares(line, D) / np.float32(D) + eps)
        for d in range(D):
            made[d] = line[d] * scale * weight[d]


@compiled
def turn(head: np.ndarray, weight: np.ndarray, eps: np.float32, angles: np.ndarray) -> None:
    """Norm, if it has weights, and rotate one head (C,) in place. angles: (2, C/2), cos
    and sin of them."""
    wide_vectors()
    C = head.shape[0]
    if weight.shape[0]:
        scale = np.float32(1) / np.sqrt(squares(head, C) / np.float32(C) + eps)
        for c in range(C):
            head[c] *= scale * weight[c]
    one, other, cos, sin = head[: C // 2], head[C // 2 :], angles[0], angles[1]
    for c in range(C // 2):
        a, b = one[c], other[c]
        one[c] = a * cos[c] - b * sin[c]
        other[c] = b * cos[c] + a * sin[c]


@compiled
def attend(
    queries: np.ndarray, length: int, each: int, keys: np.ndarray, values: np.ndarray,
    room: np.ndarray, found: np.ndarray,
) -> None:  # fmt: skip
    """found (R, C) = softmax(queries (R, C) . keys / sqrt(C)) @ values.

    keys (L / PANEL, C, PANEL) and values (C / PANEL, L, PANEL) are packed as weights are. The first
    `each` queries see `length` ids, the next `each` one more, and so on. room: float32, R L.
    """
    wide_vectors()
    R, C = queries.shape
    scale = np.float32(1) / np.sqrt(np.float32(C))
    panels = -(-(length + (R - 1) // each) // PANEL)
    scores = room[: R * panels * PANEL].reshape(R, panels * PANEL)
    product(queries, keys, 0, panels, scores)
    for r in range(R):
        line, own = scores[r], length + r // each
        top = largest(line, own) * scale
        for t in range(own):
            line[t] = exp(line[t] * scale - top)
        share = np.float32(1) / total(line, own)
        for t in range(own):
            line[t] *= share
        line[own:] = 0
    product(scores, values, 0, values.shape[0], found)

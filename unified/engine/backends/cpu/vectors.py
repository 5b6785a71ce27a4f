"""The exponential, GELU, norms and rotary positions: loops over one row of a decoder layer.

Shape legend: see `kernels`.
"""

from __future__ import annotations

import numpy as np

from unified.engine.backends.cpu.intrinsics import bits, compiled, squares, total, wide_vectors

__all__ = ["apply_rope", "exp", "gelu", "layer_norm", "rms_norm"]


@compiled
def exp(x: np.float32) -> np.float32:
    """exp to 2 units in the last place (Cephes' polynomial); loops over it are vectorized."""
    # Comparisons and not min and max, so that NaN stays NaN.
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
def gelu(x: np.float32) -> np.float32:
    """x times the normal distribution's share below x, to 3e-7 of |x| + 1.

    The error function is that of Abramowitz and Stegun, 7.1.26: a polynomial and an exponential,
    without a branch, so that loops over it are vectorized.
    """
    z = abs(x) * np.float32(0.70710678)
    t = np.float32(1) / (np.float32(1) + np.float32(0.3275911) * z)
    y = np.float32(1.061405429)
    y = y * t + np.float32(-1.453152027)
    y = y * t + np.float32(1.421413741)
    y = y * t + np.float32(-0.284496736)
    y = y * t + np.float32(0.254829592)
    above = np.float32(0.5) * y * t * exp(-z * z)  # the share above |x|
    return x * (above if x < np.float32(0) else np.float32(1) - above)


@compiled
def layer_norm(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: np.float32, out: np.ndarray
) -> None:
    """out (N, D) = LayerNorm of each row of x (N, D), with weight and bias (D,)."""
    wide_vectors()
    for n in range(x.shape[0]):
        row, out_row, D = x[n], out[n], x.shape[1]
        mean = total(row, D) / np.float32(D)
        for d in range(D):
            out_row[d] = row[d] - mean
        scale = np.float32(1) / np.sqrt(squares(out_row, D) / np.float32(D) + eps)
        for d in range(D):
            out_row[d] = out_row[d] * scale * weight[d] + bias[d]


@compiled
def rms_norm(x: np.ndarray, weight: np.ndarray, eps: np.float32, out: np.ndarray) -> None:
    """out (N, D) = RMSNorm of each row of x (N, D), times weight (D,)."""
    wide_vectors()
    for n in range(x.shape[0]):
        row, out_row, D = x[n], out[n], x.shape[1]
        scale = np.float32(1) / np.sqrt(squares(row, D) / np.float32(D) + eps)
        for d in range(D):
            out_row[d] = row[d] * scale * weight[d]


@compiled
def apply_rope(head: np.ndarray, weight: np.ndarray, eps: np.float32, cos_sin: np.ndarray) -> None:
    """Rotate one query or key head (C,) in place, after its RMSNorm where it has one (Qwen3).

    weight: of that norm, (C,), or (0,) for none. cos_sin: (2, C/2), of the head's position. The
    pair of number c is c + C/2, as in transformers' `rotate_half`.
    """
    wide_vectors()
    C = head.shape[0]
    if weight.shape[0]:
        scale = np.float32(1) / np.sqrt(squares(head, C) / np.float32(C) + eps)
        for c in range(C):
            head[c] *= scale * weight[c]
    first_half, second_half = head[: C // 2], head[C // 2 :]  # (C,) -> (C/2,), (C/2,)
    cos, sin = cos_sin[0], cos_sin[1]
    for c in range(C // 2):
        a, b = first_half[c], second_half[c]
        first_half[c] = a * cos[c] - b * sin[c]
        second_half[c] = b * cos[c] + a * sin[c]

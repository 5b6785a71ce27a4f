"""Products of a few rows with a weight, norms and exponentials: the inner loops of the decoder.

Legend: `N` rows, `K` inputs and `O` outputs of a product, `D` width.
"""

from __future__ import annotations

import numpy as np

from unified.instructions import bits, compiled, prefetch, wide_vectors, widened

__all__ = ["exp", "norm", "product"]


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
        total = np.float32(0)
        for d in range(x.shape[1]):
            total += x[n, d] * x[n, d]
        scale = np.float32(1) / np.sqrt(total / np.float32(x.shape[1]) + eps)
        for d in range(x.shape[1]):
            out[n, d] = x[n, d] * scale * weight[d]


@compiled
def product(x: np.ndarray, w: np.ndarray, first: int, count: int, out: np.ndarray) -> None:
    """out[:, :count] = x (N, K) @ w[first:first + count].T"""
    wide_vectors()
    N = x.shape[0]
    whole = N - N % 4
    if whole:
        _fours(x[:whole], w, first, count, out)
    if N - whole > 1:
        _two(x[whole], x[whole + 1], w, first, count, out[whole : whole + 2])
    if N % 2:
        _one(x[N - 1], w, first, count, out[N - 1])


@compiled
def _one(x: np.ndarray, w: np.ndarray, first: int, count: int, out: np.ndarray) -> None:
    wide_vectors()
    K = x.shape[0]
    for o in range(count):
        weight, total = w[first + o], np.float32(0)
        for k in range(K):
            total += x[k] * widened(weight[k])
        out[o] = total


@compiled
def _two(
    x0: np.ndarray, x1: np.ndarray, w: np.ndarray, first: int, count: int, out: np.ndarray
) -> None:
    wide_vectors()
    K = x0.shape[0]
    for o in range(count):
        total0 = total1 = np.float32(0)
        for k in range(K):
            weight = widened(w[first + o, k])
            total0 += x0[k] * weight
            total1 += x1[k] * weight
        out[0, o] = total0
        out[1, o] = total1


@compiled
def _fours(x: np.ndarray, w: np.ndarray, first: int, count: int, out: np.ndarray) -> None:
    """Four rows by four outputs at a time: sixteen sums that stay in registers. 80 GFLOP/s on a
    core where OpenBLAS has 65 for 16 rows of float32 (110 for 64)."""
    wide_vectors()
    N, K = x.shape
    whole = count - count % 4
    for o in range(0, whole, 4):
        w0, w1, w2, w3 = w[first + o], w[first + o + 1], w[first + o + 2], w[first + o + 3]
        for n in range(0, N, 4):
            x0, x1, x2, x3 = x[n], x[n + 1], x[n + 2], x[n + 3]
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = np.float32(0)
            c0 = c1 = c2 = c3 = d0 = d1 = d2 = d3 = np.float32(0)
            if n < 16:  # one of the next four at a time, so that requests do not queue
                for k in range(0, K, 64 // w.itemsize):
                    prefetch(w, np.int64((first + o + 4 + n // 4) * K + k))
            for k in range(K):
                p, q, r, s = widened(w0[k]), widened(w1[k]), widened(w2[k]), widened(w3[k])
                a, b, c, d = x0[k], x1[k], x2[k], x3[k]
                a0 += a * p
                a1 += a * q
                a2 += a * r
                a3 += a * s
                b0 += b * p
                b1 += b * q
                b2 += b * r
                b3 += b * s
                c0 += c * p
                c1 += c * q
                c2 += c * r
                c3 += c * s
                d0 += d * p
                d1 += d * q
                d2 += d * r
                d3 += d * s
            out[n, o], out[n, o + 1], out[n, o + 2], out[n, o + 3] = a0, a1, a2, a3
            out[n + 1, o], out[n + 1, o + 1], out[n + 1, o + 2], out[n + 1, o + 3] = b0, b1, b2, b3
            out[n + 2, o], out[n + 2, o + 1], out[n + 2, o + 2], out[n + 2, o + 3] = c0, c1, c2, c3
            out[n + 3, o], out[n + 3, o + 1], out[n + 3, o + 2], out[n + 3, o + 3] = d0, d1, d2, d3
    if whole < count:
        for n in range(N):
            _one(x[n], w, first + whole, count - whole, out[n, whole:])

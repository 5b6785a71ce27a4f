"""Phases of a layer whose products are read by more than one kind of layer.

Shape legend: see `kernels`.
"""

from __future__ import annotations

import numpy as np

from unified.engine.backends.cpu.intrinsics import compiled, inlined
from unified.engine.backends.cpu.linear import chunk_size, linear_chunk
from unified.engine.backends.cpu.threads import claim_chunk, finish_chunk, wait_for_phase
from unified.engine.backends.cpu.vectors import exp, gelu

__all__ = ["activated_rows", "gated_rows", "project_heads"]


@compiled
def _copy_columns(source: np.ndarray, count: int, target: np.ndarray, first: int) -> None:
    """target[:, first : first + count] = source[:, :count].

    Slices, here and elsewhere, because an index that might be negative keeps a loop from being
    vectorized.
    """
    for n in range(source.shape[0]):
        target_row, source_row = target[n, first : first + count], source[n]
        for o in range(count):
            target_row[o] = source_row[o]


@inlined
def project_heads(
    counters: np.ndarray, phase: int, inputs: np.ndarray, weights: np.ndarray, biases: np.ndarray,
    D: int, G: int, threads: int, dtype_like: np.ndarray, space: np.ndarray, heads: np.ndarray,
) -> None:  # fmt: skip
    """One phase: queries, then keys, then values of rows: heads (N, H + 2G, C).

    Args:
        inputs: of D numbers, as products take them.
        weights, biases: int64, addresses of those of queries, keys and values; 0 for no bias. Of
            queries alone where G is 0.
        space: float32 workspace of this thread alone, of N times the largest `chunk_size`.
    """
    N, C = heads.shape[0], heads.shape[2]
    H = heads.shape[1] - 2 * G
    flat = heads.reshape(N, (H + 2 * G) * C)  # (N, H + 2G, C) -> (N, (H + 2G) C)
    q_size = chunk_size(H * C, threads, N)
    q_chunks = -(-H * C // q_size)
    kv_size, kv_chunks = 1, 0
    if G:
        kv_size = chunk_size(G * C, threads, N)
        kv_chunks = -(-G * C // kv_size)
    chunks = q_chunks + 2 * kv_chunks
    chunk = claim_chunk(counters, phase)
    while chunk < chunks:
        # Chunks of Q first, then of K, then of V: 0, 1 and 2.
        chunk_of_part, part, outputs, first, size = chunk, 0, H * C, 0, q_size
        if chunk >= q_chunks:
            part, outputs = 1 + (chunk - q_chunks) // kv_chunks, G * C
            chunk_of_part = (chunk - q_chunks) % kv_chunks
            first, size = (H + G * (part - 1)) * C, kv_size
        chunk_out = space[: N * size].reshape((N, size))
        count = linear_chunk(
            inputs, weights[part], biases[part], D, outputs, chunk_of_part, dtype_like, chunk_out
        )  # fmt: skip
        _copy_columns(chunk_out, count, flat, first + chunk_of_part * size)
        finish_chunk(counters, phase, chunks)
        chunk = claim_chunk(counters, phase)
    wait_for_phase(counters, phase, chunks)


@inlined
def gated_rows(
    counters: np.ndarray, phase: int, inputs: np.ndarray, gate: int, up: int, D: int,
    dtype_like: np.ndarray, f_out: np.ndarray, up_out: np.ndarray, gated: np.ndarray,
) -> None:  # fmt: skip
    """One phase, of SwiGLU: gated (N, F) = silu(gate) * up of rows of D numbers.

    gate, up: addresses of their weights. f_out, up_out: workspaces (N, chunk size) of this thread.
    """
    N, F, size = gated.shape[0], gated.shape[1], f_out.shape[1]
    chunks = -(-F // size)
    chunk = claim_chunk(counters, phase)
    while chunk < chunks:
        count = linear_chunk(inputs, gate, np.int64(0), D, F, chunk, dtype_like, f_out)
        linear_chunk(inputs, up, np.int64(0), D, F, chunk, dtype_like, up_out)
        for n in range(N):
            gate_row, up_row = f_out[n], up_out[n]
            gated_row = gated[n, chunk * size : chunk * size + count]
            for o in range(count):
                gated_row[o] = gate_row[o] / (np.float32(1) + exp(-gate_row[o])) * up_row[o]
        finish_chunk(counters, phase, chunks)
        chunk = claim_chunk(counters, phase)
    wait_for_phase(counters, phase, chunks)


@inlined
def activated_rows(
    counters: np.ndarray, phase: int, inputs: np.ndarray, up: int, D: int, dtype_like: np.ndarray,
    f_out: np.ndarray, activated: np.ndarray,
) -> None:  # fmt: skip
    """One phase: activated (N, F) = gelu(up) of rows of D numbers; see `gated_rows`."""
    N, F, size = activated.shape[0], activated.shape[1], f_out.shape[1]
    chunks = -(-F // size)
    chunk = claim_chunk(counters, phase)
    while chunk < chunks:
        count = linear_chunk(inputs, up, np.int64(0), D, F, chunk, dtype_like, f_out)
        for n in range(N):
            up_row, row = f_out[n], activated[n, chunk * size : chunk * size + count]
            for o in range(count):
                row[o] = gelu(up_row[o])
        finish_chunk(counters, phase, chunks)
        chunk = claim_chunk(counters, phase)
    wait_for_phase(counters, phase, chunks)

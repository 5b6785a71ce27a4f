"""Phases of products: rows made ready for them, chunks of outputs, and the logits of some ids.

A product's rows are made ready once: a few by each thread for itself, many by all threads together
in a phase of its own, since all need all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from unified.engine.backends.cpu.intrinsics import (
    by_type,
    compiled,
    entry,
    pointer,
    wide_vectors,
)
from unified.engine.backends.cpu.matmul import PANEL
from unified.engine.backends.cpu.products import (
    format_of,
    input_words,
    multiply,
    panel_lines,
    set_inputs,
)
from unified.engine.backends.cpu.threads import claim_chunk, finish_chunk, wait_for_phase
from unified.engine.backends.cpu.vectors import layer_norm, rms_norm

__all__ = [
    "SHARED_ROWS", "add_linear", "chunk_size", "linear_chunk", "lm_head", "norm_row",
    "normed_inputs", "plain_inputs", "vector",
]  # fmt: skip

SHARED_ROWS = 16
"""So many rows and more are made ready by all threads together."""
_MOST_OUTPUTS = 256  # of a chunk
_CHUNK_NUMBERS = 1 << 15  # of rows by outputs, so that they stay in the second nearest cache
_ROWS = 8  # of them that one thread makes ready at once


@compiled
def chunk_size(outputs: int, threads: int, rows: int) -> int:
    """Outputs in a chunk, whole panels: enough to stream through, as many chunks for each thread.

    At least two for each where there are panels enough, so that one that comes late does less.
    """
    panels = -(-outputs // PANEL)
    most = max(1, min(_MOST_OUTPUTS, _CHUNK_NUMBERS // rows) // PANEL)
    for_each = max(2, -(-panels // (threads * most)))
    return -(-panels // (threads * for_each)) * PANEL


@compiled
def vector(address: int, size: int, dtype_like: np.ndarray) -> np.ndarray:
    """The vector (size,) at an address; (0,) where the address is 0."""
    return carray(pointer(address, dtype_like), (size if address else 0,))


@compiled
def norm_row(
    x: np.ndarray, norm: np.ndarray, bias: np.ndarray, eps: np.float32, out: np.ndarray
) -> None:
    """out (1, D) = LayerNorm of x (1, D); RMSNorm where `bias` is (0,)."""
    if bias.shape[0]:
        layer_norm(x, norm, bias, eps, out)
    else:
        rms_norm(x, norm, eps, out)


@compiled
def _norm_rows(
    x: np.ndarray, norm: np.ndarray, bias: np.ndarray, eps: np.float32, first: int, stop: int,
    dtype_like: np.ndarray, inputs: np.ndarray,
) -> None:  # fmt: skip
    """Inputs of rows [first, stop): the norm of x (N, D)."""
    normed = np.empty((1, x.shape[1]), np.float32)
    for n in range(first, stop):
        norm_row(x[n : n + 1], norm, bias, eps, normed)
        set_inputs(normed[0], inputs[n], dtype_like)


@compiled
def normed_inputs(
    counters: np.ndarray, phase: int, x: np.ndarray, norm: np.ndarray, bias: np.ndarray,
    eps: np.float32, dtype_like: np.ndarray, buffer: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """The norm of x (N, D) as inputs (N, words) of a product, in a phase of its own.

    bias: of LayerNorm; (0,): RMSNorm. buffer: memory that all threads share, at least N * words.
    """
    N, words = x.shape[0], input_words(x.shape[1], dtype_like)
    if N < SHARED_ROWS:
        inputs = np.empty((N, words), buffer.dtype)
        _norm_rows(x, norm, bias, eps, np.int64(0), N, dtype_like, inputs)
        return inputs
    inputs = buffer[: N * words].reshape((N, words))
    chunks = -(-N // _ROWS)
    chunk = claim_chunk(counters, phase)
    while chunk < chunks:
        first = chunk * _ROWS
        _norm_rows(x, norm, bias, eps, first, min(N, first + _ROWS), dtype_like, inputs)
        finish_chunk(counters, phase, chunks)
        chunk = claim_chunk(counters, phase)
    wait_for_phase(counters, phase, chunks)
    return inputs


@by_type
def plain_inputs(counters: Any, phase: Any, x: Any, dtype_like: Any, buffer: Any) -> Any:
    """x (N, K) as inputs (N, words) of a product, in a phase of its own where they are not x."""
    if format_of(dtype_like).set_row is None:
        return lambda counters, phase, x, dtype_like, buffer: x
    return _rounded_inputs


def _rounded_inputs(
    counters: np.ndarray, phase: int, x: np.ndarray, dtype_like: np.ndarray, buffer: np.ndarray
) -> np.ndarray:
    N, words = x.shape[0], input_words(x.shape[1], dtype_like)
    if N < SHARED_ROWS:
        inputs = np.empty((N, words), buffer.dtype)
        for n in range(N):
            set_inputs(x[n], inputs[n], dtype_like)
        return inputs
    inputs = buffer[: N * words].reshape((N, words))
    chunks = -(-N // _ROWS)
    chunk = claim_chunk(counters, phase)
    while chunk < chunks:
        for n in range(chunk * _ROWS, min(N, (chunk + 1) * _ROWS)):
            set_inputs(x[n], inputs[n], dtype_like)
        finish_chunk(counters, phase, chunks)
        chunk = claim_chunk(counters, phase)
    wait_for_phase(counters, phase, chunks)
    return inputs


@compiled
def linear_chunk(
    x: np.ndarray, weight: int, bias: int, inputs: int, outputs: int, chunk: int,
    dtype_like: np.ndarray, out: np.ndarray,
) -> int:  # fmt: skip
    """Compute one chunk of x (N, K) @ weight.T + bias into `out` (N, chunk size).

    x: as inputs (N, words). weight, bias: addresses of a packed weight of `inputs` inputs and
    `outputs` outputs, and of its bias, 0 for none.
    Returns the number of outputs in the chunk: the last one may be smaller.
    """
    wide_vectors()
    size = out.shape[1]
    first = chunk * size
    count = min(size, outputs - first)
    lines = panel_lines(inputs, dtype_like)
    panels = carray(pointer(weight, dtype_like), (-(-outputs // PANEL), lines, PANEL))
    multiply(x, panels, first // PANEL, -(-count // PANEL), out)  # (N, K) -> (N, size)
    if bias:
        bias_chunk = carray(pointer(bias, out), (outputs,))[first : first + count]
        for n in range(x.shape[0]):
            for o in range(count):
                out[n, o] += bias_chunk[o]
    return count


@compiled
def add_linear(
    counters: np.ndarray, phase: int, x: np.ndarray, weight: int, inputs: int,
    dtype_like: np.ndarray, chunk_out: np.ndarray, residual: np.ndarray,
) -> None:  # fmt: skip
    """One phase: residual (N, D) += x (N, K) @ weight.T, the packed weight (D, K) at an address."""
    wide_vectors()
    size = chunk_out.shape[1]
    chunks = -(-residual.shape[1] // size)
    chunk = claim_chunk(counters, phase)
    while chunk < chunks:
        count = linear_chunk(
            x, weight, np.int64(0), inputs, residual.shape[1], chunk, dtype_like, chunk_out
        )  # fmt: skip
        for n in range(x.shape[0]):
            residual_row = residual[n, chunk * size : chunk * size + count]
            added = chunk_out[n]
            for o in range(count):
                residual_row[o] += added[o]
        finish_chunk(counters, phase, chunks)
        chunk = claim_chunk(counters, phase)
    wait_for_phase(counters, phase, chunks)


@entry
def lm_head(
    counters: np.ndarray, x: np.ndarray, weight: np.ndarray, parts: np.ndarray, ranges: np.ndarray,
    buffer: np.ndarray, out: np.ndarray, threads: int,
) -> None:  # fmt: skip
    """Logits of some ids alone, of some rows each, as a job of two phases.

    Args:
        counters: `new_counters(2)`.
        x: float32 (N, D), hidden states.
        weight: (P, lines, PANEL), the packed head.
        parts: int64 (parts, 6): its first row and how many rows, its first range and how many
            ranges, the ids of all its ranges, and where its logits (rows, ids) begin in `out`.
        ranges: int64 (ranges, 2), [start, stop) of the ids of each range, part by part.
        buffer: of inputs, at least N * words of D inputs.
        out: float32 (numbers of all parts,), written.
        threads: that share the work.
    """
    wide_vectors()
    inputs = plain_inputs(counters, 0, x, weight, buffer)
    # Of each part the chunks before it; and the most numbers of a chunk.
    ends, most = np.zeros(parts.shape[0] + 1, np.int64), 0
    for i in range(parts.shape[0]):
        _, rows, first_range, count, outputs, _ = parts[i]
        size, chunks = chunk_size(outputs, threads, rows), 0
        for start, stop in ranges[first_range : first_range + count]:
            chunks += _chunks_of_range(start, stop, size)
        ends[i + 1], most = ends[i] + chunks, max(most, rows * size)
    space = np.empty(most, np.float32)
    part, chunk = 0, claim_chunk(counters, 1)
    while chunk < ends[-1]:
        while chunk >= ends[part + 1]:  # a thread's chunks ascend
            part += 1
        first, rows, first_range, count, outputs, at = parts[part]
        size = chunk_size(outputs, threads, rows)
        _head_chunk(
            inputs[first : first + rows], weight, ranges[first_range : first_range + count],
            chunk - ends[part], space[: rows * size].reshape((rows, size)),
            out[at : at + rows * outputs].reshape((rows, outputs)),
        )  # fmt: skip
        finish_chunk(counters, 1, ends[-1])
        chunk = claim_chunk(counters, 1)
    wait_for_phase(counters, 1, ends[-1])


@compiled
def _chunks_of_range(start: int, stop: int, size: int) -> int:
    """Chunks of `size` outputs from the panel that holds `start` to that of the last id."""
    return -(-(-(-stop // PANEL) - start // PANEL) // (size // PANEL))


@compiled
def _head_chunk(
    inputs: np.ndarray, weight: np.ndarray, ranges: np.ndarray, chunk: int, chunk_out: np.ndarray,
    out: np.ndarray,
) -> None:  # fmt: skip
    """One chunk of the logits (N, ids of all ranges), by way of `chunk_out` (N, size)."""
    wide_vectors()
    size, column = chunk_out.shape[1], 0
    panels_in_chunk = size // PANEL
    for start, stop in ranges:
        chunks = _chunks_of_range(start, stop, size)
        if chunk < chunks:
            panel = start // PANEL + chunk * panels_in_chunk
            count = min(panels_in_chunk, -(-stop // PANEL) - panel)
            multiply(inputs, weight, panel, count, chunk_out)  # (N, D) -> (N, size)
            # Of the panels' ids, those inside the range.
            low, high = max(start, panel * PANEL), min(stop, (panel + count) * PANEL)
            for n in range(inputs.shape[0]):
                out_row = out[n, column + low - start : column + high - start]
                logits = chunk_out[n, low - panel * PANEL : high - panel * PANEL]
                for o in range(logits.shape[0]):
                    out_row[o] = logits[o]
            return
        chunk -= chunks
        column += stop - start

"""Phases of attention: queries and keys turned and stored, heads attended, and parts folded.

Threads share out key/value heads, and of each the positions of a prompt, or blocks of a long
sequence: whoever computes what, the bits are the same (`attention`).

Shape legend: see `kernels`.
"""

from __future__ import annotations

import numpy as np

from unified.engine.backends.cpu.attention import (
    BLOCK,
    attend_block,
    finish_query,
    fold_block,
    sum_numbers,
)
from unified.engine.backends.cpu.intrinsics import compiled, entry
from unified.engine.backends.cpu.kv import (
    keys_of,
    kv_row,
    kv_words,
    store_key,
    store_value,
    values_of,
)
from unified.engine.backends.cpu.matmul import PANEL
from unified.engine.backends.cpu.threads import claim_chunk, finish_chunk, wait_for_phase
from unified.engine.backends.cpu.vectors import apply_rope

__all__ = ["PART_IDS", "attend_heads", "chunk_ends", "part_numbers", "turn_heads"]

_QUERIES = 64  # of a prompt that attend to the same block at once
_PART = 2  # blocks of a sequence that one thread attends to where they are shared out
PART_IDS = _PART * BLOCK
"""Ids of them."""
_CHUNKS = 16  # for each thread: with fewer, long sequences are cut into parts

_TURNED, _ATTENDED, _NUMBERS = range(3)  # columns of `chunk_ends`


@compiled
def _positions(R: int) -> int:
    """Positions of a prompt that attend at once."""
    return max(1, _QUERIES // R)


@entry
def part_numbers(sequences: np.ndarray, H: int, G: int, C: int, threads: int) -> int:
    """Numbers of workspace for parts of sequences; 0 where they are not cut into parts.

    They are where there are few heads to share out, and a long sequence.
    """
    ends = chunk_ends(sequences, H, G, C, False)
    chunks, numbers = ends[-1, _ATTENDED], ends[-1, _NUMBERS]
    longest = 0
    for _, new, past, _, _ in sequences:
        longest = max(longest, past + new)
    return numbers if chunks < _CHUNKS * threads and longest > PART_IDS and threads > 1 else 0


@compiled
def chunk_ends(sequences: np.ndarray, H: int, G: int, C: int, split: bool) -> np.ndarray:
    """int64 (sequences + 1, 3): what all sequences before each have, and all of them.

    Chunks of `turn_heads`, chunks of `attend_heads`, and numbers of `parts`. split: whether
    sequences are cut into parts.
    """
    positions = _positions(H // G)
    ends = np.zeros((sequences.shape[0] + 1, 3), np.int64)
    for i in range(sequences.shape[0]):
        new, past = sequences[i, 1], sequences[i, 2]
        attended = -(-new // positions) * G
        if split:
            attended *= -(-(past + new) // PART_IDS)
        panels = (past + new - 1) // PANEL - past // PANEL + 1
        ends[i + 1, _TURNED] = ends[i, _TURNED] + panels * G
        ends[i + 1, _ATTENDED] = ends[i, _ATTENDED] + attended
        numbers = new * H * -(-(past + new) // BLOCK) * sum_numbers(C)
        ends[i + 1, _NUMBERS] = ends[i, _NUMBERS] + numbers
    return ends


@compiled
def _sequence_of(ends: np.ndarray, kind: int, chunk: int) -> int:
    """The sequence that a chunk belongs to."""
    low, high = 0, ends.shape[0] - 1
    while high - low > 1:
        middle = (low + high) // 2
        if ends[middle, kind] <= chunk:
            low = middle
        else:
            high = middle
    return low


@compiled
def turn_heads(
    counters: np.ndarray, phase: int, qkv: np.ndarray, q_norm: np.ndarray, k_norm: np.ndarray,
    eps: np.float32, cos_sin: np.ndarray, sequences: np.ndarray, ends: np.ndarray, layer: int,
    layers: int, kv_like: np.ndarray, G: int,
) -> None:  # fmt: skip
    """One phase: norms and rotary positions of qkv (N, H + 2G, C), new ids into the cache.

    A chunk is a key/value head, with its queries, at the positions of one panel. ends: of
    `chunk_ends`.
    """
    heads, C = qkv.shape[1], qkv.shape[2]
    H = heads - 2 * G
    R, chunks = H // G, ends[-1, _TURNED]
    chunk = claim_chunk(counters, phase)
    while chunk < chunks:
        i = _sequence_of(ends, _TURNED, chunk)
        at = chunk - ends[i, _TURNED]
        first, new, past, address, L = sequences[i]
        g, panel = at % G, past // PANEL + at // G
        keys = keys_of(address, L, C, layer * G + g, kv_like)
        values = values_of(address, L, C, layer * G + g, layers * G, kv_like)
        start, stop = max(past, panel * PANEL), min(past + new, (panel + 1) * PANEL)
        for position in range(start, stop):
            row, turned = qkv[first + position - past], cos_sin[position]
            for h in range(g * R, (g + 1) * R):
                apply_rope(row[h], q_norm, eps, turned)
            apply_rope(row[H + g], k_norm, eps, turned)
            store_key(keys, position, row[H + g])
            store_value(values, position, row[H + G + g])
        finish_chunk(counters, phase, chunks)
        chunk = claim_chunk(counters, phase)
    wait_for_phase(counters, phase, chunks)


@compiled
def attend_heads(
    counters: np.ndarray, phase: int, qkv: np.ndarray, sequences: np.ndarray, ends: np.ndarray,
    layer: int, layers: int, kv_like: np.ndarray, G: int, parts: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """Two phases: attention of qkv (N, H + 2G, C), turned, over the cache to out (N, H, C).

    A chunk is a key/value head, with the queries of some positions of a sequence, over all their
    ids; or, where `parts` is not empty, over some blocks of them, which a second phase folds.
    parts: float32 (`part_numbers`) that all threads share, or (0,). ends: of `chunk_ends`.
    """
    H, C = out.shape[1], out.shape[2]
    R, split = H // G, parts.shape[0] > 0
    positions, width = _positions(R), sum_numbers(C)
    Q = min(out.shape[0], positions) * R
    workspace = np.empty(Q * BLOCK, np.float32)
    kv_workspace = np.empty(Q * BLOCK, kv_like.dtype)
    queries = np.empty((Q, kv_words(C, kv_like)), kv_like.dtype)
    sums, more = np.empty((Q, width), np.float32), np.empty((Q, width), np.float32)
    chunks = ends[-1, _ATTENDED]
    chunk = claim_chunk(counters, phase)
    while chunk < chunks:
        i = _sequence_of(ends, _ATTENDED, chunk)
        at = chunk - ends[i, _ATTENDED]
        first, new, past, address, L = sequences[i]
        groups, blocks = -(-new // positions), -(-(past + new) // BLOCK)
        # The last positions first: they see most, and what is left for the end is small.
        start = (groups - 1 - at // G % groups) * positions
        g, count = at % G, min(positions, new - start)
        length = past + start + 1
        keys = keys_of(address, L, C, layer * G + g, kv_like)
        values = values_of(address, L, C, layer * G + g, layers * G, kv_like)
        for q in range(count * R):
            kv_row(qkv[first + start + q // R, g * R + q % R], queries[q])
        first_block, end_block = 0, -(-(length + count - 1) // BLOCK)
        if split:
            first_block = at // (G * groups) * _PART
            end_block = min(end_block, first_block + _PART)
        for block in range(first_block, end_block):
            block_sums = sums[: count * R] if block == first_block else more[: count * R]
            attend_block(
                queries[: count * R], length, R, block, keys, values, C, workspace, kv_workspace,
                block_sums,
            )  # fmt: skip
            for q in range(count * R):
                if block * BLOCK >= length + q // R:
                    continue
                if split:
                    row = (start + q // R) * H + g * R + q % R
                    index = ends[i, _NUMBERS] + (row * blocks + block) * width
                    part, row_sums = parts[index : index + width], block_sums[q]
                    for number in range(width):
                        part[number] = row_sums[number]
                elif block:
                    fold_block(sums[q], more[q])
        if not split:
            for q in range(count * R):
                finish_query(sums[q], out[first + start + q // R, g * R + q % R])
        finish_chunk(counters, phase, chunks)
        chunk = claim_chunk(counters, phase)
    wait_for_phase(counters, phase, chunks)
    if split:
        _fold_parts(counters, phase + 1, sequences, ends, parts, out)


@compiled
def _fold_parts(
    counters: np.ndarray, phase: int, sequences: np.ndarray, ends: np.ndarray, parts: np.ndarray,
    out: np.ndarray,
) -> None:  # fmt: skip
    """One phase: fold the parts of each query. A chunk is a query head of one new id."""
    N, H, C = out.shape
    width, i = sum_numbers(C), 0
    chunk = claim_chunk(counters, phase)
    while chunk < N * H:
        while chunk // H >= sequences[i, 0] + sequences[i, 1]:
            i += 1  # chunks only go up
        first, new, past = sequences[i, 0], sequences[i, 1], sequences[i, 2]
        row, blocks = chunk - first * H, -(-(past + new) // BLOCK)
        start = ends[i, _NUMBERS] + row * blocks * width
        rows = parts[start : start + blocks * width].reshape((blocks, width))
        for block in range(1, -(-(past + row // H + 1) // BLOCK)):
            fold_block(rows[0], rows[block])
        finish_query(rows[0], out[chunk // H, chunk % H])
        finish_chunk(counters, phase, N * H)
        chunk = claim_chunk(counters, phase)
    wait_for_phase(counters, phase, N * H)

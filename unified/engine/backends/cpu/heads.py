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

__all__ = ["PART_IDS", "attend_heads", "part_numbers", "turn_heads"]

_QUERIES = 64  # of a prompt that attend to the same block at once
_PART = 2  # blocks of a sequence that one thread attends to where they are shared out
PART_IDS = _PART * BLOCK
"""Ids of them."""
_CHUNKS = 16  # for each thread: with fewer, long sequences are cut into parts


@compiled
def _positions(R: int) -> int:
    """Positions of a prompt that attend at once."""
    return max(1, _QUERIES // R)


@entry
def part_numbers(sequences: np.ndarray, H: int, G: int, C: int, threads: int) -> int:
    """Numbers of workspace for parts of sequences; 0 where they are not cut into parts.

    They are where there are few heads to share out, and a long sequence.
    """
    chunks, numbers, longest = 0, 0, 0
    for _, new, past, _, _ in sequences:
        chunks += -(-new // _positions(H // G)) * G
        numbers += new * H * -(-(past + new) // BLOCK) * sum_numbers(C)
        longest = max(longest, past + new)
    return numbers if chunks < _CHUNKS * threads and longest > PART_IDS and threads > 1 else 0


@compiled
def turn_heads(
    counters: np.ndarray, phase: int, qkv: np.ndarray, q_norm: np.ndarray, k_norm: np.ndarray,
    eps: np.float32, cos_sin: np.ndarray, sequences: np.ndarray, layer: int, layers: int,
    kv_like: np.ndarray, G: int,
) -> None:  # fmt: skip
    """One phase: norms and rotary positions of qkv (N, H + 2G, C), new ids into the cache.

    A chunk is a key/value head, with its queries, at the positions of one panel.
    """
    heads, C = qkv.shape[1], qkv.shape[2]
    H = heads - 2 * G
    R, chunks = H // G, 0
    for _, new, past, _, _ in sequences:
        chunks += ((past + new - 1) // PANEL - past // PANEL + 1) * G
    chunk = claim_chunk(counters, phase)
    while chunk < chunks:
        at = chunk
        for first, new, past, address, L in sequences:
            panels = (past + new - 1) // PANEL - past // PANEL + 1
            if at < panels * G:
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
                break
            at -= panels * G
        finish_chunk(counters, phase, chunks)
        chunk = claim_chunk(counters, phase)
    wait_for_phase(counters, phase, chunks)


@compiled
def attend_heads(
    counters: np.ndarray, phase: int, qkv: np.ndarray, sequences: np.ndarray, layer: int,
    layers: int, kv_like: np.ndarray, G: int, parts: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """Two phases: attention of qkv (N, H + 2G, C), turned, over the cache to out (N, H, C).

    A chunk is a key/value head, with the queries of some positions of a sequence, over all their
    ids; or, where `parts` is not empty, over some blocks of them, which a second phase folds.
    parts: float32 (`part_numbers`) that all threads share, or (0,).
    """
    H, C = out.shape[1], out.shape[2]
    R, split = H // G, parts.shape[0] > 0
    positions, width = _positions(R), sum_numbers(C)
    Q = min(out.shape[0], positions) * R
    workspace = np.empty(Q * BLOCK, np.float32)
    kv_workspace = np.empty(Q * BLOCK, kv_like.dtype)
    queries = np.empty((Q, kv_words(C, kv_like)), kv_like.dtype)
    sums, more = np.empty((Q, width), np.float32), np.empty((Q, width), np.float32)
    chunks = 0
    for _, new, past, _, _ in sequences:
        chunks += _chunks(new, past, G, positions, split)
    chunk = claim_chunk(counters, phase)
    while chunk < chunks:
        at, before = chunk, 0
        for first, new, past, address, L in sequences:
            of_sequence = _chunks(new, past, G, positions, split)
            blocks = -(-(past + new) // BLOCK)
            if at < of_sequence:
                groups = -(-new // positions)
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
                        queries[: count * R], length, R, block, keys, values, C, workspace,
                        kv_workspace, block_sums,
                    )  # fmt: skip
                    for q in range(count * R):
                        if block * BLOCK >= length + q // R:
                            continue
                        if split:
                            row = (start + q // R) * H + g * R + q % R
                            index = before + (row * blocks + block) * width
                            parts[index : index + width] = block_sums[q]
                        elif block:
                            fold_block(sums[q], more[q])
                if not split:
                    for q in range(count * R):
                        finish_query(sums[q], out[first + start + q // R, g * R + q % R])
                break
            at -= of_sequence
            before += new * H * blocks * width
        finish_chunk(counters, phase, chunks)
        chunk = claim_chunk(counters, phase)
    wait_for_phase(counters, phase, chunks)
    if split:
        _fold_parts(counters, phase + 1, sequences, parts, out)


@compiled
def _chunks(new: int, past: int, G: int, positions: int, split: bool) -> int:
    """Chunks of a sequence."""
    whole = -(-new // positions) * G
    return whole * -(-(past + new) // PART_IDS) if split else whole


@compiled
def _fold_parts(
    counters: np.ndarray, phase: int, sequences: np.ndarray, parts: np.ndarray, out: np.ndarray
) -> None:
    """One phase: fold the parts of each query. A chunk is a query head of one new id."""
    N, H, C = out.shape
    width = sum_numbers(C)
    chunk = claim_chunk(counters, phase)
    while chunk < N * H:
        before = 0
        for first, new, past, _, _ in sequences:
            blocks = -(-(past + new) // BLOCK)
            row = chunk - first * H
            if row < new * H:
                start = before + row * blocks * width
                rows = parts[start : start + blocks * width].reshape((blocks, width))
                for block in range(1, -(-(past + row // H + 1) // BLOCK)):
                    fold_block(rows[0], rows[block])
                finish_query(rows[0], out[chunk // H, chunk % H])
                break
            before += new * H * blocks * width
        finish_chunk(counters, phase, N * H)
        chunk = claim_chunk(counters, phase)
    wait_for_phase(counters, phase, N * H)

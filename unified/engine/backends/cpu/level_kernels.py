"""All levels of positions in one call: the depth decoder, the choice of an id, and its embedding.

Shape legend: `N` positions, `K` ids of each that are known, `J` levels to come, `S` steps of the
depth decoder, `D` its width; see `kernels`.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from unified.engine.backends.cpu.choice_kernels import choose_column
from unified.engine.backends.cpu.depth_kernels import fill_level, num_level_phases
from unified.engine.backends.cpu.half import widened
from unified.engine.backends.cpu.intrinsics import compiled, entry, pointer, wide_vectors
from unified.engine.backends.cpu.linear import lm_head
from unified.engine.backends.cpu.threads import claim_chunk, finish_chunk, wait_for_phase

__all__ = ["num_write_phases", "write_levels"]

_HEAD_PHASES = 2  # of `lm_head`


def num_write_phases(layers: int, steps: int) -> int:
    """Phases of `write_levels`."""
    return 2 * (_HEAD_PHASES + 1) + steps * (num_level_phases(layers) + 1)


@entry
def write_levels(
    counters: np.ndarray, tables: np.ndarray, dtype_like: np.ndarray, hidden: np.ndarray,
    first_head: np.ndarray, first_buffer: np.ndarray, projection: np.ndarray, projected: np.ndarray,
    embedding: int, embedding_like: np.ndarray, num_rows: int, row_of: np.ndarray, x: np.ndarray,
    buffer: np.ndarray, qkv: np.ndarray, attn_out: np.ndarray, gated: np.ndarray,
    cos_sin: np.ndarray, steps: np.ndarray, sequences: np.ndarray, last: np.ndarray,
    kv_like: np.ndarray, kv_heads: int, no_parts: np.ndarray, eps: np.float32, norm: np.ndarray,
    states: np.ndarray, head: np.ndarray, head_parts: np.ndarray, head_ranges: np.ndarray,
    id_ranges: np.ndarray, range_ends: np.ndarray, logits: np.ndarray, settings: np.ndarray,
    noise: np.ndarray, noise_ends: np.ndarray, block: int, ids: np.ndarray, sure: np.ndarray,
    threads: int,
) -> None:  # fmt: skip
    """Choose the ids of all levels to come of N positions.

    Args:
        counters: `new_counters(num_write_phases(layers, S))`.
        tables: int64 (depths, layers, tensors), the layers' addresses by depth, or of all (1).
        hidden: float32 (N, E), before the positions.
        first_head, first_buffer: the decoder's packed head and a buffer for it, for first ids.
        projection: packed, (D, E).
        projected: float32 (N * D,), workspace.
        embedding, embedding_like: address of the stored rows (num_rows, D), an empty array of
            their type. row_of: int64, the row of an id.
        x, qkv, attn_out, gated, buffer: workspaces of `fill_level` for the widest step.
        steps: int64 (S, 3): inputs of a position, index in `tables`, and level; -1: none is chosen.
        sequences: int64 (S, N, 5), see `forward_layers`. last: int64 (S, N), see `fill_level`.
        states: float32 (S, N, D), written: states behind the norm.
        head, head_parts (J, 6), head_ranges: see `lm_head`; of the first ids, where K is 0, those
            of `first_head`. id_ranges: the same as ids.
        range_ends: int64 (J + 1,), where the ranges of a level begin.
        logits: float32, workspace of the widest level.
        settings: float64 (N, J, 4), see `choose_column`.
        noise: float64 (N, numbers), level by level. noise_ends: int64 (J + 1,), where they begin.
        block: see `choose_column`.
        ids: int64 (N, K + J); the first K are given, the others written.
        sure: int64 (N,), 0; written: how many levels were chosen beyond doubt.
        threads: that share the work.
    """
    wide_vectors()
    N, D = hidden.shape[0], norm.shape[0]
    known = ids.shape[1] - noise_ends.shape[0] + 1
    rows = carray(pointer(embedding, embedding_like), (num_rows, D))
    most = 0
    for j in range(head_parts.shape[0]):
        most = max(most, head_parts[j, 4])
    scores, weights = np.empty(most, np.float32), np.empty(most, np.float32)
    if known == 0:
        end = range_ends[1]
        lm_head(
            counters, hidden, first_head, head_parts[:1], head_ranges[:end], first_buffer, logits,
            threads,
        )  # fmt: skip
        chunk = claim_chunk(counters, _HEAD_PHASES)
        while chunk < N:
            _choose(
                chunk, np.int64(0), known, logits, head_parts, id_ranges[:end], settings, noise,
                noise_ends, block, scores, weights, ids, sure,
            )  # fmt: skip
            finish_chunk(counters, _HEAD_PHASES, N)
            chunk = claim_chunk(counters, _HEAD_PHASES)
        wait_for_phase(counters, _HEAD_PHASES, N)
    phase, count = _HEAD_PHASES + 1, steps[0, 0]
    part, every = np.zeros((1, 6), np.int64), np.zeros((1, 2), np.int64)
    part[0, 1], part[0, 3], part[0, 4], every[0, 1] = N, 1, D, D
    lm_head(counters[phase:], hidden, projection, part, every, buffer, projected, threads)
    phase += _HEAD_PHASES
    chunk = claim_chunk(counters, phase)
    while chunk < N:
        first = x[chunk * count]
        for d in range(D):
            first[d] = projected[chunk * D + d]
        for at in range(1, count):
            _embed(rows, row_of, ids[chunk, at - 1], x[chunk * count + at])
        finish_chunk(counters, phase, N)
        chunk = claim_chunk(counters, phase)
    wait_for_phase(counters, phase, N)
    phase += 1
    level_phases = (counters.shape[0] - phase) // steps.shape[0]  # with that of the choice
    for s in range(steps.shape[0]):
        count, table, level = steps[s]
        T, first_part, first_range, end_range = N * count, max(level, 0), 0, 0
        if level >= 0:
            first_range, end_range = range_ends[level], range_ends[level + 1]
        fill_level(
            counters[phase : phase + level_phases - 1], tables[table], dtype_like, x[:T], buffer,
            qkv[:T], attn_out[:T], gated[:T], cos_sin, sequences[s], kv_like, kv_heads, no_parts,
            eps, norm, last[s], states[s], head, head_parts[first_part : level + 1],
            head_ranges[first_range:end_range], logits, threads,
        )  # fmt: skip
        phase += level_phases
        chunk = claim_chunk(counters, phase - 1)
        while chunk < N:
            if level >= 0:
                _choose(
                    chunk, level, known, logits, head_parts, id_ranges[first_range:end_range],
                    settings, noise, noise_ends, block, scores, weights, ids, sure,
                )  # fmt: skip
            if s + 1 < steps.shape[0]:
                before = sequences[s + 1, chunk, 2] - 1
                _embed(rows, row_of, ids[chunk, before], x[chunk])
            finish_chunk(counters, phase - 1, N)
            chunk = claim_chunk(counters, phase - 1)
        wait_for_phase(counters, phase - 1, N)


@compiled
def _choose(
    n: int, level: int, known: int, logits: np.ndarray, head_parts: np.ndarray,
    ranges: np.ndarray, settings: np.ndarray, noise: np.ndarray, noise_ends: np.ndarray,
    block: int, scores: np.ndarray, weights: np.ndarray, ids: np.ndarray, sure: np.ndarray,
) -> None:  # fmt: skip
    """Choose the id of one level of position n, and count it where all before it were sure."""
    outputs = head_parts[level, 4]
    column, doubtless = choose_column(
        logits[n * outputs : (n + 1) * outputs], settings[n, level],
        noise[n, noise_ends[level] : noise_ends[level + 1]], block, scores, weights,
    )  # fmt: skip
    ids[n, known + level] = _id_at(column, ranges)
    if doubtless and sure[n] == level:
        sure[n] = level + 1


@compiled
def _embed(rows: np.ndarray, row_of: np.ndarray, id: int, out: np.ndarray) -> None:
    """out (D,) = the embedding of an id in float32; of one that has none, which stands first and
    ends a span, any."""
    row = row_of[id] if id < row_of.shape[0] else 0
    stored = rows[max(row, 0)]
    for d in range(out.shape[0]):
        out[d] = widened(stored[d])


@compiled
def _id_at(column: int, ranges: np.ndarray) -> int:
    """The id of a column of logits over ranges."""
    for start, stop in ranges:
        if column < stop - start:
            return start + column
        column -= stop - start
    return ranges[0, 0]

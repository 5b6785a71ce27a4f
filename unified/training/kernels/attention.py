"""Causal attention inside documents and its gradients, in bfloat16 with float32 sums.

As FlashAttention (arXiv:2205.14135): nothing of the size of positions squared is kept. Work is done
for one document and one key head at a time; each is claimed by whichever thread is free, and is
computed by one thread in a fixed order, so that the bits do not depend on the threads.

Tensors are flat arrays of bits (uint16), of B sequences of L positions. Number c of head h at
position l of sequence b stands at `b * strides[0] + l * strides[1] + h * strides[2] + c`.

Legend: T = B L positions, H heads, G key heads, C channels (E: rounded up to 32), N documents, M
positions of the longest one (rounded up to whole blocks).
"""

from __future__ import annotations

import numpy as np

from unified.engine.backends.cpu.intrinsics import (
    bits,
    compiled,
    entry,
    largest,
    total,
    wide_vectors,
)
from unified.engine.backends.cpu.threads import claim_chunk, finish_chunk, wait_for_phase
from unified.training.kernels.vectors import ROWS, WIDE, exponentials, halves, slopes, tile

__all__ = ["backward", "forward"]

BLOCK = 4 * ROWS
"""Queries whose gradients are added to those of keys and values together."""
_SPARE = 16  # words of a line that vectors may write behind its end

_wide, _narrow = tile(2, False), tile(1, False)
_wide_more = tile(2, True)


@compiled
def _up(number: int, step: int) -> int:
    return (number + step - 1) // step * step


@compiled
def _at(position: int, head: int, L: int, strides: np.ndarray) -> int:
    """Where a head of a position, counted over all sequences, begins."""
    sequence = position // L
    inside = position - sequence * L
    return sequence * strides[0] + inside * strides[1] + head * strides[2]


@compiled
def _copy_rows(
    x: np.ndarray, at: int, strides: np.ndarray, rows: int, C: int, out: np.ndarray
) -> None:
    """out (R, E) uint16 = `rows` positions of a head from `at` on, 0 elsewhere."""
    wide_vectors()
    stride = strides[1]
    for r in range(rows):
        line, source = out[r], x[at + r * stride : at + r * stride + C]
        for c in range(C):
            line[c] = source[c]
        line[C:] = 0
    out[rows:] = 0


@compiled
def _pack_columns(rows: np.ndarray, count: int, out: np.ndarray) -> None:
    """The words of `count` rows (M, E / 2) as columns: out (panels, E / 2, 32)."""
    wide_vectors()
    for row in range(count):
        panel, source = out[row // WIDE], rows[row]
        lane = row % WIDE
        for c in range(source.shape[0]):
            panel[c, lane] = source[c]


@compiled
def _pack_pairs(rows: np.ndarray, pairs: int, out: np.ndarray) -> None:
    """Words of two rows that follow one another: rows (2 pairs, E) uint16 to out (pairs, E)."""
    wide_vectors()
    for pair in range(pairs):
        first, second, line = rows[2 * pair], rows[2 * pair + 1], out[pair]
        for c in range(line.shape[0]):
            line[c] = np.uint32(first[c]) | (np.uint32(second[c]) << np.uint32(16))


@compiled
def _multiply(first: np.ndarray, second: np.ndarray, out: np.ndarray) -> None:
    """out (C,) float32 = first * second, bits of bfloat16."""
    wide_vectors()
    for c in range(len(first)):
        a = bits(np.uint32(first[c]) << np.uint32(16))
        out[c] = a * bits(np.uint32(second[c]) << np.uint32(16))


@compiled
def _products(
    rows: np.ndarray, first: int, columns: np.ndarray, end: int, out: np.ndarray, at: int, W: int
) -> None:
    """out (12, W), flat from `at` on, = 12 rows from `first` on times the first `end` columns."""
    wide_vectors()
    steps = rows.shape[1]
    words, flat = rows.reshape(-1), columns.reshape(-1)
    panel = 0
    while end - panel * WIDE > WIDE // 2:
        _wide(
            words, first * steps, steps, 1, flat, panel * steps * WIDE, WIDE, steps,
            out, at + panel * WIDE, W,
        )  # fmt: skip
        panel += 1
    if end > panel * WIDE:
        _narrow(
            words, first * steps, steps, 1, flat, panel * steps * WIDE, WIDE, steps,
            out, at + panel * WIDE, W,
        )  # fmt: skip


@entry
def forward(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, out: np.ndarray, strides: np.ndarray,
    spans: np.ndarray, L: int, groups: int, shared: int, C: int, scale: np.float32,
    shifts: np.ndarray, counters: np.ndarray,
) -> None:  # fmt: skip
    """out = attention of q, k, v inside each document; shifts (H, T) = log-sums of its weights.

    Args:
        q, k, v, out: bits, flat.
        strides: int64 (4, 3), of each.
        spans: int64 (N, 2), none of them empty; each lies in one sequence.
        L: positions of a sequence.
        groups, shared: key heads, and heads that share one: head g * shared + s has key head g.
        C: channels of a head.
        scale: of the scores.
        shifts: float32 (H, T).
        counters: of one phase.
    """
    wide_vectors()
    tasks = len(spans) * groups
    M = 0
    for n in range(len(spans)):
        M = max(M, _up(spans[n, 1] - spans[n, 0], BLOCK))
    E, W = _up(C, WIDE), M + _SPARE
    rows = np.empty((M, E // 2), np.uint32)
    row_bits = rows.view(np.uint16)
    columns = np.empty((_up(M, WIDE) // WIDE, E // 2, WIDE), np.uint32)
    pairs = np.empty((M // 2, E), np.uint32)
    scores, sums = np.empty(ROWS * W, np.float32), np.empty(ROWS * E, np.float32)
    shares = np.zeros(ROWS * W, np.uint16)
    words, flat = shares.view(np.uint32), pairs.reshape(-1)
    rest = np.empty(ROWS, np.float32)
    while True:
        task = claim_chunk(counters, 0)
        if task >= tasks:
            break
        start, stop, g = spans[task // groups, 0], spans[task // groups, 1], task % groups
        length = stop - start
        padded = _up(length, ROWS)
        _copy_rows(k, _at(start, g, L, strides[1]), strides[1], length, C,
                   row_bits[:padded])  # fmt: skip
        _pack_columns(rows, length, columns)
        _copy_rows(v, _at(start, g, L, strides[2]), strides[2], length, C,
                   row_bits[:padded])  # fmt: skip
        _pack_pairs(row_bits, padded // 2, pairs)
        for h in range(g * shared, (g + 1) * shared):
            _copy_rows(q, _at(start, h, L, strides[0]), strides[0], length, C,
                       row_bits[:padded])  # fmt: skip
            for first in range(0, length, ROWS):
                end = first + ROWS
                _products(rows, first, columns, end, scores, 0, W)
                count = min(ROWS, length - first)
                for r in range(count):
                    visible = first + r + 1
                    top = largest(scores[r * W : (r + 1) * W], visible) * scale
                    weight = exponentials(scores, r * W, scale, top, visible, end, shares, r * W)
                    shifts[h, start + first + r] = top + np.log(weight)
                    rest[r] = np.float32(1) / weight
                for c in range(0, E, WIDE):
                    _wide(words, 0, W // 2, 1, flat, c, E, end // 2, sums, c, E)
                for r in range(count):
                    position = start + first + r
                    halves(
                        sums, r * E, rest[r], C, out,
                        _at(position, h, L, strides[3]),
                    )  # fmt: skip
        finish_chunk(counters, 0, tasks)
    wait_for_phase(counters, 0, tasks)


@compiled
def _add_block(
    weights: np.ndarray, pairs: np.ndarray, first: int, stop: int, W: int, sums: np.ndarray
) -> None:
    """sums (M, E) += weights.T @ the rows in `pairs`, of queries [first, stop), a block.

    weights: words (BLOCK / 2, W) of queries by keys; pairs: (BLOCK / 2, E), words of these queries.
    """
    wide_vectors()
    E = sums.shape[1]
    flat_pairs, flat = pairs.reshape(-1), sums.reshape(-1)
    for key in range(0, stop, ROWS):
        begin = max(0, key - first) // 2  # queries before it do not see it
        steps = (stop - first) // 2 - begin
        for c in range(0, E, WIDE):
            _wide_more(
                weights, begin * W + key, 1, W, flat_pairs, begin * E + c, E, steps,
                flat, key * E + c, E,
            )  # fmt: skip


@entry
def backward(
    grad: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, out: np.ndarray,
    q_grad: np.ndarray, k_grad: np.ndarray, v_grad: np.ndarray, strides: np.ndarray,
    spans: np.ndarray, L: int, groups: int, shared: int, C: int, scale: np.float32,
    shifts: np.ndarray, counters: np.ndarray,
) -> None:  # fmt: skip
    """q_grad, k_grad, v_grad = gradients of `forward` for `grad`, that of its output `out`.

    strides: int64 (8, 3), of grad, q, k, v, out and the three gradients. The rest as there.
    """
    wide_vectors()
    tasks = len(spans) * groups
    M = 0
    for n in range(len(spans)):
        M = max(M, _up(spans[n, 1] - spans[n, 0], BLOCK))
    E, W = _up(C, WIDE), M + _SPARE
    panels = _up(M, WIDE) // WIDE
    key_bits = np.empty((M, E), np.uint16)
    key_rows, row_bits = key_bits.view(np.uint32), np.empty((BLOCK, E), np.uint16)
    rows = row_bits.view(np.uint32)
    key_columns = np.empty((panels, E // 2, WIDE), np.uint32)
    value_columns = np.empty((panels, E // 2, WIDE), np.uint32)
    key_pairs = np.empty((M // 2, E), np.uint32)
    query_pairs, grad_pairs = (
        np.empty((BLOCK // 2, E), np.uint32),
        np.empty((BLOCK // 2, E), np.uint32),
    )
    grad_bits = np.empty((BLOCK, E), np.uint16)
    grad_rows = grad_bits.view(np.uint32)
    scores, above = np.empty(ROWS * W, np.float32), np.empty(ROWS * W, np.float32)
    shares, bent = np.empty(BLOCK // 2 * W, np.uint32), np.empty(BLOCK // 2 * W, np.uint32)
    bent_rows = np.zeros(ROWS * W, np.uint16)
    bent_words, flat = bent_rows.view(np.uint32), key_pairs.reshape(-1)
    sums = np.empty(ROWS * E, np.float32)
    key_sums, value_sums = np.empty((M, E), np.float32), np.empty((M, E), np.float32)
    flat_key_sums, flat_value_sums = key_sums.reshape(-1), value_sums.reshape(-1)
    product = np.empty(E, np.float32)
    means = np.empty(ROWS, np.float32)
    while True:
        task = claim_chunk(counters, 0)
        if task >= tasks:
            break
        start, stop, g = spans[task // groups, 0], spans[task // groups, 1], task % groups
        length = stop - start
        padded = _up(length, BLOCK)
        _copy_rows(v, _at(start, g, L, strides[3]), strides[3], length, C,
                   key_bits[:padded])  # fmt: skip
        _pack_columns(key_rows, length, value_columns)
        _copy_rows(k, _at(start, g, L, strides[2]), strides[2], length, C,
                   key_bits[:padded])  # fmt: skip
        _pack_columns(key_rows, length, key_columns)
        _pack_pairs(key_bits, padded // 2, key_pairs)
        key_sums[:padded] = 0
        value_sums[:padded] = 0
        for h in range(g * shared, (g + 1) * shared):
            for first in range(0, length, BLOCK):
                count = min(BLOCK, length - first)
                at = _at(start + first, h, L, strides[1])
                _copy_rows(q, at, strides[1], count, C, row_bits)
                _pack_pairs(row_bits, BLOCK // 2, query_pairs)
                at = _at(start + first, h, L, strides[0])
                _copy_rows(grad, at, strides[0], count, C, grad_bits)
                _pack_pairs(grad_bits, BLOCK // 2, grad_pairs)
                last = _up(count, ROWS)
                for some in range(0, last, ROWS):
                    end = first + some + ROWS
                    _products(rows, some, key_columns, end, scores, 0, W)
                    _products(grad_rows, some, value_columns, end, above, 0, W)
                    many = min(ROWS, count - some)
                    for r in range(many):
                        at = _at(start + first + some + r, h, L, strides[4])
                        _multiply(out[at : at + C], grad_bits[some + r], product)
                        means[r] = total(product, C)
                    for r in range(0, ROWS, 2):
                        position = start + first + some + r
                        visible = first + some + r + 1 if r < many else 0
                        other = visible + 1 if r + 1 < many else 0
                        shift = shifts[h, position] if visible else np.float32(0)
                        other_shift = shifts[h, position + 1] if other else np.float32(0)
                        slopes(
                            scores, above, r * W, W, scale, shift, other_shift,
                            means[r] if visible else np.float32(0),
                            means[r + 1] if other else np.float32(0),
                            visible, other, end, shares, bent, (some + r) // 2 * W,
                            bent_rows, r * W,
                        )  # fmt: skip
                    for c in range(0, E, WIDE):
                        _wide(bent_words, 0, W // 2, 1, flat, c, E, end // 2, sums, c, E)
                    for r in range(many):
                        position = start + first + some + r
                        halves(
                            sums, r * E, scale, C, q_grad,
                            _at(position, h, L, strides[5]),
                        )  # fmt: skip
                _add_block(shares, grad_pairs, first, first + last, W, value_sums)
                _add_block(bent, query_pairs, first, first + last, W, key_sums)
        for n in range(length):
            position = start + n
            halves(flat_key_sums, n * E, scale, C, k_grad,
                   _at(position, g, L, strides[6]))  # fmt: skip
            halves(flat_value_sums, n * E, np.float32(1), C, v_grad,
                   _at(position, g, L, strides[7]))  # fmt: skip
        finish_chunk(counters, 0, tasks)
    wait_for_phase(counters, 0, tasks)

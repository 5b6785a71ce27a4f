"""Attention over a KV cache, block by block of ids, so that scores stay in the processor's caches.

A query's softmax is taken over blocks of BLOCK ids, counted from the first of the sequence: of each
the largest score, the sum of exponentials and the sum of values that they weigh; then these are
folded together, the first block first (flash attention, arXiv:2205.14135; split over the length as
in arXiv:2311.01282). So a query's result is the same bits whatever queries share its blocks, and
whichever threads compute them.

Shape legend: see `kernels`; here `Q` is the number of queries that attend together: of consecutive
positions, R for each.
"""

from __future__ import annotations

import numpy as np

from unified.engine.backends.cpu.intrinsics import (
    called_only,
    compiled,
    largest,
    total,
    wide_vectors,
)
from unified.engine.backends.cpu.kv import kv_product, kv_row, kv_words
from unified.engine.backends.cpu.matmul import PANEL
from unified.engine.backends.cpu.vectors import exp

__all__ = ["BLOCK", "attend_block", "finish_query", "fold_block", "sum_numbers"]

BLOCK = 512
"""Ids of a block: with 64 queries and 128 numbers a key, 700 KB of float32."""


@compiled
def sum_numbers(C: int) -> int:
    """Numbers of a row of sums, of one block of ids or of all so far.

    The weighted sum of values in whole panels, then the largest score and the sum of exponentials.
    """
    return (-(-C // PANEL) + 1) * PANEL


@compiled
def attend_block(
    queries: np.ndarray, length: int, R: int, block: int, keys: np.ndarray, values: np.ndarray,
    C: int, workspace: np.ndarray, kv_workspace: np.ndarray, sums: np.ndarray,
) -> None:  # fmt: skip
    """sums (Q, ...) = what one block of ids gives to queries.

    Args:
        queries: (Q, words of C), rows of `kv_row`.
        length: ids that the first position sees; each next position sees one more.
        R: queries of a position.
        block: its number.
        keys, values: of a head, see `kv`.
        C: head_dim.
        workspace, kv_workspace: float32 and words of the cache, at least Q * BLOCK.
        sums: float32 (Q, `sum_numbers`), written. Of a query that sees nothing of the block,
            without meaning.
    """
    wide_vectors()
    Q, start = queries.shape[0], block * BLOCK
    scale = np.float32(1) / np.sqrt(np.float32(C))
    panels = -(-min(BLOCK, length + (Q - 1) // R - start) // PANEL)
    width = panels * PANEL
    scores = workspace[: Q * width].reshape((Q, width))
    kv_product(queries, keys, start // PANEL, panels, scores, 0)  # (Q, C) -> (Q, ids)
    words = kv_words(width, keys)
    rows = kv_workspace[: Q * words].reshape((Q, words))
    weights = sums.shape[1] - PANEL  # where the values end
    for q in range(Q):
        row, visible = scores[q], min(width, max(0, length + q // R - start))
        top = largest(row, visible) * scale
        for t in range(visible):
            row[t] = exp(row[t] * scale - top)
        row[visible:] = 0  # causal, and what lies behind the last id
        sums[q, weights], sums[q, weights + 1] = top, total(row, visible)
        kv_row(row, rows[q])
    kv_product(rows, values, 0, values.shape[0], sums, kv_words(start, keys))  # -> (Q, C)


@compiled
def fold_block(sums: np.ndarray, more: np.ndarray) -> None:
    """sums = those of the blocks before and of one more, both rows of `sum_numbers`."""
    called_only()
    wide_vectors()
    weights = sums.shape[0] - PANEL
    top = max(sums[weights], more[weights])
    old, new = exp(sums[weights] - top), exp(more[weights] - top)
    for c in range(weights):
        sums[c] = sums[c] * old + more[c] * new
    sums[weights + 1] = sums[weights + 1] * old + more[weights + 1] * new
    sums[weights] = top


@compiled
def finish_query(sums: np.ndarray, out: np.ndarray) -> None:
    """out (C,) = the values that all blocks of a query give."""
    share = np.float32(1) / sums[sums.shape[0] - PANEL + 1]
    for c in range(out.shape[0]):
        out[c] = sums[c] * share

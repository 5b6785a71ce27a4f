"""Sums of embeddings: what a position of several ids is to the decoder."""

from __future__ import annotations

import numpy as np

from unified.engine.backends.cpu.intrinsics import entry

__all__ = ["sum_rows"]


@entry
def sum_rows(rows: np.ndarray, ends: np.ndarray, out: np.ndarray) -> None:
    """Sum rows (ids, D) of each position into `out` (positions, D), in the order of the ids.

    One order for every sum, so that a position has the same bits in any company.

    ends: int64 (positions,), the end of each position among the rows.
    """
    first = 0
    for position in range(out.shape[0]):
        sums = out[position]
        sums[:] = rows[first]
        for at in range(first + 1, ends[position]):
            row = rows[at]
            for d in range(sums.shape[0]):
                sums[d] += row[d]
        first = ends[position]

"""Rows of the loader: some of them, whether they are the same, and whose ids they hold."""

from __future__ import annotations

from itertools import islice

import numpy as np

LENGTH = 96
ARRAYS = ("input_ids", "labels", "loss_weights", "allowed", "modality", "starts")


def same(first, other) -> bool:
    plain = ("ranges", "keys", "stream", "number", "counters", "reports", "state")
    return all(np.array_equal(getattr(first, n), getattr(other, n)) for n in ARRAYS) and all(
        getattr(first, n) == getattr(other, n) for n in plain
    )


def ids_of(rows) -> dict[str, int]:
    """Ids of every source."""
    served: dict[str, int] = {}
    for row in rows:
        for key, start, stop in zip(row.keys, row.starts, row.starts[1:]):
            name = key.rpartition("/")[0]
            served[name] = served.get(name, 0) + int(stop - start)
    return served


def take(loader, number):
    return list(islice(loader, number))

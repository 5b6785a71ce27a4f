"""Which items a step of a tokenizer's training sees: a function of the seed and the step alone.

So a run that was stopped goes on with what would have come next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

__all__ = ["Buckets", "uniform"]


def uniform(seed: int, step: int, batch_size: int, size: int) -> np.ndarray:
    """Indices of a step's items: consecutive slices of a permutation drawn for each epoch.

    Returns int64 (batch_size,), each in [0, size).
    """
    first = step * batch_size
    positions = np.arange(first, first + batch_size)
    result = np.empty(batch_size, np.int64)
    for epoch in np.unique(positions // size):
        mine = positions // size == epoch
        permutation = np.random.default_rng((seed, int(epoch))).permutation(size)
        result[mine] = permutation[positions[mine] % size]
    return result


class Buckets:
    """Batches of one bucket each, all of one size.

    An epoch has every item at least once. A bucket's last batch is filled up with items of the same
    bucket that come a second time: none is left out, and a small bucket's items come more often.

    Args:
        items: by bucket the indices in it, none of them empty.
    """

    def __init__(self, items: Mapping[tuple[int, int], Sequence[int]], batch_size: int) -> None:
        self._items = [np.asarray(indices, np.int64) for _, indices in sorted(items.items())]
        self._batch_size = batch_size
        # A batch of an epoch: its bucket, and which of the bucket's.
        self._batches = [
            (bucket, number)
            for bucket, indices in enumerate(self._items)
            for number in range(-(-len(indices) // batch_size))
        ]
        self._epoch = lru_cache(maxsize=2)(self._draw)

    def _draw(self, seed: int, epoch: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """The order of an epoch's batches, and of every bucket's items."""
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(len(self._batches))
        return order, [rng.permutation(indices) for indices in self._items]

    def indices(self, seed: int, step: int) -> np.ndarray:
        """Indices of a step's items, all of one bucket: int64 (batch_size,)."""
        epoch, within = divmod(step, len(self._batches))
        order, items = self._epoch(seed, epoch)
        bucket, number = self._batches[order[within]]
        first = number * self._batch_size
        positions = np.arange(first, first + self._batch_size)
        mine: np.ndarray = items[bucket][positions % len(items[bucket])]
        return mine

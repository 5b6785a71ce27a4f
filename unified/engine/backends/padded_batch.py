"""Caches of transformers side by side: sequences of different lengths as one batch, and apart.

Shape legend: `N` sequences, `H` heads, `L` ids of the longest, `C` width of a head.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicLayer

__all__ = ["PaddedBatch", "plain_layers"]


def plain_layers(cache: Any) -> bool:
    """Whether every layer of a cache grows by the keys and values of each id, and no more."""
    layers = getattr(cache, "layers", ())
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


class PaddedBatch:
    """The caches of some slots as one, padded on the left to the longest of them.

    cache: transformers' own, of N sequences; None where all are empty. slots: in the order of its
    rows; None stands for those that were taken out. length: of the longest.
    """

    def __init__(self, caches: list[Any], slots: list[int]) -> None:
        """caches: of one sequence each, with `plain_layers`, or None where a slot is empty."""
        lengths = [0 if cache is None else _length(cache) for cache in caches]
        self.slots: list[int | None] = [*slots]
        self.length = max(lengths)
        self._padding = [self.length - length for length in lengths]
        filled = next((cache for cache in caches if cache is not None), None)
        self.cache = None
        if filled is not None:
            self.cache = _shallow(filled)
            for index, layer in enumerate(self.cache.layers):
                own = [None if cache is None else cache.layers[index] for cache in caches]
                layer.keys = _padded([None if x is None else x.keys for x in own], self.length)
                layer.values = _padded([None if x is None else x.values for x in own], self.length)

    def grown(self, cache: Any, count: int) -> None:
        """The model has appended `count` ids to every sequence; `cache` is what it returned."""
        self.cache = cache
        self.length += count

    def take_out(self, slot: int) -> Any:
        """The cache of one sequence, without padding: views of the batch's memory."""
        row = self.slots.index(slot)
        self.slots[row] = None
        if self.cache is None:
            return None
        single = _shallow(self.cache)
        for layer in single.layers:
            layer.keys = layer.keys[row : row + 1, :, self._padding[row] :]
            layer.values = layer.values[row : row + 1, :, self._padding[row] :]
        return single if _length(single) else None


def _length(cache: Any) -> int:
    return int(cache.layers[0].keys.shape[-2])


def _shallow(cache: Any) -> Any:
    """A cache with layers of its own that share the tensors."""
    twin = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in cache.layers]
    return twin


def _padded(rows: list[Tensor | None], length: int) -> Tensor:
    """(1, H, l, C) each, or None, to (N, H, length, C) with zeros on the left."""
    like = next(row for row in rows if row is not None)
    batch = like.new_zeros((len(rows), like.shape[1], length, like.shape[3]))
    for index, row in enumerate(rows):
        if row is not None:
            batch[index, :, length - row.shape[-2] :] = row[0]
    return batch

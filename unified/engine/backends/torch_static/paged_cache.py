"""The KV cache of the batched backend: pages of one pool, a page table for each slot.

Shape legend: `P` pages of the pool, `S` ids of a page, `G` key-value heads, `C` width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unified.engine.backends.stepped_model import check_positions, memory_errors

__all__ = ["LayerShape", "PagedCache", "page_size"]


@dataclass(frozen=True)
class LayerShape:
    """What a layer stores of an id: G key-value heads, the widths of a key and of a value."""

    heads: int
    key_width: int
    value_width: int
    dtype: torch.dtype

    def bytes(self, ids: int) -> int:
        return ids * self.heads * (self.key_width + self.value_width) * self.dtype.itemsize


def page_size(device: torch.device) -> int:
    """Ids of a page: what the kernels of flash attention take on CUDA, few elsewhere."""
    return 256 if device.type == "cuda" else 32


class PagedCache:
    """Keys and values of sequences, a page table for each slot.

    The pool grows by a half when pages are wanting, layer by layer, so that a move takes the memory
    of one layer and no more. Page 0 belongs to no sequence: rows that fill up a recorded pass write
    there.

    keys, values: by layer, (P, S, G, C) in the model's type. lengths: ids in each slot. generation:
    counts how often the pool has moved, which ends recorded passes.
    """

    copies_in_parts = True

    def __init__(
        self,
        shapes: Sequence[LayerShape],
        device: torch.device,
        max_positions: int,
    ) -> None:
        self.page_size = page_size(device)
        self.lengths: list[int] = []
        self.generation = 0
        self._max_positions = max_positions
        self._device = device
        self._pages: list[list[int]] = []
        self._unused: list[int] = []  # slots that were freed
        self._free: list[int] = []
        self._used_before: set[int] = set()  # free pages that hold what a sequence left
        self._num_pages = self._most_pages = 0

        def pool(layer: LayerShape, width: int) -> Tensor:
            shape = (1, self.page_size, layer.heads, width)
            return torch.zeros(shape, dtype=layer.dtype, device=device)

        self.keys = [pool(layer, layer.key_width) for layer in shapes]
        self.values = [pool(layer, layer.value_width) for layer in shapes]

    # Slots.

    def allocate(self, max_ids: int) -> int:
        """See `Cache.allocate`."""
        check_positions(max_ids, self._max_positions)
        count = self.pages_of(max_ids)
        self._most_pages = max(self._most_pages, count)
        if count > len(self._free):
            self._grow_by(count - len(self._free))
        pages = [self._free.pop() for _ in range(count)]
        self._clear(self._used_before.intersection(pages))
        if self._unused:
            slot = self._unused.pop()
            self._pages[slot] = pages
        else:
            slot = len(self._pages)
            self._pages.append(pages)
            self.lengths.append(0)
        return slot

    def free(self, slot: int) -> None:
        """Give a slot's pages back; its number may be another's next."""
        self._free += reversed(self._pages[slot])
        self._used_before.update(self._pages[slot])
        self._pages[slot], self.lengths[slot] = [], 0
        self._unused.append(slot)

    def pages_of(self, max_ids: int) -> int:
        return -(-max_ids // self.page_size)

    def pages(self, slot: int) -> list[int]:
        return self._pages[slot]

    @property
    def most_pages(self) -> int:
        """Pages of the longest slot there has been."""
        return self._most_pages

    def max_ids(self, slot: int) -> int:
        return len(self._pages[slot]) * self.page_size

    def _grow_by(self, wanted: int) -> None:
        """Make the pool larger, by half of it if that can be had. MemoryError: it is as it was."""
        least = self._num_pages + wanted
        try:
            self._grow(max(least, self._num_pages * 3 // 2))
        except MemoryError:
            self._grow(least)

    def _grow(self, pages: int) -> None:
        self.generation += 1
        with memory_errors():
            for pools in (self.keys, self.values):
                for layer, pool in enumerate(pools):
                    if len(pool) <= pages:  # else it has grown when another layer could not
                        pools[layer] = pool.new_zeros(pages + 1, *pool.shape[1:])
                        pools[layer][: len(pool)] = pool
        self._free += range(pages, self._num_pages, -1)  # page 0 stays out
        self._num_pages = pages

    def _clear(self, pages: set[int]) -> None:
        """Zero pages: what lies behind a sequence's last id has weight 0, and 0 times what a
        sequence with damaged logits left there may be NaN."""
        if pages:
            at = torch.tensor(sorted(pages), device=self._device)
            for pool in (*self.keys, *self.values):
                pool.index_fill_(0, at, 0)
            self._used_before -= pages

    # What slots hold.

    def copy_prefix(
        self, source: int, target: int, length: int | None = None, start: int = 0
    ) -> None:
        length = self.lengths[source] if length is None else length
        assert length <= self.max_ids(target)
        pages = slice(start // self.page_size, self.pages_of(length))
        if pages.start < pages.stop:
            origin = torch.tensor(self._pages[source][pages], device=self._device)
            goal = torch.tensor(self._pages[target][pages], device=self._device)
            for pool in (*self.keys, *self.values):
                pool[goal] = pool[origin]
        self.lengths[target] = length

    def truncate(self, slot: int, length: int) -> None:
        assert length <= self.lengths[slot]
        self.lengths[slot] = length

    def reset(self, slot: int) -> None:
        self.lengths[slot] = 0

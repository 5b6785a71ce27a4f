"""The KV cache of the batched backend: pages of one pool, a page table for each slot.

Shape legend: `P` pages of the pool, `S` ids of a page, `G` key-value heads, `C` width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unified.engine.backends.stepped_model import memory_errors

__all__ = ["LayerShape", "PagedCache", "page_size"]


@dataclass(frozen=True)
class LayerShape:
    """What a layer stores of an id: G key-value heads, the widths of a key and of a value."""

    heads: int
    key_width: int
    value_width: int

    def bytes(self, ids: int, dtype: torch.dtype) -> int:
        return ids * self.heads * (self.key_width + self.value_width) * dtype.itemsize


def page_size(device: torch.device) -> int:
    """Ids of a page: what the kernels of flash attention take on CUDA, few elsewhere."""
    return 256 if device.type == "cuda" else 32


class PagedCache:
    """Keys and values of the sequences of an engine, for at most `max_pages` pages.

    The pool grows twofold, layer by layer, until it has them: a budget of memory is a limit, not
    what is taken at once. Page 0 belongs to no sequence: rows that fill up a recorded pass write
    there.

    keys, values: by layer, (P, S, G, C) in the model's type. lengths: ids in each slot. generation:
    counts how often the pool has moved, which ends recorded passes.
    """

    def __init__(
        self,
        shapes: Sequence[LayerShape],
        dtype: torch.dtype,
        device: torch.device,
        max_pages: int,
        first_pages: int = 1,
    ) -> None:
        """Raises MemoryError where `first_pages` do not fit the device."""
        self.page_size = page_size(device)
        self._dtype, self._device = dtype, device
        self.max_pages = max_pages
        self.lengths: list[int] = []
        self.generation = 0
        self._pages: list[list[int]] = []
        self._unused: list[int] = []  # slots that were freed
        self._free: list[int] = []
        self._used_before: set[int] = set()  # free pages that hold what a sequence left
        self._num_pages = 0
        with memory_errors():
            self.keys = [self._pool(layer.heads, layer.key_width) for layer in shapes]
            self.values = [self._pool(layer.heads, layer.value_width) for layer in shapes]
        self._grow(min(first_pages, max_pages))

    def _pool(self, heads: int, width: int) -> Tensor:
        return torch.zeros(
            (0, self.page_size, heads, width), dtype=self._dtype, device=self._device
        )

    # Slots.

    def allocate(self, max_ids: int) -> int:
        """A slot for at most `max_ids` ids. Raises MemoryError where pages are wanting."""
        count = self.pages_of(max_ids)
        if count > len(self._free):
            wanted = self._num_pages + count - len(self._free)
            if wanted > self.max_pages:
                raise MemoryError(
                    f"{max_ids} ids want {count} pages of {self.page_size}, and of"
                    f" {self.max_pages} pages {self.max_pages - self._used} are free"
                )
            self._grow(min(self.max_pages, max(wanted, 2 * self._num_pages)))
        pages = [self._free.pop() for _ in range(count)]
        self._clear(self._used_before.intersection(pages))
        if self._unused:
            slot = self._unused.pop()
            self._pages[slot], self.lengths[slot] = pages, 0
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

    def max_ids(self, slot: int) -> int:
        return len(self._pages[slot]) * self.page_size

    @property
    def _used(self) -> int:
        return self._num_pages - len(self._free)

    def _grow(self, pages: int) -> None:
        """Make the pool `pages` large. Raises MemoryError, and then it is as it was."""
        grown: tuple[list[Tensor], list[Tensor]] = ([], [])
        with memory_errors():
            for pools, larger in zip((self.keys, self.values), grown):
                for pool in pools:
                    larger.append(pool.new_zeros(pages + 1, *pool.shape[1:]))
                    larger[-1][: len(pool)] = pool
        self.keys, self.values = grown
        self._free += range(pages, self._num_pages, -1)  # page 0 stays out
        self._num_pages = pages
        self.generation += 1

    def _clear(self, pages: set[int]) -> None:
        """Zero pages: what lies behind a sequence's last id has weight 0, and 0 times what a
        sequence with damaged logits left there may be NaN."""
        if pages:
            at = torch.tensor(sorted(pages), device=self.keys[0].device)
            for pool in (*self.keys, *self.values):
                pool.index_fill_(0, at, 0)
            self._used_before -= pages

    # What slots hold.

    def copy_prefix(self, source: int, target: int, length: int | None = None) -> None:
        length = self.lengths[source] if length is None else length
        assert length <= self.max_ids(target)
        count = self.pages_of(length)
        if count:
            device = self.keys[0].device
            origin = torch.tensor(self._pages[source][:count], device=device)
            goal = torch.tensor(self._pages[target][:count], device=device)
            for pool in (*self.keys, *self.values):
                pool[goal] = pool[origin]
        self.lengths[target] = length

    def truncate(self, slot: int, length: int) -> None:
        assert length <= self.lengths[slot]
        self.lengths[slot] = length

    def move(self, source: int, target: int) -> None:
        if source != target:
            # Pages change hands, which copies nothing.
            pages = self._pages
            pages[source], pages[target] = pages[target], pages[source]
            self.lengths[target] = self.lengths[source]
        self.reset(source)

    def reset(self, slot: int) -> None:
        self.lengths[slot] = 0

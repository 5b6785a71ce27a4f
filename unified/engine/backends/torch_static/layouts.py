"""What the host says of a pass: ids, positions and places in the cache, in one copy.

Shape legend: `N` sequences, `T` new ids of all of them, `P` pages of a table, `S` ids of a page.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unified.engine.backends.torch_static.paged_attention import (
    FlashLayout,
    PassLayout,
    SameCount,
)
from unified.engine.backends.torch_static.paged_cache import PagedCache

__all__ = ["Piece", "decode_layout", "packed_decode", "pieces_of", "prefill_layout", "to_device"]

Ints = NDArray[np.int64]
Piece = tuple[int, Sequence[int], int]
"""A slot, new ids of its sequence, and how many ids it has before them."""

# Sequences with at most so many new ids each attend together, padded to the longest cache.
_FEW = 8


def pieces_of(
    cache: PagedCache, slots: Sequence[int], input_ids: Sequence[Sequence[int]], limit: int
) -> list[list[Piece]]:
    """Passes of at most `limit` new ids each, in order; what is longer is cut."""
    passes: list[list[Piece]] = [[]]
    left = limit
    for slot, ids in zip(slots, input_ids):
        past, start = cache.lengths[slot], 0
        assert ids
        assert past + len(ids) <= cache.max_ids(slot)
        while start < len(ids):
            if not left:
                passes.append([])
                left = limit
            part = ids[start : start + left]
            passes[-1].append((slot, part, past + start))
            start += len(part)
            left -= len(part)
    return passes


def to_device(arrays: Sequence[Ints], device: torch.device) -> list[Tensor]:
    """int64 arrays of any shapes on the device, by one copy."""
    flat = torch.from_numpy(np.concatenate([array.ravel() for array in arrays]))
    if device.type == "cuda":
        # torch keeps pinned memory from being used again before the copy is done.
        flat = flat.pin_memory()
    flat = flat.to(device, non_blocking=True)
    parts = flat.split([array.size for array in arrays])
    return [part.view(array.shape) for part, array in zip(parts, arrays)]


def table(cache: PagedCache, slots: Sequence[int], width: int) -> Ints:
    """The first pages of some slots, (N, width); 0 behind a slot's last one."""
    pages = np.zeros((len(slots), width), np.int64)
    for row, slot in enumerate(slots):
        own = cache.pages(slot)[:width]
        pages[row, : len(own)] = own
    return pages


def positions(pieces: Sequence[Piece]) -> Ints:
    return np.concatenate([np.arange(past, past + len(ids)) for _, ids, past in pieces])


def written(cache: PagedCache, pieces: Sequence[Piece]) -> Ints:
    """Where the keys of each new id go: page * S + offset, (T,)."""
    size, parts = cache.page_size, []
    for slot, ids, past in pieces:
        at = np.arange(past, past + len(ids))
        parts.append(np.array(cache.pages(slot), np.int64)[at // size] * size + at % size)
    return np.concatenate(parts)


def prefill_layout(
    cache: PagedCache, pieces: Sequence[Piece], device: torch.device, flash: bool
) -> tuple[Tensor, Tensor, PassLayout]:
    """A pass of any pieces: ids (1, T), positions (1, T), and where they belong."""
    ids = np.array([id for _, part, _ in pieces for id in part], np.int64)
    counts = [len(part) for _, part, _ in pieces]
    lengths = np.array([past + len(part) for _, part, past in pieces], np.int64)
    slots = [slot for slot, _, _ in pieces]
    arrays = [ids, positions(pieces), written(cache, pieces)]
    if flash:
        width = cache.pages_of(int(lengths.max()))
        arrays += [np.cumsum([0, *counts]), lengths, table(cache, slots, width)]
        on_device = to_device(arrays, device)
        starts, used, pages = (tensor.int() for tensor in on_device[3:])
        layout = FlashLayout(starts, used, pages, max(counts), width * cache.page_size)
        return on_device[0][None], on_device[1][None], PassLayout(on_device[2], (), layout)
    starts_of = np.cumsum([0, *counts])
    groups: dict[object, list[int]] = {}
    for index, count in enumerate(counts):
        groups.setdefault(count if count <= _FEW else (index,), []).append(index)
    for indices in groups.values():
        count = counts[indices[0]]
        width = cache.pages_of(int(lengths[indices].max()))
        arrays += [
            starts_of[indices][:, None] + np.arange(count),
            table(cache, [slots[index] for index in indices], width),
            lengths[indices],
        ]
    on_device = to_device(arrays, device)
    every = []
    for number, indices in enumerate(groups.values()):
        rows, pages, used = on_device[3 + 3 * number : 6 + 3 * number]
        whole = None if len(groups) == 1 else rows
        first = _first_page(cache, slots[indices[0]], pages.shape[1], len(indices))
        every.append(SameCount(counts[indices[0]], whole, pages, used, first))
    return on_device[0][None], on_device[1][None], PassLayout(on_device[2], every)


def _first_page(cache: PagedCache, slot: int, width: int, sequences: int) -> int | None:
    """The first page of a single sequence if its first `width` pages lie side by side."""
    pages = cache.pages(slot)[:width]
    side_by_side = pages == list(range(pages[0], pages[0] + width))
    return pages[0] if sequences == 1 and side_by_side else None


def packed_decode(cache: PagedCache, pieces: Sequence[Piece], rows: int, width: int) -> Ints:
    """One new id of each sequence as (rows, 4 + width): id, position, where it goes, length, pages.

    Rows behind the last sequence write to page 0 and attend to themselves alone.
    """
    packed = np.zeros((rows, 4 + width), np.int64)
    packed[:, 2], packed[:, 3] = np.arange(rows) % cache.page_size, 1
    for row, (slot, ids, past) in enumerate(pieces):
        pages = cache.pages(slot)
        at = pages[past // cache.page_size] * cache.page_size + past % cache.page_size
        packed[row, :4] = ids[0], past, at, past + 1
        packed[row, 4 : 4 + len(pages)] = pages[:width]
    return packed


def decode_layout(packed: Tensor, size: int, flash: bool) -> tuple[Tensor, Tensor, PassLayout]:
    """The tensors of `packed_decode` on the device, as `prefill_layout` returns them.

    size: ids of a page.
    """
    rows, width = packed.shape[0], packed.shape[1] - 4
    ids, position, write_at, lengths = (packed[:, column] for column in range(4))
    pages = packed[:, 4:]
    if flash:
        starts = torch.arange(rows + 1, dtype=torch.int32, device=packed.device)
        tables = pages.to(torch.int32).contiguous()
        layout = FlashLayout(starts, lengths.to(torch.int32), tables, 1, width * size)
        return ids[None], position[None], PassLayout(write_at, (), layout)
    group = SameCount(1, None, pages, lengths)
    return ids[None], position[None], PassLayout(write_at, (group,))

"""What the host says of a pass: ids, positions and places in the cache, in one copy.

Shape legend: `N` sequences, `T` new ids of all of them, `P` pages of a table, `S` ids of a page.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unified.engine.backends.base import (
    BidirectionalPosition,
    OwnPosition,
    Position,
)
from unified.engine.backends.both_ways import seen_until
from unified.engine.backends.torch_positions import NO_ID, position_array
from unified.engine.backends.torch_static.paged_attention import (
    FEW,
    FlashLayout,
    PassLayout,
    SameCount,
)
from unified.engine.backends.torch_static.paged_cache import PagedCache

__all__ = [
    "Piece",
    "decode_layout",
    "packed_decode",
    "pieces_of",
    "prefill_layout",
    "to_device",
]

Ints = NDArray[np.int64]
Piece = tuple[int, Sequence[Position], int]
"""A slot, new positions of its sequence, and how many it has before them."""


def pieces_of(
    cache: PagedCache, slots: Sequence[int], input_ids: Sequence[Sequence[Position]], limit: int
) -> list[list[Piece]]:
    """Passes of at most `limit` new ids each, in order; what is longer is cut, but for a span that
    is seen both ways."""
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
            if isinstance(last := part[-1], BidirectionalPosition) and last.ahead:
                part = ids[start : start + len(part) + last.ahead]
            passes[-1].append((slot, part, past + start))
            start += len(part)
            left = max(0, left - len(part))
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
    cache: PagedCache,
    pieces: Sequence[Piece],
    row: Sequence[OwnPosition],
    device: torch.device,
    flash: bool,
    ahead: Sequence[Sequence[int] | None],
) -> tuple[Tensor, Tensor, PassLayout]:
    """A pass of any pieces: ids (1, T) or (1, T, K), positions (1, T), and where they belong.

    row: what the positions of the pieces hold, with any id where that is a vector. ahead: for each
    piece how many positions behind it each of its own sees; None: none.
    """
    (ids,) = position_array([row])
    counts = [len(part) for _, part, _ in pieces]
    lengths = np.array([past + len(part) for _, part, past in pieces], np.int64)
    slots = [slot for slot, _, _ in pieces]
    arrays = [ids, positions(pieces), written(cache, pieces)]
    if flash and not any(ahead):
        width = cache.pages_of(int(lengths.max()))
        arrays += [np.cumsum([0, *counts]), lengths, table(cache, slots, width)]
        on_device = to_device(arrays, device)
        starts, used, pages = (tensor.int() for tensor in on_device[3:])
        layout = FlashLayout(starts, used, pages, max(counts), width * cache.page_size)
        return on_device[0][None], on_device[1][None], PassLayout(on_device[2], (), layout)
    starts_of = np.cumsum([0, *counts])
    groups: dict[object, list[int]] = {}
    for index, count in enumerate(counts):
        few = count <= FEW and not ahead[index]
        groups.setdefault(count if few else (index,), []).append(index)
    for indices in groups.values():
        count, seen = counts[indices[0]], ahead[indices[0]]
        width = cache.pages_of(int(lengths[indices].max()))
        until = np.zeros((1, 0), np.int64)
        if seen:
            until = seen_until(seen, pieces[indices[0]][2])[None]
        arrays += [
            starts_of[indices][:, None] + np.arange(count),
            table(cache, [slots[index] for index in indices], width),
            lengths[indices],
            until,
        ]
    on_device = to_device(arrays, device)
    every = []
    for number, indices in enumerate(groups.values()):
        rows, pages, used, seen_keys = on_device[3 + 4 * number : 7 + 4 * number]
        whole = None if len(groups) == 1 else rows
        first = _first_page(cache, slots[indices[0]], pages.shape[1], len(indices))
        spanned = ahead[indices[0]] is not None
        fresh = len(indices) == 1 and not pieces[indices[0]][2] and not spanned
        until_of = seen_keys if spanned else None
        every.append(SameCount(counts[indices[0]], whole, pages, used, first, fresh, until_of))
    return on_device[0][None], on_device[1][None], PassLayout(on_device[2], every)


def _first_page(cache: PagedCache, slot: int, width: int, sequences: int) -> int | None:
    """The first page of a single sequence if its first `width` pages lie side by side."""
    pages = cache.pages(slot)[:width]
    side_by_side = pages == list(range(pages[0], pages[0] + width))
    return pages[0] if sequences == 1 and side_by_side else None


def packed_decode(
    cache: PagedCache, pieces: Sequence[Piece], rows: int, width: int, num_ids: int = 1
) -> Ints:
    """Every new position as a row of (rows, 4 + width + num_ids - 1): its first id, position, where
    it goes, length, pages, and its other ids.

    Several ids of a sequence are rows that see one another: each attends to what is before its own
    length, and keys are written before any row attends. Rows behind the last id write to page 0 and
    attend to that alone.
    """
    packed = np.zeros((rows, 4 + width + num_ids - 1), np.int64)
    packed[:, 4 + width :] = NO_ID
    packed[:, 2], packed[:, 3] = np.arange(rows) % cache.page_size, 1
    row = 0
    for slot, ids, past in pieces:
        pages = cache.pages(slot)
        for position, id in enumerate(ids, past):
            page, offset = divmod(position, cache.page_size)
            at = pages[page] * cache.page_size + offset
            if isinstance(id, tuple):
                packed[row, 4 + width : 3 + width + len(id)] = id[1:]
                id = id[0]
            assert isinstance(id, int | np.integer)  # prompts are not steps
            packed[row, :4] = id, position, at, position + 1
            packed[row, 4 : 4 + min(width, len(pages))] = pages[:width]
            row += 1
    return packed


def decode_layout(
    packed: Tensor, size: int, flash: bool, num_ids: int = 1
) -> tuple[Tensor, Tensor, PassLayout]:
    """The tensors of `packed_decode` on the device, as `prefill_layout` returns them.

    size: ids of a page.
    """
    rows, width = packed.shape[0], packed.shape[1] - 3 - num_ids
    ids, position, write_at, lengths = (packed[:, column] for column in range(4))
    pages = packed[:, 4 : 4 + width]
    if num_ids > 1:
        ids = torch.cat([ids[:, None], packed[:, 4 + width :]], dim=1)  # (rows, K)
    if flash:
        starts = torch.arange(rows + 1, dtype=torch.int32, device=packed.device)
        tables = pages.to(torch.int32).contiguous()
        layout = FlashLayout(starts, lengths.to(torch.int32), tables, 1, width * size)
        return ids[None], position[None], PassLayout(write_at, (), layout)
    group = SameCount(1, None, pages, lengths)
    return ids[None], position[None], PassLayout(write_at, (group,))

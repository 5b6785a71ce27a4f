"""KV slots of a model with a text encoder: each its text, and keys and values of text and codes.

Shape legend: `N` slots, `B` rows of a pass, `c` new positions of the longest, `H` heads, `C` width
of a head, `L` positions of the longest row, `S` ids of the longest text.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unified.engine.backends.stepped_model import check_positions
from unified.models.cross_model import CrossShape

__all__ = ["CacheStep", "EncoderDecoderCache"]


class EncoderDecoderCache:
    """See `Cache`. All slots lie in one tensor a layer, which grows as rows do.

    lengths: ids of text and positions of codes of each slot. texts: the ids of text.
    """

    copies_in_parts = False

    def __init__(
        self, shape: CrossShape, dtype: torch.dtype, device: torch.device, max_positions: int
    ) -> None:
        self.shape, self.lengths, self.texts = shape, list[int](), list[list[int]]()
        self._max_positions = max_positions
        self._text_lengths: list[int] = []  # what cross-attention reads; 0: nothing is encoded yet
        self._unused: list[int] = []

        def empty(heads: int, width: int) -> list[Tensor]:
            return [
                torch.zeros(2, 0, heads, 0, width, dtype=dtype, device=device)
                for _ in range(shape.num_layers)
            ]

        # (2, N, H, L, C): keys and values.
        self.codes = empty(shape.num_kv_heads, shape.head_dim)
        self.text = empty(shape.num_text_kv_heads, shape.text_head_dim)

    def allocate(self, max_ids: int) -> int:
        """See `Cache.allocate`; memory is taken as ids come."""
        check_positions(max_ids, self._max_positions)
        if self._unused:
            return self._unused.pop()
        self.lengths.append(0)
        self.texts.append([])
        self._text_lengths.append(0)
        return len(self.lengths) - 1

    def free(self, slot: int) -> None:
        self.reset(slot)
        self._unused.append(slot)

    def reset(self, slot: int) -> None:
        self.lengths[slot], self.texts[slot], self._text_lengths[slot] = 0, [], 0

    def truncate(self, slot: int, length: int) -> None:
        """See `Cache.truncate`; of a text that is cut nothing stays encoded."""
        if length <= len(self.texts[slot]):
            self.texts[slot] = self.texts[slot][:length]
            self._text_lengths[slot] = 0
        self.lengths[slot] = length

    @torch.inference_mode()
    def copy_prefix(
        self, source: int, target: int, length: int | None = None, start: int = 0
    ) -> None:
        """See `Cache.copy_prefix`."""
        length = self.lengths[source] if length is None else length
        self.reset(target)
        self.texts[target] = self.texts[source][:length]
        self.lengths[target] = length
        if length > len(self.texts[source]):
            self._text_lengths[target] = self._text_lengths[source]
            self._fit(0, 0)
            num_codes = length - len(self.texts[source])
            for tensors, upto in ((self.codes, num_codes), (self.text, self._text_lengths[source])):
                for tensor in tensors:
                    tensor[:, target, :, :upto] = tensor[:, source, :, :upto]

    def num_codes(self, slot: int) -> int:
        """Positions of codes in a slot."""
        return self.lengths[slot] - len(self.texts[slot])

    def encoded(self, slot: int) -> bool:
        """Whether its text has been read."""
        return self._text_lengths[slot] > 0

    def without_text(self, slot: int) -> None:
        """A slot without a text attends to one key and value of zeros."""
        self._fit(0, 1)
        self._text_lengths[slot] = 1
        for tensor in self.text:
            tensor[:, slot, :, 0] = 0

    def put_text(self, slot: int, layer: int, keys: Tensor, values: Tensor) -> None:
        """Keys and values (S, H, C) of a text in a layer."""
        self._fit(0, len(keys))
        self._text_lengths[slot] = len(keys)
        self.text[layer][:, slot, :, : len(keys)] = torch.stack((keys, values)).transpose(1, 2)

    def step(self, slots: Sequence[int], counts: Sequence[int]) -> CacheStep:
        """New positions of some slots."""
        starts = [self.num_codes(slot) for slot in slots]
        self._fit(max(start + count for start, count in zip(starts, counts)), 0)
        text_lengths = [self._text_lengths[slot] for slot in slots]
        return CacheStep(self, slots, starts, counts, text_lengths)

    def _fit(self, num_codes: int, num_text: int) -> None:
        """Room for all slots, for so many positions and ids of text; twice as much as before."""
        N = len(self.lengths)
        for tensors, length in ((self.codes, num_codes), (self.text, num_text)):
            for layer, tensor in enumerate(tensors):
                _, had, H, room, C = tensor.shape
                if had >= N and room >= length:
                    continue
                slots = max(N, had) if had >= N else max(N, 2 * had)
                wider = room if room >= length else max(length, 2 * room)
                grown = tensor.new_zeros(2, slots, H, wider, C)
                grown[:, :had, :, :room] = tensor
                tensors[layer] = grown


class CacheStep:
    """New positions of some rows, and what they may attend to.

    positions: int64 (B, c), of the decoder. mask: bool (B, 1, c, L); text_mask: bool (B, 1, 1, S).
    """

    def __init__(
        self,
        cache: EncoderDecoderCache,
        slots: Sequence[int],
        starts: Sequence[int],
        counts: Sequence[int],
        text_lengths: Sequence[int],
    ) -> None:
        device = cache.codes[0].device
        self._cache = cache
        first, B, c = slots[0], len(slots), max(counts)
        # Slots that lie side by side are views.
        together = list(slots) == list(range(first, first + B))
        self._slots: slice | Tensor = (
            slice(first, first + B) if together else torch.tensor(slots, device=device)
        )
        self._L = max(start + count for start, count in zip(starts, counts))
        self._S = max(text_lengths)
        begin = torch.tensor(starts, device=device)[:, None]
        self.positions = begin + torch.arange(c, device=device)
        columns = torch.arange(self._L, device=device)
        self.mask: Tensor | None = (columns <= self.positions[..., None])[:, None]
        self.text_mask: Tensor | None = None
        if min(text_lengths) < self._S:
            lengths = torch.tensor(text_lengths, device=device)[:, None]
            self.text_mask = (torch.arange(self._S, device=device) < lengths)[:, None, None]
        self._same: int | None = None
        if len(set(starts)) == 1 and min(counts) == c:
            self._same = starts[0]
            if c == 1:
                self.mask = None
            return
        rows = [(row, at) for row, count in enumerate(counts) for at in range(count)]
        self._row, self._at = torch.tensor(rows, device=device).T
        self._slot = torch.tensor(slots, device=device)[self._row]
        self._column = self.positions[self._row, self._at]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put keys and values (B, c, H, C) of new positions there; all of the rows (B, H, L, C)."""
        whole = self._cache.codes[layer]
        if self._same is not None:
            span = slice(self._same, self._L)
            whole[0, self._slots, :, span] = keys.transpose(1, 2)
            whole[1, self._slots, :, span] = values.transpose(1, 2)
        else:
            whole[0, self._slot, :, self._column] = keys[self._row, self._at]
            whole[1, self._slot, :, self._column] = values[self._row, self._at]
        own = whole[:, self._slots, :, : self._L]
        return own[0], own[1]

    def of_text(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, S, C) of the rows' texts."""
        own = self._cache.text[layer][:, self._slots, :, : self._S]
        return own[0], own[1]

"""The KV cache of `cross_decoder`: keys and values of codes, and of the text that stands before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unified.engine.backends.base import Array
from unified.engine.backends.cpu.cache import MemoryPool, SlotCache
from unified.engine.backends.cpu.config import PANEL
from unified.engine.backends.cpu.cross_config import CrossCpuConfig

__all__ = ["CrossCache", "EncodedText", "text_words"]


def text_words(config: CrossCpuConfig, num_ids: int) -> int:
    """float32 numbers of a text's keys and values, for so many ids in whole panels."""
    ids, panels = -(-num_ids // PANEL) * PANEL, -(-config.text_head_dim // PANEL)
    numbers = ids * config.text_head_dim + panels * ids * PANEL
    return config.num_layers * config.text_kv_heads * numbers


@dataclass(frozen=True, eq=False)
class EncodedText:
    """Keys and values of a text in all layers, laid out as a slot's are (`kv`); slots share it.

    num_ids: S, that are attended to. room: ids in whole panels.
    """

    memory: Array
    num_ids: int
    room: int

    @classmethod
    def of(cls, config: CrossCpuConfig, keys_values: Array) -> EncodedText:
        """keys_values: float32 (S, outputs of `text_kv.weight`)."""
        S, C, G = len(keys_values), config.text_head_dim, config.text_kv_heads
        panels, head_panels = -(-S // PANEL), -(-C // PANEL)
        # (S, layers, 2, G, C), where S and C are filled up to whole panels.
        table = np.zeros((panels * PANEL, config.num_layers, 2, G, head_panels * PANEL), np.float32)
        table[:S, ..., :C] = keys_values.reshape(S, config.num_layers, 2, G, C)
        keys = table[:, :, 0, :, :C].reshape(panels, PANEL, config.num_layers, G, C)
        values = table[:, :, 1].reshape(-1, config.num_layers, G, head_panels, PANEL)
        # (layers, G, panels, C, PANEL), then (layers, G, head panels, S, PANEL).
        memory = np.concatenate(
            (keys.transpose(2, 3, 0, 4, 1).ravel(), values.transpose(1, 2, 3, 0, 4).ravel())
        )
        return cls(memory, S, panels * PANEL)


class CrossCache:
    """See `Cache`.

    lengths: ids of text and positions of codes of each slot. texts: the ids of text. codes: keys
    and values of codes. encoded: of each slot, its text once it is read.
    """

    copies_in_parts = False

    def __init__(
        self,
        config: CrossCpuConfig,
        pool: MemoryPool,
        rotations: Callable[[int], Array],
        dtype: str,
    ) -> None:
        """See `SlotCache`."""
        self.codes = SlotCache(config.of_codes, pool, rotations, dtype)
        self.lengths, self.texts = list[int](), list[list[int]]()
        self.encoded: list[EncodedText | None] = []

    def allocate(self, max_ids: int) -> int:
        """See `Cache.allocate`."""
        slot = self.codes.allocate(max_ids)
        if slot == len(self.lengths):
            self.lengths.append(0)
            self.texts.append([])
            self.encoded.append(None)
        return slot

    def free(self, slot: int) -> None:
        self.reset(slot)
        self.codes.free(slot)

    def reset(self, slot: int) -> None:
        self.lengths[slot], self.texts[slot], self.encoded[slot] = 0, [], None
        self.codes.reset(slot)

    def truncate(self, slot: int, length: int) -> None:
        """See `Cache.truncate`; of a text that is cut nothing stays encoded."""
        self.codes.truncate(slot, max(0, length - len(self.texts[slot])))
        if length <= len(self.texts[slot]):
            self.texts[slot] = self.texts[slot][:length]
            self.encoded[slot] = None
        self.lengths[slot] = length

    def copy_prefix(
        self, source: int, target: int, length: int | None = None, start: int = 0
    ) -> None:
        """See `Cache.copy_prefix`."""
        length = self.lengths[source] if length is None else length
        self.reset(target)
        self.texts[target] = self.texts[source][:length]
        self.lengths[target] = length
        if (num_codes := length - len(self.texts[source])) > 0:
            self.encoded[target] = self.encoded[source]
            self.codes.copy_prefix(source, target, num_codes)

    def num_codes(self, slot: int) -> int:
        """Positions of codes in a slot."""
        return self.codes.lengths[slot]

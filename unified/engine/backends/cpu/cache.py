"""The KV cache of the CPU decoder: static memory, laid out in the panels of `kernels`."""

from __future__ import annotations

import math
import weakref
from collections import deque

import numpy as np

from unified.engine.backends.base import Array
from unified.engine.backends.cpu.config import PANEL, LlamaCpuConfig

__all__ = ["StaticCache"]


class StaticCache:
    """Keys and values of `num_slots` sequences, allocated once for all their ids.

    keys: float32 (layers, slots, G, L / PANEL, C, PANEL). values: (layers, slots, G, C / PANEL, L,
    PANEL); see the legend of `kernels`. lengths: ids in each slot. cos_sin: of the rotary angles.
    """

    def __init__(
        self,
        config: LlamaCpuConfig,
        num_slots: int,
        max_ids: int,
        cos_sin: Array,
        spare: deque[Array],
    ) -> None:
        """
        Args:
            config: of the decoder.
            num_slots: sequences.
            max_ids: ids of each.
            cos_sin: float32 (positions, 2, C/2), of `max_ids` positions or more.
            spare: memory of a cache that is no longer in use, or empty; this cache's memory is
                appended when it is collected.
        """
        heads = config.num_layers, num_slots, config.num_kv_heads
        id_panels, head_panels = -(-max_ids // PANEL), -(-config.head_dim // PANEL)
        keys_shape = (*heads, id_panels, config.head_dim, PANEL)
        values_shape = (*heads, head_panels, id_panels * PANEL, PANEL)
        key_numbers = math.prod(keys_shape)
        numbers = key_numbers + math.prod(values_shape)
        try:
            memory = spare.pop()
        except IndexError:  # none, or another thread was faster
            memory = np.zeros(0, np.float32)
        if memory.size < numbers:
            # Zeros, since what lies behind the last id is multiplied by zero.
            memory = np.zeros(numbers, np.float32)
        self.keys = memory[:key_numbers].reshape(keys_shape)
        self.values = memory[key_numbers:numbers].reshape(values_shape)
        self.max_ids = max_ids
        self.cos_sin = cos_sin
        self.lengths = [0] * num_slots
        # New pages are cleared when they are touched: 8% of the time that sixteen pictures take.
        self._recycling = weakref.finalize(self, spare.append, memory)

    def retire_memory(self) -> None:
        """Let no other cache reuse this memory: it holds NaN, which times zero is NaN."""
        self._recycling.detach()

    def copy_prefix(self, source: int, target: int, length: int | None = None) -> None:
        length = self.lengths[source] if length is None else length
        panels = -(-length // PANEL)
        self.keys[:, target, :, :panels] = self.keys[:, source, :, :panels]
        self.values[:, target, :, :, :length] = self.values[:, source, :, :, :length]
        self.lengths[target] = length

    def truncate(self, slot: int, length: int) -> None:
        assert length <= self.lengths[slot]
        self.lengths[slot] = length

    def move(self, source: int, target: int) -> None:
        if source != target:
            self.copy_prefix(source, target)
        self.reset(source)

    def reset(self, slot: int) -> None:
        self.lengths[slot] = 0

"""Prompts that are read a few layers at a time, so that nobody's stream waits for long.

At the end of a long prompt even one more id costs several passes of a small decoder: keys and
values of all ids before it are read. Between two passes a chunk of ids goes through as many layers
as there is time for (layered prefill, arXiv:2510.08055); ids and hidden states are the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import cast

from unified.engine.backends.base import LayeredDecoder, LayeredReading
from unified.engine.branch import Branch
from unified.engine.handle import Handle
from unified.engine.kv_pool import KVPool
from unified.engine.passes import WaitingPrompt
from unified.engine.prefill import PrefillBudget

__all__ = ["LayeredPrefill"]


@dataclass(eq=False)
class _Current:
    """The chunk that is on its way: whose, and of how many ids."""

    handle: Handle
    branch: Branch
    count: int
    reading: LayeredReading


class LayeredPrefill:
    """The chunk of a prompt that is on its way through the layers, if there is one.

    Attributes:
        supported: whether the decoder can stop between layers.
    """

    def __init__(self, pool: KVPool, budget: PrefillBudget) -> None:
        self.supported = getattr(pool.decoder, "reads_by_layers", False)
        self._pool, self._budget = pool, budget
        self._current: _Current | None = None
        self._oldest_next = True

    @property
    def handle(self) -> Handle | None:
        """Whose prompt it is."""
        return self._current.handle if self._current else None

    @property
    def slot(self) -> int:
        """The KV slot that is being read; -1 where none is."""
        return self._current.branch.cache_slot if self._current else -1

    def drop(self, handle: Handle) -> None:
        """Forget the chunk if it is this request's: what it has read so far stays as it was."""
        if self.handle is handle:
            self._current = None

    def begin(self, prompts: Sequence[WaitingPrompt], stops: Mapping[int, int]) -> None:
        """Take the next chunk of one of the prompts, which are in the order of their arrival.

        The oldest has every second chunk, the one with least to read the others. stops: by slot,
        how far its beginning is read that others wait for.
        """
        assert self._current is None
        if not prompts:
            return
        oldest, *others = prompts
        by_length = sorted(others, key=lambda prompt: prompt.num_new)
        order = [oldest, *by_length] if self._oldest_next else [*by_length, oldest]
        self._oldest_next = not self._oldest_next
        for prompt in order:
            for branch in prompt.branches:
                count = self._count(branch, stops)
                if count > 0:
                    decoder = cast("LayeredDecoder", self._pool.decoder)
                    start = branch.num_cached
                    ids = branch.positions[start : start + count]
                    reading = decoder.begin_reading(self._pool.cache, branch.cache_slot, ids)
                    self._current = _Current(prompt.handle, branch, count, reading)
                    return

    def _count(self, branch: Branch, stops: Mapping[int, int]) -> int:
        """Ids of a branch's next chunk: all but the last, whose hidden state is needed."""
        left = len(branch.positions) - branch.num_cached - 1
        stop = stops.get(branch.cache_slot, 0) - branch.num_cached
        if stop > 0:
            left = min(left, stop)
        chunk = self._budget.chunk()
        # What is left at the end would take a pass of its own.
        return left if left <= chunk + chunk // 2 else chunk

    def advance(self, decoding: bool) -> int:
        """Go on. decoding: whether others wait for their next id; if not, to the end.

        Returns how many ids have been read as a whole. Raises what the decoder raises.
        """
        current = self._current
        if current is None:
            return 0
        reading = current.reading
        layers = reading.layers_left
        if decoding:
            layers = min(layers, self._budget.layers())
        began = perf_counter()
        reading.advance(layers)
        ended = not reading.layers_left
        self._budget.observe_layers(perf_counter() - began, layers, ended)
        if not ended:
            return 0
        self._current = None
        current.branch.num_cached = self._pool.cache.lengths[current.branch.cache_slot]
        return current.count

"""KV slots of the transformers backend: caches of the model's own kind, apart or in a batch."""

from __future__ import annotations

import copy
from typing import Any

from unified.engine.backends.padded_batch import PaddedBatch, plain_layers
from unified.engine.backends.pass_media import SeenMedium
from unified.engine.backends.stepped_model import check_positions

__all__ = ["TransformersCache"]


class TransformersCache:
    """One transformers cache for each slot, of the model's own kind.

    lengths: ids in each slot. media: what the sequence in each has seen. Sequences that step
    together lie in one padded batch until their company changes.
    """

    copies_in_parts = False

    def __init__(self, max_positions: int) -> None:
        self._single: list[Any] = []
        self._batch: PaddedBatch | None = None
        self.lengths: list[int] = []
        self.media: list[list[SeenMedium]] = []
        self._max_positions = max_positions
        self._unused: list[int] = []

    def allocate(self, max_ids: int) -> int:
        """See `Cache.allocate`; memory is taken as ids come."""
        check_positions(max_ids, self._max_positions)
        if self._unused:
            return self._unused.pop()
        self._single.append(None)
        self.lengths.append(0)
        self.media.append([])
        return len(self._single) - 1

    def free(self, slot: int) -> None:
        self.reset(slot)
        self._unused.append(slot)

    def single(self, slot: int) -> Any:
        """transformers' own cache of one sequence; None for an empty slot."""
        if self._batch is not None and slot in self._batch.slots:
            self._single[slot] = self._batch.take_out(slot)
        return self._single[slot]

    def put(self, slot: int, cache: Any) -> None:
        self._single[slot] = cache

    def batch(self, slots: list[int]) -> PaddedBatch:
        """The sequences of some slots as one batch: the last one if they are the same."""
        if self._batch is None or self._batch.slots != slots:
            # All others leave it, since only the last batch stays whole.
            for slot in [] if self._batch is None else list(self._batch.slots):
                if slot is not None:
                    self.single(slot)
            self._batch = PaddedBatch([self._single[slot] for slot in slots], slots)
            for slot in slots:
                self._single[slot] = None
        return self._batch

    def copy_prefix(
        self, source: int, target: int, length: int | None = None, start: int = 0
    ) -> None:
        self.single(target)
        self._single[target] = copy.deepcopy(self.single(source))
        self.lengths[target] = self.lengths[source]
        self.media[target] = list(self.media[source])
        if length is not None:
            self.truncate(target, length)

    def truncate(self, slot: int, length: int) -> None:
        """Truncate a slot; one that cannot be (sliding windows, recurrent states) is reset."""
        if length == self.lengths[slot]:
            return
        cache = self.single(slot)
        if plain_layers(cache):
            cache.crop(length - self.lengths[slot])  # negative: so many from the end
            self.lengths[slot] = length
            self.media[slot] = [medium for medium in self.media[slot] if medium.at < length]
        else:
            self.reset(slot)

    def reset(self, slot: int) -> None:
        self.single(slot)
        self._single[slot], self.lengths[slot], self.media[slot] = None, 0, []

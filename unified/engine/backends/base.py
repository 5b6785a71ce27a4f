"""What the engine asks of a backend: forward passes over cache slots, and logits of some ids.

Shape legend: `N` sequences, `T` new ids of all sequences, `D` width of the hidden states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Cache", "Decoder", "Ranges"]

Array = NDArray[np.float32]
Ranges = tuple[tuple[int, int], ...]
"""Ids as ranges [start, stop), ascending."""


class Cache(Protocol):
    """Keys and values of the sequences of one batch, one slot for each.

    lengths: ids in each slot.
    """

    lengths: list[int]

    def copy_prefix(self, source: int, target: int, length: int | None = None) -> None:
        """Make slot `target` a copy of the first `length` ids of slot `source`; None: of all.

        A source that cannot be truncated (see `truncate`) leaves the target empty.
        """

    def truncate(self, slot: int, length: int) -> None:
        """Truncate a slot to its first `length` ids.

        A cache that cannot be truncated (sliding windows, recurrent states) is reset.
        """

    def move(self, source: int, target: int) -> None:
        """Move the contents of slot `source` to slot `target`, whose own are dropped."""

    def reset(self, slot: int) -> None:
        """Empty a slot, for another sequence."""


CacheT = TypeVar("CacheT", bound=Cache)


class Decoder(Protocol[CacheT]):
    """A decoder for sampling. Sequences of any lengths share a pass; none is padded.

    vocab_size: ids it has logits for. max_positions: the most ids of a sequence.
    """

    vocab_size: int
    max_positions: int

    def new_cache(self, num_slots: int, max_ids: int) -> CacheT:
        """A `Cache` of `num_slots` slots for at most `max_ids` ids each.

        Raises ValueError for more ids than positions, MemoryError where it does not fit.
        """

    def forward(
        self, cache: CacheT, slots: Sequence[int], input_ids: Sequence[Sequence[int]]
    ) -> Array:
        """Append one or more ids to each of some slots.

        Returns hidden states float32 (T, D), one row for each new id: those of the first slot in
        order, then those of the next.
        """

    def logits(self, hidden_states: Array, ranges: Ranges) -> Array:
        """Logits float32 (T, ids of all ranges), in the order of the ranges."""

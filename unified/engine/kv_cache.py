"""Slots of a decoder's KV cache: which sequence has which, and forward passes over new ids.

A sequence that begins like another one, active or lately finished, takes over what the cache has of
that prefix: n pictures of one prompt read the prompt once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

import numpy as np

from unified.engine.active import Branch
from unified.engine.backends.base import Array, Cache, Decoder

__all__ = ["KVCacheManager"]

_NO_DRAFTS: Mapping[int, list[int]] = {}


class KVCacheManager:
    """Gives the branches of active requests slots of one cache.

    hidden_states: float32 (T, D), of all ids of the last `forward`.
    """

    def __init__(self, decoder: Decoder, num_slots: int, max_ids: int) -> None:
        """Make a cache of `num_slots` slots of `max_ids` ids each.

        Raises ValueError where the decoder has fewer positions, or the cache does not fit into
        memory.
        """
        self.decoder = decoder
        try:
            self.cache: Cache = decoder.new_cache(num_slots, max_ids)
        except MemoryError:
            raise ValueError(
                f"a cache for {num_slots:,} sequences of {max_ids:,} ids does not fit into memory; "
                "lower max_rows or max_ids"
            ) from None
        self.owners: list[Branch | None] = [None] * num_slots
        # Ids that each slot holds, whether its sequence is active or finished.
        self.cached_ids: list[Sequence[int]] = [()] * num_slots
        self.hidden_states: Array = np.zeros((0, 0), np.float32)

    def free(self, branches: Iterable[Branch]) -> None:
        """Give their slots back. Later sequences may take over their contents until then."""
        for branch in branches:
            if branch.cache_slot >= 0:
                self.owners[branch.cache_slot] = None
                branch.cache_slot = -1
        self._compact()

    def forward(
        self, branches: list[Branch], drafts: Mapping[int, list[int]] = _NO_DRAFTS
    ) -> dict[int, int]:
        """Run the decoder over all new ids of these branches, followed by their drafts.

        drafts: by id(branch). Returns the row of `hidden_states` of the last id of each branch, by
        id(branch); the rows of its drafts follow it.
        """
        new = [branch for branch in branches if branch.cache_slot < 0]
        if new:
            self._admit(new)
        draft_ids = [drafts.get(id(branch), []) for branch in branches]
        input_ids = [[*b.ids[b.num_cached :], *ids] for b, ids in zip(branches, draft_ids)]
        slots = [branch.cache_slot for branch in branches]
        self.hidden_states = self.decoder.forward(self.cache, slots, input_ids)
        for branch in branches:
            branch.num_cached = self.cache.lengths[branch.cache_slot]
        ends = accumulate(map(len, input_ids))
        return {
            id(branch): end - 1 - len(ids) for branch, end, ids in zip(branches, ends, draft_ids)
        }

    def truncate(self, branch: Branch, length: int) -> None:
        """Truncate the slot of a branch to its first `length` ids, or reset it (see `Cache`)."""
        self.cache.truncate(branch.cache_slot, length)
        branch.num_cached = self.cache.lengths[branch.cache_slot]

    def _admit(self, new: list[Branch]) -> None:
        """Give branches slots, with what the cache has of their prefixes."""
        leaders: list[Branch] = []
        followers: list[Branch] = []
        for branch in new:
            shares_prefix = any(_common_prefix(branch.ids, leader.ids) > 1 for leader in leaders)
            (followers if shares_prefix else leaders).append(branch)
        for branch in leaders:
            self._assign_slot(branch)
        if followers:
            # Leaders are run now, but for their last ids: followers copy from them.
            unread = [branch for branch in leaders if branch.num_cached < len(branch.ids) - 1]
            if unread:
                input_ids = [branch.ids[branch.num_cached : -1] for branch in unread]
                self.decoder.forward(self.cache, [b.cache_slot for b in unread], input_ids)
                for branch in unread:
                    branch.num_cached = len(branch.ids) - 1
            for branch in followers:
                self._assign_slot(branch)

    def _assign_slot(self, branch: Branch) -> None:
        """Assign the slot with the longest common prefix, or copy that prefix to a free slot."""
        wanted = branch.ids[:-1]  # the last id must run, for its hidden states
        shared = [
            min(_common_prefix(self.cached_ids[slot], wanted), self.cache.lengths[slot])
            for slot in range(len(self.owners))
        ]
        best = max(range(len(shared)), key=lambda slot: shared[slot])
        if self.owners[best] is None and shared[best]:
            slot = best
            self.cache.truncate(slot, shared[best])
        else:
            # The one whose contents are worth least to others.
            free = [slot for slot, owner in enumerate(self.owners) if owner is None]
            slot = min(free, key=lambda slot: (shared[slot], slot))
            self.cache.reset(slot)
            if shared[best]:
                self.cache.copy_prefix(best, slot, shared[best])
        branch.cache_slot, branch.num_cached = slot, self.cache.lengths[slot]
        self.owners[slot] = branch
        self.cached_ids[slot] = branch.ids

    def _compact(self) -> None:
        """Move sequences down until free slots between them do not outnumber used ones.

        Neighbours in memory are computed together.
        """
        used = [slot for slot, owner in enumerate(self.owners) if owner is not None]
        while used and used[-1] + 1 - len(used) > len(used):
            source = used.pop()
            target = self.owners.index(None)
            self.cache.move(source, target)
            branch = self.owners[source]
            assert branch is not None
            branch.cache_slot = target
            self.owners[source], self.owners[target] = None, branch
            self.cached_ids[source], self.cached_ids[target] = (), branch.ids
            used = sorted([*used, target])


def _common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """The number of ids that two sequences have in common before they differ."""
    upto = min(len(first), len(second))
    if first[:upto] == second[:upto]:
        return upto
    common = 0
    while upto - common > 1:  # halved, since slices compare many times faster than a loop does
        middle = (common + upto) // 2
        if first[common:middle] == second[common:middle]:
            common = middle
        else:
            upto = middle
    return common

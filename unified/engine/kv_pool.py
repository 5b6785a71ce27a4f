"""KV slots of a decoder within a budget of memory, and what they hold of sequences that have ended.

Every branch of an active request has a slot that is long enough for all it can need. A slot that is
given back stays as prefix cache until its memory is wanted; the least recently used goes first. A
branch that begins like another one, active or ended, takes over what the cache has of that prefix:
n pictures of one prompt read the prompt once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from unified.engine.backends.base import Cache, Decoder, Position
from unified.engine.branch import Branch
from unified.engine.prefix_cache import RadixTree, common_prefix

__all__ = ["KVPool", "Waiting"]

# Fewer ids of a prefix that is being read are not worth waiting for.
_LEAST_SHARED = 2
# A slot that holds at least this many ids of a new sequence is not evicted for it.
_WORTH_SPARING = 16


class Waiting(NamedTuple):
    """The first `length` ids that a branch needs are being read in `slot`."""

    slot: int
    length: int


class KVPool:
    """Slots of one cache.

    Attributes:
        limit: bytes that all slots may take.
        prefix_limit: bytes that slots of ended sequences may take of it.
        used_bytes: of the slots of active branches.
        prefix_bytes: of the slots of ended sequences.
        taken_over_ids: that new sequences had in common with ended ones whose slots they have.
    """

    def __init__(self, decoder: Decoder, limit: int, prefix_limit: int) -> None:
        self.decoder = decoder
        self.limit, self.prefix_limit = limit, prefix_limit
        self.used_bytes = self.prefix_bytes = self.taken_over_ids = 0
        self.cache: Cache = decoder.new_cache()
        self._max_ids: dict[int, int] = {}
        self._bytes: dict[int, int] = {}
        # What each slot holds: of active branches their own lists, which grow.
        self._ids: dict[int, Sequence[Position]] = {}
        self._tree = RadixTree()
        self._ended: OrderedDict[int, None] = OrderedDict()  # least recently used first

    def __len__(self) -> int:
        """Slots of active branches."""
        return len(self._bytes) - len(self._ended)

    def bytes_of(self, lengths: Iterable[int]) -> int:
        """Bytes of slots of these lengths."""
        return sum(self.decoder.cache_bytes(length) for length in lengths)

    def reserve(self, branches: Sequence[Branch], lengths: Sequence[int]) -> bool:
        """Give branches slots of these lengths, or none: False, where others use the memory.

        Raises MemoryError where the machine has less than the limit says.
        """
        if self.used_bytes + self.bytes_of(lengths) > self.limit:
            return False
        try:
            for branch, length in zip(branches, lengths):
                self._assign(branch, length)
        except BaseException:
            self.release(branches)
            raise
        return True

    def attach(self, branch: Branch, reading: Collection[int], most: int) -> Waiting | int:
        """Copy what other slots hold of a branch that has read nothing yet.

        reading: slots whose prompts are being read by those before it. most: ids to copy now, where
        the cache can be copied in parts. Returns how many were copied, and `branch.attached` says
        whether that was all; or what to wait for.
        """
        wanted = branch.positions[:-1]  # the last id must run, for its hidden states
        source, usable, pending = self._best_source(wanted, branch.cache_slot, reading)
        slot, start = branch.cache_slot, branch.num_cached
        if pending.length - max(usable, start) >= _LEAST_SHARED:
            return pending
        in_parts = self.cache.copies_in_parts
        stop = min(usable, start + most) if in_parts else usable
        branch.attached = stop == usable
        if usable <= start:
            branch.attached = True
            return 0
        try:
            self.cache.copy_prefix(source, slot, stop, start)
        except MemoryError:
            self.cache.reset(slot)  # it reads all by itself
            branch.attached = True
        self._touch(source)
        branch.num_cached = self.cache.lengths[slot]
        return max(0, branch.num_cached - start)

    def grow(self, branch: Branch, length: int) -> None:
        """Give a branch a slot for `length` ids in place of its own, with what that holds.

        Raises MemoryError where there is none.
        """
        old = branch.cache_slot
        size = self.decoder.cache_bytes(length)
        if self.used_bytes + size > self.limit:
            raise MemoryError
        self._make_room(size, -1)
        slot = self._allocate(length, size, -1)
        self.cache.copy_prefix(old, slot)
        self._enter(branch, slot)
        self._forget(old)
        self.used_bytes -= self._bytes.pop(old)
        self.cache.free(old)
        branch.num_cached = self.cache.lengths[slot]

    def truncate(self, branch: Branch, length: int) -> None:
        """Truncate the slot of a branch to its first `length` ids, or reset it (see `Cache`)."""
        self.cache.truncate(branch.cache_slot, length)
        branch.num_cached = self.cache.lengths[branch.cache_slot]

    def restore(self, branches: Iterable[Branch]) -> None:
        """After a pass that failed: let slots hold what they held before it, or nothing."""
        for branch in branches:
            if self.cache.lengths[branch.cache_slot] > branch.num_cached:
                self.cache.truncate(branch.cache_slot, branch.num_cached)
            branch.num_cached = self.cache.lengths[branch.cache_slot]

    def release(self, branches: Iterable[Branch], failed: bool = False) -> None:
        """Give their slots back. Later sequences may use what they hold until it is overwritten.

        failed: what they hold may be damaged, and serves nobody.
        """
        for branch in branches:
            slot = branch.cache_slot
            if slot < 0:
                continue
            branch.cache_slot = -1
            self._tree.remove(slot)
            ids = list(branch.positions[: self.cache.lengths[slot]])
            self.used_bytes -= self._bytes[slot]
            self.prefix_bytes += self._bytes[slot]
            self._ids[slot] = ids
            self._tree.insert(slot, ids)
            self._ended[slot] = None
            if failed or not ids:
                self._evict(slot)
        while self.prefix_bytes > self.prefix_limit:
            self._evict(next(iter(self._ended)))

    def clear(self) -> None:
        """Free all that ended sequences have left."""
        while self._ended:
            self._evict(next(iter(self._ended)))

    # Slots.

    def _assign(self, branch: Branch, length: int) -> None:
        """A slot for a branch: that of an ended sequence which it goes on from, or a new one."""
        size = self.decoder.cache_bytes(length)
        source, usable, _ = self._best_source(branch.positions[:-1], -1, ())
        ended = source in self._ended
        fits = ended and length <= self._max_ids[source] and self._bytes[source] <= 2 * size
        if fits and usable == len(self._ids[source]):  # nothing of it is lost
            self._take_over(branch, source, usable)
            return
        spare = source if ended and usable >= _WORTH_SPARING else -1
        self._make_room(size, spare)
        if self.used_bytes + self.prefix_bytes + size > self.limit:  # by the spare one alone
            if fits:
                self._take_over(branch, source, usable)
                return
            self._evict(spare)
        self._enter(branch, self._allocate(length, size, spare))
        branch.num_cached = 0

    def _take_over(self, branch: Branch, slot: int, usable: int) -> None:
        """Give a branch the slot of an ended sequence, with the ids that they have in common."""
        self._forget(slot)
        del self._ended[slot]
        self.prefix_bytes -= self._bytes[slot]
        self.used_bytes += self._bytes[slot]
        self.cache.truncate(slot, usable)
        self._enter(branch, slot)
        branch.num_cached = self.cache.lengths[slot]
        branch.attached = branch.num_cached > 0
        self.taken_over_ids += branch.num_cached

    def _make_room(self, size: int, spare: int) -> None:
        """Evict what is least recently used until `size` bytes are free or only `spare` is left."""
        while self.used_bytes + self.prefix_bytes + size > self.limit:
            oldest = next((slot for slot in self._ended if slot != spare), None)
            if oldest is None:
                return
            self._evict(oldest)

    def _allocate(self, length: int, size: int, spare: int) -> int:
        """A new slot. spare: the slot of an ended sequence that goes last, if it must."""
        while True:
            try:
                slot = self.cache.allocate(length)
                break
            except MemoryError:
                if not self._ended:
                    raise
                self._evict(next((slot for slot in self._ended if slot != spare), spare))
        self._max_ids[slot], self._bytes[slot] = length, size
        self.used_bytes += size
        return slot

    def _enter(self, branch: Branch, slot: int) -> None:
        branch.cache_slot, branch.capacity = slot, self._max_ids[slot]
        self._ids[slot] = branch.positions
        self._tree.insert(slot, branch.positions)

    def _forget(self, slot: int) -> None:
        self._tree.remove(slot)
        del self._ids[slot]

    def _evict(self, slot: int) -> None:
        self._forget(slot)
        del self._ended[slot], self._max_ids[slot]
        self.prefix_bytes -= self._bytes.pop(slot)
        self.cache.free(slot)

    def _touch(self, slot: int) -> None:
        if slot in self._ended:
            self._ended.move_to_end(slot)

    def _best_source(
        self, wanted: Sequence[Position], own: int, reading: Collection[int]
    ) -> tuple[int, int, Waiting]:
        """(slot, length) that holds most of `wanted`, and what will hold more of it."""
        best, usable, pending = -1, 0, Waiting(-1, 0)
        for slot, registered in self._tree.matches(wanted):
            if registered <= usable and registered <= pending.length:
                break  # those that follow have less in common
            if slot == own:
                continue
            ids, common = self._ids[slot], registered
            if len(ids) > common:  # of an active branch that has gone on since
                common += common_prefix(ids[common : len(wanted)], wanted[common:])
            length = min(common, self.cache.lengths[slot])
            if length > usable:
                best, usable = slot, length
            if common > pending.length and slot in reading:
                pending = Waiting(slot, common)
        return best, usable, pending

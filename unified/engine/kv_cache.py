"""Places of a decoder's cache: who has which, and feeding what they have not seen yet.

A sequence that begins as another one does, under way or lately finished, takes over what the
cache has of it: n pictures of one prompt read the prompt once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from unified.engine.active import Branch
from unified.engine.backends.cpu.decoder import Array, Decoder

__all__ = ["Places"]

_NO_DRAFTS: Mapping[int, list[int]] = {}


class Places:
    """The rows of one cache. features: (T, D), of all ids fed last."""

    def __init__(self, decoder: Decoder, number: int, max_ids: int) -> None:
        """ValueError where the decoder has no `max_ids` positions, or the memory no room."""
        self.decoder = decoder
        try:
            self.cache: Any = decoder.cache(number, max_ids)
        except MemoryError:
            raise ValueError(
                f"a cache for {number:,} sequences of {max_ids:,} ids does not fit into memory; "
                "lower max_rows or max_ids"
            ) from None
        self.held: list[Branch | None] = [None] * number
        # What the cache of each place holds, whoever has or had it.
        self.known: list[Sequence[int]] = [()] * number
        self.features: Array = np.zeros((0, 0), np.float32)

    def free(self, branches: Iterable[Branch]) -> None:
        """Their places are for others; what they hold can be taken over until then."""
        for branch in branches:
            if branch.place >= 0:
                self.held[branch.place] = None
                branch.place = -1
        self._close_ranks()

    def feed(
        self, branches: list[Branch], drafts: Mapping[int, list[int]] = _NO_DRAFTS
    ) -> dict[int, int]:
        """Let the decoder see every id of these branches, and drafts after them, by id(branch).

        Returns the line in `features` after the last id of each, by id(branch); those of its drafts
        follow it.
        """
        new = [branch for branch in branches if branch.place < 0]
        if new:
            self._admit(new)
        guesses = [drafts.get(id(branch), []) for branch in branches]
        pending = [[*b.ids[b.fed :], *more] for b, more in zip(branches, guesses)]
        self.features = self.decoder.feed(self.cache, [b.place for b in branches], pending)
        for branch in branches:
            branch.fed = self.cache.lengths[branch.place]
        ends = accumulate(map(len, pending))
        return {
            id(branch): end - 1 - len(more) for branch, end, more in zip(branches, ends, guesses)
        }

    def keep(self, branch: Branch, length: int) -> None:
        """Let the cache forget all ids of a branch but so many."""
        self.cache.cut(branch.place, length)
        branch.fed = self.cache.lengths[branch.place]

    def _admit(self, new: list[Branch]) -> None:
        """Give places, and what other sequences have of the same beginning."""
        leaders: list[Branch] = []
        others: list[Branch] = []
        for branch in new:
            alike = any(_common(branch.ids, leader.ids) > 1 for leader in leaders)
            (others if alike else leaders).append(branch)
        for branch in leaders:
            self._take_place(branch)
        if others:
            # All but their last ids: others are to begin where these are.
            early = [branch for branch in leaders if branch.fed < len(branch.ids) - 1]
            if early:
                pending = [branch.ids[branch.fed : -1] for branch in early]
                self.decoder.feed(self.cache, [b.place for b in early], pending)
                for branch in early:
                    branch.fed = len(branch.ids) - 1
            for branch in others:
                self._take_place(branch)

    def _take_place(self, branch: Branch) -> None:
        """The place whose ids begin most alike, or a copy of it in a free place."""
        wanted = branch.ids[:-1]
        shared = [
            min(_common(self.known[place], wanted), self.cache.lengths[place])
            for place in range(len(self.held))
        ]
        best = max(range(len(shared)), key=lambda place: shared[place])
        free = [place for place, held in enumerate(self.held) if held is None]
        if self.held[best] is None and shared[best]:
            place = best
            self.cache.cut(place, shared[best])
        else:
            place = min(free, key=lambda place: (shared[place], place))
            self.cache.clear(place)
            if shared[best]:
                self.cache.fork(best, place, shared[best])
        branch.place, branch.fed = place, self.cache.lengths[place]
        self.held[place] = branch
        self.known[place] = branch.ids

    def _close_ranks(self) -> None:
        """Rows side by side are computed together: no more holes between them than rows."""
        taken = [place for place, held in enumerate(self.held) if held is not None]
        while taken and taken[-1] + 1 - len(taken) > len(taken):
            source = taken.pop()
            target = next(place for place, held in enumerate(self.held) if held is None)
            self.cache.move(source, target)
            branch = self.held[source]
            assert branch is not None
            branch.place = target
            self.held[source], self.held[target] = None, branch
            self.known[source], self.known[target] = (), branch.ids
            taken = sorted([*taken, target])


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two sequences have in common before they part."""
    upto = min(len(one), len(other))
    if one[:upto] == other[:upto]:
        return upto
    common = 0
    while upto - common > 1:  # halved, since slices compare many times faster than a loop does
        middle = (common + upto) // 2
        if one[common:middle] == other[common:middle]:
            common = middle
        else:
            upto = middle
    return common

"""What followed what: the ids that an engine has chosen, looked up by the ids before them.

In a text those are the last four ids, three, two or one (prompt look-up decoding, Saxena 2023; the
prompts count as well). In media they are the neighbours: the id before, those above it where rows
follow each other, or those of the frame before. What came last stands. Nothing is decided by it: a
guess that is wrong costs time alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["LEVELS", "DraftMemory"]

# Entries of either half: 6 MB. Once one is full the other, older one is dropped.
_ENTRIES = 1 << 16
LEVELS = 4
"""Contexts of an id, the longest first."""


class DraftMemory:
    """Ids by their contexts, of all requests of an engine; the oldest are forgotten."""

    def __init__(self, entries: int = _ENTRIES) -> None:
        """entries: kept at least, and at most twice as many."""
        self._entries = entries
        self._recent: dict[int, int] = {}
        self._older: dict[int, int] = {}

    def learn(self, ids: Sequence[int], at: int, period: int) -> None:
        """Enter the id at index `at` of a segment. period: see `find`."""
        for key in _keys(ids, at, period):
            self._recent[key] = ids[at]
        if len(self._recent) > self._entries:
            self._recent, self._older = {}, self._recent

    def find(self, ids: Sequence[int], at: int, period: int) -> tuple[int, int] | None:
        """The id that came last in the longest context known of index `at`, and the level of that.

        ids: of the open segment up to there at least. period: ids from a row to the next, or from a
        frame to the next; 0 in texts, and where there are none.
        """
        for level, key in enumerate(_keys(ids, at, period)):
            id = self._recent.get(key)
            if id is None:
                id = self._older.get(key)
            if id is not None:
                return id, level
        return None


def _keys(ids: Sequence[int], at: int, period: int) -> Iterator[int]:
    """Contexts of an index, the longest first. -1 stands for ids before the segment."""
    before = ids[at - 1] if at else -1
    second = ids[at - 2] if at > 1 else -1
    if period > 1:
        above = ids[at - period] if at >= period else -1
        beyond = ids[at - period + 1] if at >= period else -1
        yield hash((1, before, above, beyond))
        yield hash((2, before, above))
    else:
        third = ids[at - 3] if at > 2 else -1
        yield hash((3, before, second, third, ids[at - 4] if at > 3 else -1))
        yield hash((4, before, second, third))
    yield hash((5, before, second))
    yield hash((6, before))

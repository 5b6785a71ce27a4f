"""What stands in a slot of a decoder with a text encoder: a text, and positions of codes behind it.

The encoder reads a text as a whole, before the first position of codes: ids of text take no
position of the decoder, and their hidden states are nothing's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from unified.engine.backends.base import Position, Ranges

__all__ = ["LevelRange", "SlotCodes", "TextCache", "level_ranges", "read_texts"]


class TextCache(Protocol):
    """The part of such a cache that texts are told to.

    lengths: ids of text and positions of codes of each slot. texts: the ids of text.
    """

    lengths: list[int]
    texts: list[list[int]]

    def num_codes(self, slot: int) -> int:
        """Positions of codes in a slot."""


class SlotCodes(NamedTuple):
    """slot, its new positions of codes; num_text: new ids of text before them, which are nothing's
    hidden states."""

    slot: int
    codes: list[tuple[int, ...]]
    num_text: int


def read_texts(
    cache: TextCache, slots: Sequence[int], input_ids: Sequence[Sequence[Position]]
) -> list[SlotCodes]:
    """Put new ids of text into a cache; what is left for the decoder of each slot.

    Raises ValueError for text behind codes.
    """
    rows = []
    for slot, positions in zip(slots, input_ids):
        text = [position for position in positions if isinstance(position, int)]
        codes = [position for position in positions if isinstance(position, tuple)]
        if text and (cache.num_codes(slot) or positions[: len(text)] != text):
            raise ValueError(
                "text stands behind codes, but the encoder reads texts before they begin;"
                " put all of it before the sound"
            )
        cache.texts[slot] += text
        cache.lengths[slot] += len(text)
        rows.append(SlotCodes(slot, codes, len(text)))
    return rows


class LevelRange(NamedTuple):
    """Rows [start, stop) of a level's table."""

    level: int
    start: int
    stop: int


def level_ranges(model: str, ranges: Ranges, first: int, rows: int) -> Iterator[LevelRange]:
    """Ranges of ids as rows of the levels' tables, which stand one behind another.

    Args:
        model: its name, for people.
        first: the id of the first row. rows: of each table.

    Raises ValueError for ids of text.
    """
    for start, stop in ranges:
        while start < stop:  # level by level
            if start < first:
                raise ValueError(
                    f"{model} has no head for text: it reads texts and writes codes alone"
                )
            level, row = divmod(start - first, rows)
            upto = min(stop, start - row + rows)
            yield LevelRange(level, row, row + upto - start)
            start = upto

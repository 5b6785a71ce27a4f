"""A branch of a request: its own ids, or those of a condition of guidance; and its KV slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from unified.engine.backends.base import Position, attended_medium, continuous_positions
from unified.engine.backends.both_ways import as_span
from unified.formats.coded import Coded, CodedMedia
from unified.formats.grammar import Grammar, SegmentIds
from unified.formats.spec import Format

__all__ = ["Branch", "positions_of", "positions_of_segment"]


@dataclass(eq=False)
class Branch:
    """Input of the decoder for one condition of a request.

    Attributes:
        condition: "full", "unconditional" or "media" (see `Guidance`).
        positions: the input so far, whole positions alone.
        num_cached: how many of them are in the cache.
        cache_slot: where; -1 while it has none.
        capacity: positions that its slot has room for.
        attached: whether it has what the cache held of its beginning, and reads on from there.
        waits_for: until then, the slot that is reading its beginning, and how much of it.
        kind, role: of the last segment.
        spans: [start, stop) of positions that see one another.
    """

    condition: str
    positions: list[Position] = field(default_factory=list)
    num_cached: int = 0
    cache_slot: int = -1
    capacity: int = 0
    attached: bool = False
    waits_for: tuple[int, int] = (-1, 0)
    kind: str | None = None
    role: str | None = None
    spans: list[tuple[int, int]] = field(default_factory=list)
    _span_start: int = -1  # of one that is open
    _span_stop: int = -1  # and where it ends, once what comes behind it begins
    _begun: bool = False  # whether there is a segment

    def begin_segment(
        self, grammar: Grammar, before: str | None, role: str | None, written: bool
    ) -> None:
        """The markers of a segment are next: one that is given joins a span of its role or begins
        it, others end it. A document's beginning belongs to the span of its first segment, what
        ends a role to the role.

        before: the role so far. written: whether the segment is a slot.
        """
        format, first = grammar.format, not self._begun
        self._begun, role = True, role or format.start
        behind = len(self.positions)
        if role != before:
            behind += len(grammar.role_suffix(before))
        if role in format.bidirectional and not written:
            if self._span_start < 0:
                self._span_start = 0 if first else behind
        elif self._span_start >= 0:
            self._span_stop = behind

    def end_markers(self, format: Format, kind: str, written: bool) -> None:
        """The markers of a segment stand; its own positions are next."""
        if self._span_stop >= 0:
            self._end_span(self._span_stop)
        if kind in format.bidirectional and not written and self._span_start < 0:
            self._span_start = len(self.positions)

    def end_given(self, format: Format, role: str | None) -> None:
        """All positions of a given segment stand. A span of its role may go on."""
        if self._span_start >= 0 and (role or format.start) not in format.bidirectional:
            self._end_span(len(self.positions))

    def _end_span(self, stop: int) -> None:
        start, self._span_start, self._span_stop = self._span_start, -1, -1
        self.positions[start:stop] = as_span(self.positions[start:stop])
        self.spans.append((start, stop))

    def whole_spans(self, count: int) -> int:
        """How many positions to read next, about `count`, so that no span is read in part."""
        stop = self.num_cached + count
        for first, last in self.spans:
            if first < stop < last:
                stop = first if first > self.num_cached else last
        return stop - self.num_cached


def positions_of(ids: Sequence[int], depths: Sequence[int]) -> list[Position]:
    """Positions of whole segments: an id each, or a tuple of those that are together.

    depths: the index of each id within its position.
    """
    starts = [at for at, depth in enumerate(depths) if not depth]
    if len(starts) == len(ids):
        return list(ids)
    return [
        ids[start] if stop - start == 1 else tuple(ids[start:stop])
        for start, stop in zip(starts, [*starts[1:], len(ids)])
    ]


def positions_of_segment(segment: Coded, ids: SegmentIds, grammar: Grammar) -> list[Position]:
    """Positions of a given segment: those of its ids, and vectors where it has them."""
    positions = positions_of(ids.ids.tolist(), ids.depth.tolist())
    if isinstance(segment, CodedMedia) and segment.features is not None:
        span = grammar.span_grammars[segment.kind]
        placeholder = span.blocks[0].id(0)
        held: Sequence[Position] = (
            [attended_medium(placeholder, segment.features)]
            if span.attended
            else continuous_positions(segment.features)
        )
        for at, position in zip(np.flatnonzero(ids.ids == placeholder), held):
            positions[at] = position
    return positions

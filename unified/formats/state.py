"""The state of one sequence under a grammar: what may come next, and what an id means.

One state serves as constraint (`allowed`), validator and streaming parser (`advance`). It lies on
the sampling path, so the ranges allowed now are kept ready: `allowed` only returns them, and
`advance` does a fixed amount of work whatever the length of the sequence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from unified.formats.coded import (
    CodedText,
    End,
    Event,
    RoleChange,
    SpanBegin,
    SpanEnd,
    TextIds,
    coded_media,
)
from unified.formats.compiled import CompiledFormat
from unified.formats.document_state import At, DocumentState
from unified.formats.limits import FREE, BudgetError, Limits
from unified.formats.span_stages import OpenStage, PositionRest
from unified.formats.span_state import SpanState
from unified.formats.state_words import StateWords
from unified.vocabulary.block import Ranges

__all__ = ["State"]


class State(StateWords):
    """One sequence so far. Made by `Grammar.start`; see `DocumentState` for its attributes."""

    __slots__ = ("_stream_ids", "_text", "_undecided")

    def __init__(self, grammar: CompiledFormat, limits: Limits | None):
        super().__init__(grammar)
        self._text: list[int] = []
        self._begun_at = 0
        self._span = None
        self._undecided = False  # whether the span that has begun may be one that is read instead
        self._stream_ids: Mapping[int, Sequence[int]] | None = None
        self.restrict(limits)

    def copy(self) -> State:
        """An independent state at the same point."""
        other = object.__new__(State)
        for name in (*DocumentState.__slots__, *StateWords.__slots__, *State.__slots__):
            setattr(other, name, getattr(self, name))
        other._text = self._text.copy()
        other._span = self._span.copy() if self._span is not None else None
        other._required = self._required.copy()
        return other

    @property
    def required_begin(self) -> int | None:
        """The marker that begins a span which an exact number still asks for, where it may come
        now; None where no span is required, or none may begin here."""
        for kind, number in self._required.items() if self._span is None else ():
            begin = self.grammar.span_grammars[kind].begin
            if number and any(start <= begin < stop for start, stop in self._ranges):
                return begin
        return None

    @property
    def mode(self) -> str:
        """What is expected next: "text", a kind of span, or "marker" where only markers are."""
        if self._span is not None:
            return "marker" if self._span.expects_marker else self._span.grammar.kind
        return "text" if self._text_ok else "marker"

    @property
    def kind(self) -> str | None:
        """The kind of the segment that is open, None between segments."""
        if self._span is not None:
            return self._span.grammar.kind
        return "text" if self._at == At.TEXT else None

    @property
    def begun_at(self) -> int:
        """The position at which the open segment begins, that of its first marker or text id."""
        return self._begun_at

    @property
    def depth(self) -> int:
        """The index of the next id within its position: 0 where a position begins."""
        return self._span.depth if self._span is not None else 0

    @property
    def level(self) -> int:
        """The codebook level of the next id, -1 where it is no code. Where another frame may begin
        or the span end, that of the frame's first code."""
        return self._span.level if self._span is not None else -1

    def are_codes(self, ranges: Ranges) -> np.ndarray:
        """Which ids of ranges are codes of the level that is next, bool (ids of all ranges)."""
        ids = np.concatenate([np.arange(start, stop) for start, stop in ranges])
        if self._span is None or self.level < 0:
            return np.zeros(len(ids), bool)
        runs = self._span.grammar.blocks[self.level].runs
        return np.any([(ids >= start) & (ids < stop) for start, stop in runs], axis=0)

    @property
    def period(self) -> int:
        """Ids from a row of codes to the next, or from a frame to the next, in the open span.

        0 outside spans, in their headers, and where there is one row alone.
        """
        return self._span.period if self._span is not None else 0

    def settled(self, number: int) -> list[Ranges]:
        """What is allowed at the next positions, `number` at most, as far as that is settled
        whatever ids come: inside a grid or a frame of codes. [] where the next id decides."""
        return self._span.settled(number) if self._span is not None else []

    def rest_of_position(self) -> PositionRest:
        """The codes that are still to come in the position that has begun, or in the next one, if
        that holds several, all are settled whatever ids come, and each leaves a choice. Where the
        span may end instead, the first level's ids have that, too."""
        return self._span.rest_of_position() if self._span is not None else PositionRest()

    def restrict(self, limits: Limits | None, goes_on: bool = False) -> None:
        """Set new limits from this position on, or lift them (None).

        A slot in a document is sampled so: feed what stands before it, restrict, sample, lift,
        feed what follows. Not possible inside a span of codes. goes_on: the open text is the
        slot's, which may add nothing to it.

        Raises ValueError where the limits cannot be met: too small a budget, or nothing allowed.
        """
        if self._span is not None and limits is not None:
            raise ValueError(
                f"limits cannot change inside the {self.kind} span begun at position "
                f"{self._begun_at}; set them before it begins"
            )
        stop = limits.stop if limits is not None else None
        following = {path[0] for path in self.grammar.paths[self.role]}
        if stop is not None and stop not in following.union(self.grammar.document_markers):
            of_role = "" if self.role is None else f" of role '{self.role}'"
            raise ValueError(
                f"{self.grammar.vocabulary.describe(stop)} cannot be the stop of a text{of_role},"
                " which it cannot follow; take what `Grammar.text_stop` gives"
            )
        self._set_rules(limits if limits is not None else FREE)
        self._text_over = False
        if limits is not None and self._at != At.END:
            self.finished = False  # what they ask for is still to come
        self._choosing = self._rules.limits.calls is not None and self.role != self._own_role
        self.n_started = int(goes_on and self._at == At.TEXT)
        if self._span is not None:
            self._span.lift()
            self._ranges = self._span.ranges
        elif self._at != At.END:
            self._check_budget(limits)
            self._open_document()

    def _check_budget(self, limits: Limits | None) -> None:
        least = self._least()
        if least is None:
            raise ValueError(f"the limits allow nothing at position {self.position}: {limits}")
        if self._left < least:
            raise BudgetError(
                f"a budget of {self._left} ids is too small at position {self.position}: "
                f"the limits need at least {least}, the end included; raise max_ids"
            )

    def end_text(self) -> None:
        """Let the open text go no further: required spans, another kind, or the end follows."""
        assert self._at == At.TEXT
        self._text_over = True
        self._open_document()

    def segment_prefix(self, kind: str, role: str | None) -> tuple[int, ...]:
        """The markers that stand between here and a segment of this kind and role.

        kind may be "any" (a slot that takes any interleaving). ValueError inside a span of codes,
        after one that ends the document, or where the role cannot follow.
        """
        if self._span is not None:
            raise ValueError(
                f"no segment can begin at position {self.position}, in {self._here(self._span)}"
            )
        if self._terminal:
            raise ValueError(
                f"no segment can begin at position {self.position}: in format"
                f" '{self.grammar.format.name}' the document ends here"
            )
        if self._at not in (At.ITEM, At.TEXT):
            raise ValueError(
                f"no segment can begin at position {self.position}, where"
                f" {self.grammar.describe(self._ranges) or 'nothing'} is expected"
            )
        before = "text" if self._at == At.TEXT else None
        return self.grammar.segment_prefix(before, self.role, kind, role)

    def advance(self, id: int) -> tuple[Event, ...]:
        """Read one id; the events it completes.

        Raises GrammarError, leaving the state as it was, if `id` is not in `allowed()`.
        """
        span = self._span
        if span is not None:
            events = self._decide(span, id) if self._undecided else span.advance(id)
            if events is None:
                return self._advance_behind(span, id)
            self.position += 1
            self._left -= 1
            span = self._span
            assert span is not None
            if span.finished:
                return (*events, self._end_span(span))
            self._ranges = span.ranges
            return events
        grammar = self.grammar
        if self._text_ok and grammar.is_text(id):
            self.position += 1
            self._left -= 1
            self._text.append(id)
            piece = TextIds((grammar.vocabulary.from_ids("text", id),))
            if self._at != At.TEXT:
                return self._begin_text(piece)
            # Far from the end of the budget nothing changes from one text id to the next.
            if self._left <= self._recheck:
                self._open_document()
            return (piece,)
        for start, stop in self._ranges:
            if start <= id < stop:
                return self._advance_marker(id)
        if self._reads_spans and id in grammar.read_begins:
            return self._advance_marker(id)
        raise self._refuse(id)

    def advance_text(self, ids: Sequence[int]) -> tuple[Event, ...]:
        """Read ids of a text, at least one, as `advance` would one by one; those behind the first
        are one event where no budget is near its end. A prompt of 4,096 takes 1 ms, not 30.

        Raises GrammarError at the first id that is not allowed.
        """
        events, rest = list(self.advance(ids[0])), ids[1:]
        far = self._left - len(rest) > self._recheck
        if rest and far and self._at == At.TEXT and all(map(self.grammar.is_text, rest)):
            codes = self.grammar.vocabulary.from_ids("text", np.array(rest)).tolist()
            self.position += len(rest)
            self._left -= len(rest)
            self._text += rest
            return (*events, TextIds(tuple(codes)))
        for id in rest:
            events += self.advance(id)
        return tuple(events)

    def _begin_text(self, piece: TextIds) -> tuple[Event, ...]:
        self._begun_at = self.position - 1
        self._at = At.TEXT
        self.finished = False
        self.n_started += 1
        self._open_document()
        return (SpanBegin("text", {}, ()), piece)

    # At the level of the document.

    def _advance_marker(self, id: int) -> tuple[Event, ...]:
        grammar = self.grammar
        events: tuple[Event, ...] = ()
        if self._at == At.TEXT:
            ids = grammar.vocabulary.from_ids("text", np.array(self._text)).tolist()
            events = (SpanEnd("text", CodedText(ids, self.role)),)
            self._text = []
        if id == self._rules.limits.stop and self.n_started:
            self._set_rules(FREE)
        self.position += 1
        self._left -= 1
        self.finished = False
        if self._at == At.START:
            self._path += (id,)
            if self._path == grammar.begin:
                self._path, self._at = (), At.ITEM
        elif self._at != At.PATH and id in grammar.document_markers:
            action, name = grammar.document_markers[id]
            if action == "span":
                return events + self._begin_span(name)
            self._at = At.AFTER_SEPARATOR
        else:
            self._path += (id,)
            self._at = At.PATH
            events += self._events_of_path()
            if self._at == At.END:
                return events
        self._open_document()
        return events

    def _events_of_path(self) -> tuple[Event, ...]:
        """What is complete with the last id of a path."""
        paths = self.grammar.paths[self.role]
        events: tuple[Event, ...] = ()
        if self._path not in paths:
            return ()
        role = paths[self._path]
        if self._path == self.grammar.eos(self.role) and not self._choosing:
            self.finished = True
            events = (End(),)
        if role is not None:
            self.role, self._choosing, self._path = role, False, ()
            if role == self._rules.limits.calls:  # what is still required comes after its result
                self._required, self._required_ids, self._text_over = {}, 0, False
            self._at = At.AFTER_ROLE
            return (*events, RoleChange(role))
        if not any(len(path) > len(self._path) for path in self._ahead()):
            self._at = At.END
            self._path = ()
            self._ranges = ()
            self._text_ok = False
        return events

    # Inside a span.

    def settle_streams(self, kind: str, codes: Mapping[str, np.ndarray] | None) -> None:
        """Settle streams of the next span of a kind: codes (levels, T) by name; None: none.

        Raises ValueError for unknown streams, and codes of other levels or lengths.
        """
        self._stream_ids = None if not codes else self.grammar.span_grammars[kind].stream_ids(codes)

    def _begin_span(self, kind: str) -> tuple[Event, ...]:
        rules = self._rules
        span_grammar = self.grammar.span_grammars[kind]
        if kind in self._required:
            self._required[kind] -= 1
            self._required_ids -= rules.least[kind]
        self.n_started += 1
        self._begun_at = self.position - 1
        self._text_ok = self._text_over = False
        self._span = SpanState(
            span_grammar,
            left=self._left,
            need=self._required_ids + len(self.grammar.eos(self.role)),
            fixed=rules.fixed[kind],
            forced=rules.forced[kind],
            max_repeats=rules.limits.of(span_grammar.modality).max_frames,
            stream_ids=self._stream_ids,
        )
        self._stream_ids = None
        self._undecided = kind in self.grammar.read_instead
        told = span_grammar.header_stages == 0 and not self._undecided
        events: tuple[Event, ...] = (self._span.begin_event(),) if told else ()
        if not span_grammar.has_begin:
            events += self._span.advance(span_grammar.begin) or ()
            if self._span.finished:
                return (*events, self._end_span(self._span))
        self._ranges = self._span.ranges
        return events

    def _decide(self, span: SpanState, id: int) -> tuple[Event, ...] | None:
        """Read the first id behind a marker that begins two kinds of span, codes and vectors."""
        events = span.advance(id)
        if events is None:
            other = self.grammar.span_grammars[self.grammar.read_instead[span.grammar.kind]]
            span = SpanState(other, span.left, span.need, {}, {}, None)
            events = span.advance(id)
        if events is None:
            return None
        self._span, self._undecided = span, False
        return (span.begin_event(), *events) if span.grammar.header_stages == 0 else events

    def _advance_behind(self, span: SpanState, id: int) -> tuple[Event, ...]:
        """Read an id that a span cannot hold: it may end an open one that nothing else ends."""
        if not _ends_by_next(span):
            raise self._refuse(id)
        ahead = self.copy()
        end = ahead.end_given()
        events = ahead.advance(id)
        for name in (*DocumentState.__slots__, *StateWords.__slots__, *State.__slots__):
            setattr(self, name, getattr(ahead, name))
        return (*end, *events)

    def end_given(self) -> tuple[Event, ...]:
        """End the open span where it is complete and only what follows would end it."""
        if self._span is None or not _ends_by_next(self._span):
            return ()
        return (self._end_span(self._span),)

    def _end_span(self, span: SpanState) -> SpanEnd:
        kind = span.grammar.kind
        self._span = None
        self._at = At.ITEM
        self._terminal = span.grammar.terminal
        self._open_document()
        segment = coded_media(span.grammar.modality, span.codes(), self.role, kind=kind)
        return SpanEnd(kind, segment)


def _ends_by_next(span: SpanState) -> bool:
    """Whether a span is complete, and ends with whatever it cannot hold."""
    stages = span.grammar.stages
    is_open = isinstance(stages[span.stage], OpenStage) and span.stage + 1 == len(stages)
    return is_open and span.choice and span.repeats > 0

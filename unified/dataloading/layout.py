"""Stored segments to ids, with what the grammar allows at each of them, fast enough for training.

What the grammar allows at an id follows from few things: the segment before, its role, the
segment itself and the shape of its codes. `Layout` asks the grammar's state machine once for each
of these and caches the answers; a document is then put together from arrays.

L ids of a document, K codebook levels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from unified.dataloading.stored_codes import Stored
from unified.dataloading.tokenized_document import (
    MarkerRun,
    TokenizedDocument,
    TokenizedDocumentBuilder,
)
from unified.formats.coded import CodedMedia
from unified.formats.grammar import MODALITIES, Grammar
from unified.formats.limits import UNLIMITED
from unified.formats.span_grammar import SpanGrammar
from unified.formats.span_state import SpanState
from unified.formats.state import State
from unified.sequence.sequencer import loss_weights
from unified.vocabulary.block import Ranges
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified_data.document import Text

__all__ = ["Layout"]

_MAX_CACHED_IDS = 2_000_000
"""Ids of texts, and as many of span shapes, that a layout caches: about 20 MB."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False, slots=True)
class _Span:
    """What all spans of one kind and grid have in common: ids but for codes, and the rest but for
    allowed[0], which depends on what stands before. positions: indices of the codes by codebook
    level. depth: None where every id is a position of its own."""

    ids: np.ndarray
    allowed: np.ndarray
    modality: np.ndarray
    positions: list[np.ndarray]
    depth: np.ndarray | None


class _Cache(Generic[T]):
    """The values used last, as many as hold so many ids together."""

    def __init__(self, max_ids: int) -> None:
        self._max_ids = max_ids
        self._num_ids = 0
        self._entries: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], tuple[T, int]]) -> T:
        """The value of a key; where it is missing, `make` gives it with its number of ids."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
            return entry[0]
        entry = self._entries[key] = make()
        self._num_ids += entry[1]
        while self._num_ids > self._max_ids and len(self._entries) > 1:
            self._num_ids -= self._entries.popitem(last=False)[1][1]
        return entry[0]


class Layout:
    """Encodes documents under one grammar, with what the grammar allows at each id.

    ranges: all distinct tuples of allowed ranges that have come up so far.
    """

    def __init__(self, grammar: Grammar, text_tokenizer: TextTokenizer) -> None:
        self.grammar = grammar
        self.ranges: list[Ranges] = []
        self._numbers: dict[Ranges, int] = {}
        self._text_tokenizer = text_tokenizer
        self._texts: _Cache[np.ndarray] = _Cache(_MAX_CACHED_IDS)
        self._spans: _Cache[_Span] = _Cache(_MAX_CACHED_IDS)
        self._marker_runs: dict[tuple[str | None, str | None, str, str | None], MarkerRun] = {}
        self._closings: dict[tuple[str | None, str | None], MarkerRun] = {}
        self._after_text: dict[str | None, int] = {}  # by role: what may follow an id of a text
        state = grammar.start()
        self._begin = self._follow(state, grammar.begin)
        # The state after a segment of each kind and role that has come up; None: at the start.
        self._states: dict[tuple[str | None, str | None], State] = {
            (None, grammar.format.start): state
        }

    def encode(
        self,
        segments: Sequence[Stored],
        weight: float = 1.0,
        media_loss: float = 0.0,
        num_dropped: int = 0,
        without: str = "",
    ) -> TokenizedDocument:
        """The ids of a document, those that `Sequencer.encode` gives it.

        Args:
            segments: text and codes, in order.
            weight: factor on its loss weights.
            media_loss: weight of predicting codes whose segment has none.
            num_dropped, without: the first `num_dropped` segments are left out as the
                classifier-free guidance branch without "prompt" or "text" leaves them out (see
                `unified.engine.active`). Markers keep the weights that they have in the whole
                document.

        Raises:
            ValueError: the grammar or the vocabulary cannot hold a segment, which is named.
        """
        grammar = self.grammar
        losses, roles = [s.loss for s in segments], [s.role for s in segments]
        leading, closing = loss_weights(losses, roles, grammar)
        builder = TokenizedDocumentBuilder()
        builder.begin_part()
        builder.add_markers(self._begin, (0.0, 0.0), weight)
        if without and grammar.uncond_token is not None:
            builder.add(*self._alone(grammar.uncond_token, 1), 0.0)
        before: str | None = None
        role = grammar.format.start
        for index, segment in enumerate(segments):
            text = isinstance(segment, Text)
            if index < num_dropped and (
                grammar.pad_text_with is None if text else without != "text"
            ):
                continue
            kind = "text" if isinstance(segment, Text) else segment.kind
            following = segment.role or grammar.format.start
            both_ways = following in grammar.format.bidirectional
            try:
                if both_ways:
                    _check_no_loss(segment, following, grammar, media_loss)
                builder.begin_part(text)
                joins = before == kind == "text" and role == following
                if joins and index < num_dropped and grammar.separator is None:
                    # What stood between two texts is left out, and both are blanked out.
                    assert isinstance(segment, Text)
                    assert grammar.pad_text_with is not None
                    count = len(self._text_ids(segment.text))
                    builder.add(*self._alone(grammar.pad_text_with, count), 0.0)
                    continue
                markers, closes = self._markers_before(before, role, segment), False
                if both_ways:
                    builder.begin_span(markers.num_closing, whole=before is None)
                else:
                    closes = builder.end_span(markers.num_closing)
                if without and index <= num_dropped and grammar.pad_affixes:
                    assert grammar.pad_text_with is not None
                    blanks = self._alone(grammar.pad_text_with, len(markers.ids))
                    builder.add(*blanks, 0.0)
                else:
                    # What follows a span is the document's to say, not to be predicted.
                    builder.add_markers(markers, (0.0, 0.0) if closes else leading[index], weight)
                if not isinstance(segment, Text):
                    if kind in grammar.format.bidirectional:
                        builder.begin_span()
                    self._add_span(builder, segment, markers, weight, media_loss)
                    if not both_ways:
                        builder.end_span()
                elif index < num_dropped:
                    assert grammar.pad_text_with is not None
                    blanks = self._alone(grammar.pad_text_with, len(self._text_ids(segment.text)))
                    builder.add(*blanks, 0.0)
                else:
                    ids = self._text_ids(segment.text)
                    allowed = np.full(len(ids), self._after_text[following], np.int32)
                    allowed[0] = markers.after
                    modality = np.full(len(ids), MODALITIES["text"], np.uint8)
                    builder.add(ids, allowed, modality, segment.loss * weight)
            except ValueError as error:
                raise ValueError(f"segment {index} ({kind}): {error}") from None
            before, role = kind, following
        builder.begin_part()
        closing_markers = self._closing(before, role)
        builder.end_span(closing_markers.num_closing)
        builder.add_markers(closing_markers, closing, weight)
        return builder.build()

    def _text_ids(self, text: str) -> np.ndarray:
        def make() -> tuple[np.ndarray, int]:
            codes = np.array(self._text_tokenizer.encode(text), np.int64)
            if not len(codes):
                raise ValueError(f"the text tokenizer makes no ids of {text!r}")
            ids = self.grammar.vocabulary.to_ids("text", codes).astype(np.int32)
            # What an entry itself takes up counts as ids, too.
            return ids, len(ids) + len(text) // 4 + 32

        return self._texts.get(text, make)

    def _add_span(
        self,
        builder: TokenizedDocumentBuilder,
        segment: CodedMedia,
        markers: MarkerRun,
        weight: float,
        media_loss: float,
    ) -> None:
        program = self.grammar.span_grammars[segment.kind]
        program.check_codes(segment.codes)
        grid = program.grid_of(segment.codes)
        span = self._spans.get((segment.kind, grid), lambda: self._learn(program, grid))
        ids, allowed = span.ids.copy(), span.allowed.copy()
        for block, positions, codes in zip(program.blocks, span.positions, segment.codes):
            ids[positions] = self.grammar.vocabulary.to_ids(block.name, codes.reshape(-1))
        for last in program.last_turns.values():
            # The first turn cannot be the last: all its ids but one leave the other to exclude.
            first = [int(positions[0]) for positions in span.positions]
            if ids[first[:-1]].tolist() == list(last[:-1]):
                lo, hi = self.grammar.vocabulary.id_range(program.blocks[-1].name)
                sides = ((lo, last[-1]), (last[-1] + 1, hi))
                allowed[first[-1]] = self._number(tuple(s for s in sides if s[0] < s[1]))
        if program.embeds:
            self._add_embedded(builder, segment, span, ids, allowed)
            return
        allowed[0] = markers.after
        builder.codes.append((segment.kind, builder.length, span.positions))
        if segment.loss == 0 and media_loss:
            builder.own_weights += [
                (builder.length + positions, media_loss) for positions in span.positions
            ]
        builder.add(ids, allowed, span.modality, segment.loss * weight, span.depth)

    def _add_embedded(
        self,
        builder: TokenizedDocumentBuilder,
        segment: CodedMedia,
        span: _Span,
        ids: np.ndarray,
        allowed: np.ndarray,
    ) -> None:
        """A span of continuous positions, which are read and have no loss."""
        if segment.features is None:
            raise ValueError(
                f"the format reads {segment.kind} as vectors and the segment is stored as codes;"
                " tokenize its document again with the model"
            )
        allowed[0] = self._number(((int(ids[0]), int(ids[0]) + 1),))
        builder.embed(segment.kind, span.positions[0], segment.features)
        builder.add(ids, allowed, span.modality, 0.0, span.depth)

    # What is asked of the grammar once.

    def _number(self, ranges: Ranges) -> int:
        """The index of ranges in `self.ranges`."""
        number = self._numbers.get(ranges)
        if number is None:
            number = self._numbers[ranges] = len(self.ranges)
            self.ranges.append(ranges)
        return number

    def _alone(self, id: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`count` times an id that the decoder reads though the grammar does not allow it there."""
        number = self._number(((id, id + 1),))
        return (
            np.full(count, id, np.int32),
            np.full(count, number, np.int32),
            np.zeros(count, np.uint8),
        )

    def _follow(self, state: State, ids: Sequence[int], num_closing: int = 0) -> MarkerRun:
        """Advance a state by markers. num_closing: how many of them end the role before."""
        allowed = []
        for id in ids:
            allowed.append(self._number(state.allowed()))
            state.advance(id)
        after = self._number(state.allowed())
        return MarkerRun(np.array(ids, np.int32), np.array(allowed, np.int32), after, num_closing)

    def _markers_before(self, before: str | None, role: str | None, segment: Stored) -> MarkerRun:
        """The markers between a segment of a kind and role and the next one."""
        kind = "text" if isinstance(segment, Text) else segment.kind
        following = segment.role or self.grammar.format.start
        key = (before, role, kind, following)
        run = self._marker_runs.get(key)
        if run is not None:
            return run
        state = self._states[before, role].copy()
        prefix = self.grammar.segment_prefix(before, role, kind, segment.role)
        closing = len(self.grammar.role_suffix(role)) if following != role else 0
        run = self._follow(state, prefix, closing)
        if isinstance(segment, Text):
            ids = self._text_ids(segment.text)
        else:
            ids = self.grammar.segment_ids(segment)[0]
        for id in ids.tolist():
            state.advance(id)
        if kind != "text":
            state.end_given()
        else:
            self._after_text[following] = self._number(state.allowed())
        self._states.setdefault((kind, following), state)
        self._marker_runs[key] = run
        return run

    def _closing(self, before: str | None, role: str | None) -> MarkerRun:
        """The ids that end a document after a segment of this kind and role."""
        run = self._closings.get((before, role))
        if run is None:
            state = self._states[before, role].copy()
            closing = len(self.grammar.role_suffix(role))
            run = self._follow(state, self.grammar.eos(role), closing)
            self._closings[before, role] = run
        return run

    def _learn(self, program: SpanGrammar, grid: tuple[int, ...]) -> tuple[_Span, int]:
        ids, levels, depths = program.expand(grid)
        if any(ids[1] == last[0] for last in program.last_turns.values()):
            ids[levels == 0] += 1  # or the first turn would end the span
        state = SpanState(program, UNLIMITED, 1, {}, {}, None)
        if not program.has_begin:
            state.advance(program.begin)
        allowed = [0]
        for id in ids[1:].tolist():
            allowed.append(self._number(state.ranges))
            event = state.advance(id)
            assert event is not None
        numbers = [MODALITIES[name] for name in (*program.level_modalities, "marker")]
        modality = np.array(numbers, np.uint8)[levels]  # a marker's level is -1, the last
        positions = [np.flatnonzero(levels == k) for k in range(len(program.blocks))]
        depth = depths.astype(np.uint8) if program.num_together > 1 else None
        span = _Span(ids.astype(np.int32), np.array(allowed, np.int32), modality, positions, depth)
        # Beside the ids: what is allowed, the positions, and their modality.
        return span, 4 * len(ids) + 64


def _check_no_loss(segment: Stored, role: str | None, grammar: Grammar, media_loss: float) -> None:
    """Raises ValueError for what is to be learnt and is seen from before."""
    loss = segment.loss
    if not isinstance(segment, Text):
        embeds = grammar.span_grammars[segment.kind].embeds
        loss = 0.0 if embeds else loss or media_loss
    if loss:
        raise ValueError(
            f"it has loss {loss:g} in role {role}, which the format reads both ways: what is seen"
            " is not predicted; give it loss 0 (or its source no media_loss), or another role"
        )

"""Stored segments to ids, with what the grammar allows at each of them, fast enough to feed a run.

What the grammar allows at an id follows from few things: the segment before, its role, the
segment itself and the shape of its codes. `Layout` asks the grammar's state machine once for each
of these and keeps the answers; a document is then put together from arrays.

L ids of a document, K codebook levels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from unified.dataloading.laid import Laid, Parts, Passage
from unified.dataloading.stored_codes import Stored
from unified.formats.coded import CodedAudio, CodedImage
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

_KEPT_IDS = 2_000_000
"""Ids of texts, and as many of shapes of spans, that a layout remembers: about 20 MB."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False, slots=True)
class _Span:
    """What all spans of one kind and grid have in common: ids but for codes, and the rest but for
    allowed[0], which depends on what stands before. places: of the codes by level."""

    ids: np.ndarray
    allowed: np.ndarray
    modality: np.ndarray
    places: list[np.ndarray]


class _Kept(Generic[T]):
    """The answers used last, as many as hold so many ids together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._total = 0
        self._found: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], tuple[T, int]]) -> T:
        """The answer for a key; where it is not there it is made, with its number of ids."""
        found = self._found.get(key)
        if found is not None:
            self._found.move_to_end(key)
            return found[0]
        found = self._found[key] = make()
        self._total += found[1]
        while self._total > self._most and len(self._found) > 1:
            self._total -= self._found.popitem(last=False)[1][1]
        return found[0]


class Layout:
    """Lays documents out under one grammar. `ranges`: all that it has come across so far."""

    def __init__(self, grammar: Grammar, text_tokenizer: TextTokenizer) -> None:
        self.grammar = grammar
        self.ranges: list[Ranges] = []
        self._numbers: dict[Ranges, int] = {}
        self._text_tokenizer = text_tokenizer
        self._texts: _Kept[np.ndarray] = _Kept(_KEPT_IDS)
        self._spans: _Kept[_Span] = _Kept(_KEPT_IDS)
        self._passages: dict[tuple[str | None, str | None, str, str | None], Passage] = {}
        self._closings: dict[tuple[str | None, str | None], Passage] = {}
        self._inside: dict[str | None, int] = {}  # a text of each role: what may follow its ids
        state = grammar.start()
        self._begin = self._follow(state, grammar.begin)
        # The state after a segment of each kind and role that has come up; None: at the start.
        self._states: dict[tuple[str | None, str | None], State] = {
            (None, grammar.format.start): state
        }

    def lay(
        self,
        segments: Sequence[Stored],
        weight: float = 1.0,
        media_loss: float = 0.0,
        given: int = 0,
        without: str = "",
    ) -> Laid:
        """The ids of a document, those that `Sequencer.encode` gives it.

        Args:
            weight: factor on its losses.
            media_loss: weight of predicting codes that have none.
            given, without: the first `given` segments are left out as the branch of guidance that
                is without "prompt" or "text" leaves them out (see `unified.engine.active`).
                Markers keep the weights that they have in the whole document.

        Raises ValueError, naming the segment, for what the grammar or the vocabulary cannot hold.
        """
        grammar = self.grammar
        losses, roles = [s.loss for s in segments], [s.role for s in segments]
        leading, closing = loss_weights(losses, roles, grammar)
        parts = Parts()
        parts.unit()
        parts.markers(self._begin, (0.0, 0.0), weight)
        if without and grammar.uncond_token is not None:
            parts.add(*self._alone(grammar.uncond_token, 1), 0.0)
        before: str | None = None
        role = grammar.format.start
        for index, segment in enumerate(segments):
            text = isinstance(segment, Text)
            if index < given and (grammar.pad_text_with is None if text else without != "text"):
                continue
            kind = "text" if isinstance(segment, Text) else segment.kind
            following = segment.role or grammar.format.start
            try:
                parts.unit(text)
                passage = self._passage(before, role, segment)
                if without and index <= given and grammar.pad_affixes:
                    assert grammar.pad_text_with is not None
                    blanks = self._alone(grammar.pad_text_with, len(passage.ids))
                    parts.add(*blanks, 0.0)
                else:
                    parts.markers(passage, leading[index], weight)
                if not isinstance(segment, Text):
                    self._add_span(parts, segment, passage, weight, media_loss)
                elif index < given:
                    assert grammar.pad_text_with is not None
                    blanks = self._alone(grammar.pad_text_with, len(self._text_ids(segment.text)))
                    parts.add(*blanks, 0.0)
                else:
                    ids = self._text_ids(segment.text)
                    allowed = np.full(len(ids), self._inside[following], np.int32)
                    allowed[0] = passage.after
                    modality = np.full(len(ids), MODALITIES["text"], np.uint8)
                    parts.add(ids, allowed, modality, segment.loss * weight)
            except ValueError as error:
                raise ValueError(f"segment {index} ({kind}): {error}") from None
            before, role = kind, following
        parts.unit()
        parts.markers(self._closing(before, role), closing, weight)
        return parts.laid()

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
        parts: Parts,
        segment: CodedImage | CodedAudio,
        passage: Passage,
        weight: float,
        media_loss: float,
    ) -> None:
        grid = segment.codes.shape[1:]
        program = self.grammar.span_grammars[segment.kind]
        program.check_levels(len(segment.codes))
        span = self._spans.get((segment.kind, grid), lambda: self._learn(program, grid))
        ids, allowed = span.ids.copy(), span.allowed.copy()
        for block, places, codes in zip(program.blocks, span.places, segment.codes):
            ids[places] = self.grammar.vocabulary.to_ids(block.name, codes.reshape(-1))
        allowed[0] = passage.after
        parts.codes.append((segment.kind, parts.length, span.places))
        if segment.loss == 0 and media_loss:
            parts.own += [(parts.length + places, media_loss) for places in span.places]
        parts.add(ids, allowed, span.modality, segment.loss * weight)

    # What is asked of the grammar once.

    def _number(self, ranges: Ranges) -> int:
        found = self._numbers.get(ranges)
        if found is None:
            found = self._numbers[ranges] = len(self.ranges)
            self.ranges.append(ranges)
        return found

    def _alone(self, id: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids that the decoder is shown though the grammar has no place for them."""
        number = self._number(((id, id + 1),))
        return (
            np.full(count, id, np.int32),
            np.full(count, number, np.int32),
            np.zeros(count, np.uint8),
        )

    def _follow(self, state: State, ids: Sequence[int], ends: int = 0) -> Passage:
        """Feed markers to a state. ends: how many of them end the role before."""
        allowed = []
        for id in ids:
            allowed.append(self._number(state.allowed()))
            state.advance(id)
        after = self._number(state.allowed())
        return Passage(np.array(ids, np.int32), np.array(allowed, np.int32), after, ends)

    def _passage(self, before: str | None, role: str | None, segment: Stored) -> Passage:
        """What stands between a segment of a kind and role and the next one."""
        kind = "text" if isinstance(segment, Text) else segment.kind
        following = segment.role or self.grammar.format.start
        key = (before, role, kind, following)
        found = self._passages.get(key)
        if found is not None:
            return found
        state = self._states[before, role].copy()
        lead = self.grammar.segment_prefix(before, role, kind, segment.role)
        ends = len(self.grammar.role_suffix(role)) if following != role else 0
        found = self._follow(state, lead, ends)
        if isinstance(segment, Text):
            ids = self._text_ids(segment.text)
        else:
            ids = self.grammar.segment_ids(segment)[0]
        for id in ids.tolist():
            state.advance(id)
        if kind == "text":
            self._inside[following] = self._number(state.allowed())
        self._states.setdefault((kind, following), state)
        self._passages[key] = found
        return found

    def _closing(self, before: str | None, role: str | None) -> Passage:
        """The ids that end a document after a segment of this kind and role."""
        found = self._closings.get((before, role))
        if found is None:
            state = self._states[before, role].copy()
            ends = len(self.grammar.role_suffix(role))
            found = self._follow(state, self.grammar.eos(role), ends)
            self._closings[before, role] = found
        return found

    def _learn(self, program: SpanGrammar, grid: tuple[int, ...]) -> tuple[_Span, int]:
        ids, levels = program.expand(grid)
        state = SpanState(program, UNLIMITED, 1, {}, {}, None)
        allowed = [0]
        for id in ids[1:].tolist():
            allowed.append(self._number(state.ranges))
            taken = state.advance(id)
            assert taken is not None
        modality = np.where(levels >= 0, MODALITIES[program.modality], 0).astype(np.uint8)
        places = [np.flatnonzero(levels == k) for k in range(len(program.blocks))]
        span = _Span(ids.astype(np.int32), np.array(allowed, np.int32), modality, places)
        # Beside the ids: what is allowed, the places, and their modality.
        return span, 4 * len(ids) + 64

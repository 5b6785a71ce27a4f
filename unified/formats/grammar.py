"""One declared grammar: serializer, validator, constraint and streaming parser.

`Grammar.load("pocket", vocabulary)` compiles a format (YAML, `unified.formats.spec`) against a
vocabulary. The compiled object turns coded segments into ids (`serialize`), judges ids
(`validate`), reads them back (`parse`, `events`) and follows a sequence id by id (`start`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unified.formats.coded import (
    Coded,
    CodedAudio,
    CodedImage,
    CodedMedia,
    CodedText,
    End,
    Event,
    FrameDone,
    GrammarError,
    RoleChange,
    RowDone,
    SpanBegin,
    SpanEnd,
    StreamFrameDone,
    TextIds,
)
from unified.formats.compiled import CompiledFormat
from unified.formats.limits import Limits
from unified.formats.load import load_format
from unified.formats.modality_ids import MODALITIES
from unified.formats.parser import parse_format
from unified.formats.state import State
from unified.vocabulary.vocabulary import Vocabulary

__all__ = [
    "MODALITIES",
    "Coded",
    "CodedAudio",
    "CodedImage",
    "CodedMedia",
    "CodedText",
    "End",
    "Event",
    "FrameDone",
    "Grammar",
    "GrammarError",
    "Limits",
    "RoleChange",
    "RowDone",
    "Serialized",
    "SpanBegin",
    "SpanEnd",
    "State",
    "StreamFrameDone",
    "TextIds",
]


@dataclass(frozen=True, eq=False)
class Serialized:
    """A document as ids, with what each of them is.

    Attributes:
        ids: int64 (L,).
        segment: int32 (L,), the index of the segment an id belongs to, -1 for the begin and the end
            of the document.
        modality: uint8 (L,), see `MODALITIES`.
        is_prefix: bool (L,), whether an id stands before its segment, as those of a new role do.
        is_suffix: bool (L,), whether it ends the role before it.
        depth: uint8 (L,), the index of an id within its position of the decoder: 0 where a position
            begins, and for every id of a format without codes that are together.
    """

    ids: np.ndarray
    segment: np.ndarray
    modality: np.ndarray
    is_prefix: np.ndarray
    is_suffix: np.ndarray
    depth: np.ndarray

    @property
    def num_positions(self) -> int:
        """Positions of the decoder that the ids take."""
        return int((self.depth == 0).sum())


class SegmentIds(NamedTuple):
    """A segment as ids: int64 (L,), with modality and depth uint8 (L,) as in `Serialized`."""

    ids: np.ndarray
    modality: np.ndarray
    depth: np.ndarray

    @property
    def num_positions(self) -> int:
        """See `Serialized.num_positions`."""
        return int((self.depth == 0).sum())


class Grammar(CompiledFormat):
    """A format compiled against a vocabulary. Immutable; shared by any number of states."""

    @classmethod
    def load(cls, name_or_path: str | Path, vocabulary: Vocabulary) -> Grammar:
        """A shipped format by name ("pocket"), or a YAML file by path."""
        return cls(load_format(name_or_path), vocabulary)

    @classmethod
    def from_text(cls, text: str, vocabulary: Vocabulary) -> Grammar:
        """A format from its YAML text (`grammar.source`), as a checkpoint stores it."""
        return cls(parse_format(text), vocabulary)

    @property
    def source(self) -> str:
        """The YAML text of the format."""
        return self.format.source

    # Documents to ids.

    def serialize(self, segments: Sequence[Coded], end: bool = True) -> Serialized:
        """Coded segments -> ids. With `end=False` what ends the document is left out: a prefix.

        Raises ValueError, naming the segment, for codes out of range, a wrong number of levels,
        sizes the format cannot say, an unknown role, or no role after a role.
        """
        parts = _Parts()
        parts.add(self.begin, -1)
        role = self.format.start
        before: str | None = None
        for index, segment in enumerate(segments):
            following = segment.role or self.format.start
            try:
                if before is not None:
                    self._check_may_follow(before)
                prefix = self.segment_prefix(before, role, segment.kind, segment.role)
                ids = self.segment_ids(segment)
            except ValueError as error:
                raise ValueError(f"segment {index} ({segment.kind}): {error}") from None
            n_suffix = len(self.role_suffix(role)) if following != role else 0
            parts.add(prefix, index, is_prefix=True, n_suffix=n_suffix)
            parts.add(ids.ids, index, ids.modality, ids.depth)
            role, before = following, segment.kind
        if end:
            parts.add(self.eos(role), -1, n_suffix=len(self.role_suffix(role)))
        return parts.serialized()

    def segment_ids(self, segment: Coded) -> SegmentIds:
        """One segment, markers before it left out."""
        if isinstance(segment, CodedText):
            text = self.vocabulary.to_ids("text", np.array(segment.ids))
            modality = np.full(len(text), MODALITIES["text"], dtype=np.uint8)
            return SegmentIds(text, modality, np.zeros(len(text), np.uint8))
        if not isinstance(segment, CodedMedia):
            raise ValueError(f"expected a coded segment, found {type(segment).__name__}")
        span = self.span_grammars.get(segment.kind)
        if span is None:
            raise ValueError(
                f"format '{self.format.name}' has no {segment.kind} spans; it has"
                f" {', '.join(self.span_grammars) or 'text alone'}"
            )
        ids, levels, depths = span.serialize(segment.codes)
        numbers = [MODALITIES[name] for name in (*span.level_modalities, "marker")]
        modality = np.array(numbers, dtype=np.uint8)[levels]  # a marker's level is -1, the last
        return SegmentIds(ids, modality, depths.astype(np.uint8))

    def _check_may_follow(self, before: str) -> None:
        """Raises ValueError where a segment of kind `before` ends the document."""
        if before in self.span_grammars and self.span_grammars[before].terminal:
            raise ValueError(
                f"in format '{self.format.name}' a document ends after its first {before} span;"
                " leave this segment out"
            )

    # Ids to documents.

    def modality(self, id: int) -> str:
        """What an id is of: a modality, "text", or "marker" (sizes are markers, too)."""
        name = self.vocabulary.block_of(id).name.rpartition(".")[0]
        if name in self.span_grammars:
            return self.span_grammars[name].modality
        return "text" if self.is_text(id) else "marker"

    def start(self, limits: Limits | None = None) -> State:
        """The state before the first id. ValueError if the limits cannot be met."""
        return State(self, limits)

    def events(self, ids: Iterable[int]) -> Iterator[Event]:
        """The events of a complete sequence. GrammarError at its first offence."""
        state = self.start()
        for id in _plain(ids):
            yield from state.advance(id)
        if not state.finished:
            raise state.unfinished()

    def validate(self, ids: Iterable[int]) -> None:
        """Raise GrammarError (position, reason) unless `ids` are one complete document."""
        for _ in self.events(ids):
            pass

    def parse(self, ids: Iterable[int]) -> tuple[Coded, ...]:
        """The coded segments of a complete sequence; loss weights, which ids lack, are 1."""
        return tuple(e.segment for e in self.events(ids) if isinstance(e, SpanEnd))


class _Parts:
    """A `Serialized` being put together from runs of ids."""

    def __init__(self) -> None:
        self._ids: list[np.ndarray] = []
        self._segment: list[np.ndarray] = []
        self._modality: list[np.ndarray] = []
        self._is_prefix: list[np.ndarray] = []
        self._is_suffix: list[np.ndarray] = []
        self._depth: list[np.ndarray] = []

    def add(
        self,
        ids: Sequence[int] | np.ndarray,
        segment: int,
        modality: np.ndarray | None = None,
        depth: np.ndarray | None = None,
        is_prefix: bool = False,
        n_suffix: int = 0,
    ) -> None:
        """modality, depth: None for markers. n_suffix: how many of the ids end the role before."""
        count = len(ids)
        self._ids.append(np.array(ids, dtype=np.int64))
        self._segment.append(np.full(count, segment, np.int32))
        self._modality.append(np.zeros(count, np.uint8) if modality is None else modality)
        self._is_prefix.append(np.full(count, is_prefix))
        self._is_suffix.append(np.arange(count) < n_suffix)
        self._depth.append(np.zeros(count, np.uint8) if depth is None else depth)

    def serialized(self) -> Serialized:
        return Serialized(
            np.concatenate(self._ids),
            np.concatenate(self._segment),
            np.concatenate(self._modality),
            np.concatenate(self._is_prefix),
            np.concatenate(self._is_suffix),
            np.concatenate(self._depth),
        )


def _plain(ids: Iterable[int] | np.ndarray) -> list[int]:
    """Ids as Python integers: comparing them is several times faster than numpy's own."""
    if not hasattr(ids, "tolist"):
        return list(ids)
    if getattr(ids, "ndim", 1) != 1:
        shape = tuple(getattr(ids, "shape", ()))
        raise ValueError(f"expected one sequence of ids, found shape {shape}")
    plain: list[int] = ids.tolist()
    return plain

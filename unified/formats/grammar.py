"""One declared grammar: serializer, validator, constraint and streaming parser.

`Grammar.load("pocket", vocabulary)` compiles a format (YAML, `unified.formats.spec`) against a
vocabulary. The compiled object turns coded segments into ids (`serialize`), judges ids
(`validate`), reads them back (`parse`, `events`) and follows a sequence id by id (`start`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from unified.formats.coded import (
    Coded,
    CodedAudio,
    CodedImage,
    CodedText,
    End,
    Event,
    FrameDone,
    GrammarError,
    RoleChange,
    RowDone,
    SpanBegin,
    SpanEnd,
    TextIds,
)
from unified.formats.limits import Limits, Rules, work_out
from unified.formats.load import load_format
from unified.formats.parser import parse_format
from unified.formats.span_grammar import SpanGrammar
from unified.formats.spec import Affix, Format, Marker
from unified.formats.state import State
from unified.vocabulary.block import Ranges
from unified.vocabulary.vocabulary import Vocabulary

__all__ = [
    "MODALITIES",
    "Coded",
    "CodedAudio",
    "CodedImage",
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
    "TextIds",
]

# The number of each modality in `Serialized.modality`. Markers and sizes are neither.
MODALITIES = {"marker": 0, "text": 1, "image": 2, "audio": 3}


@dataclass(frozen=True, eq=False)
class Serialized:
    """ids int64 (L,); segment int32 (L,), the index of the segment an id belongs to (-1 for the
    begin and end of the document); modality uint8 (L,), see `MODALITIES`; is_prefix
    bool (L,), whether an id stands before its segment, as those of a new role do; is_suffix bool
    (L,), whether it ends the role before it."""

    ids: np.ndarray
    segment: np.ndarray
    modality: np.ndarray
    is_prefix: np.ndarray
    is_suffix: np.ndarray


class Grammar:
    """A format compiled against a vocabulary. Immutable; shared by any number of states."""

    def __init__(self, format: Format, vocabulary: Vocabulary):
        self.format = format
        self.vocabulary = vocabulary
        self.is_text = vocabulary.is_text
        self.begin = self._ids_of(format.begin)
        self.end = self._ids_of(format.end)
        self.padding = vocabulary.marker(format.padding)
        self.pad_text_with = self._marker(format.pad_text_with)
        self.pad_affixes = format.pad_affixes
        self.uncond_token = self._marker(format.uncond_token)
        self.separator = self._marker(format.text_separator)
        self.roles = {
            name: (self._ids_of(role.begin), self._ids_of(role.end))
            for name, role in format.roles.items()
        }
        self.span_grammars = {
            kind: SpanGrammar(kind, span, vocabulary) for kind, span in format.spans.items()
        }
        self.document_markers: dict[int, tuple[str, str]] = {
            p.begin: ("span", kind) for kind, p in self.span_grammars.items()
        }
        if self.separator is not None:
            self.document_markers[self.separator] = ("separator", "")
        # Where a document or a role may go from each role, and by which ids.
        start = () if format.start is not None else (None,)
        self.paths = {role: self._paths_from(role) for role in (*start, *self.roles)}
        self.longest_choice = 2  # a text separator needs itself and one text id
        self._rules = lru_cache(maxsize=256)(work_out)
        self._range_cache: dict[tuple[bool, tuple[int, ...]], Ranges] = {}

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

    def _marker(self, name: str | None) -> int | None:
        return None if name is None else self.vocabulary.marker(name)

    def _ids_of(self, affix: Affix) -> tuple[int, ...]:
        found: list[int] = []
        for item in affix:
            if isinstance(item, Marker):
                found.append(self.vocabulary.marker(item.name))
            else:
                found += self.vocabulary.literal(item.text)
        return tuple(found)

    def _paths_from(self, role: str | None) -> dict[tuple[int, ...], str | None]:
        """Ids to every role that can follow `role`, and to the end of the document (None).

        What ends the document may be the begin of another path, or one: it is complete there, and
        another role may follow.
        """
        closing = self.eos(role)
        pairs = [(self.transition(role, other), other) for other in self.roles if other != role]
        pairs = [(path, following) for path, following in pairs if path]
        found: dict[tuple[int, ...], str | None] = {closing: None, **dict(pairs)}
        if len({path for path, _ in pairs}) < len(pairs) or any(
            other[: len(one)] == one
            for one, _ in pairs
            for other in (closing, *(path for path, _ in pairs))
            if other != one
        ):
            raise ValueError(
                f"format {self.format.name}: what follows role {role!r} cannot be told apart"
            )
        return found

    def role_suffix(self, role: str | None) -> tuple[int, ...]:
        """The ids that end a role, whatever follows."""
        return self.roles[role][1] if role is not None else ()

    def eos(self, role: str | None) -> tuple[int, ...]:
        """The ids that end a document whose last segment has this role."""
        return self.role_suffix(role) + self.end

    def transition(self, before: str | None, role: str) -> tuple[int, ...]:
        """The ids from a segment of one role to one of another."""
        return self.role_suffix(before) + self.roles[role][0]

    # Documents to ids.

    def serialize(self, segments: Sequence[Coded], end: bool = True) -> Serialized:
        """Coded segments -> ids. With `end=False` the end marker is left out: a prefix.

        Raises ValueError, naming the segment, for codes out of range, a wrong number of levels,
        sizes the format cannot say, an unknown role, or no role after a role.
        """
        ids = [np.array(self.begin, dtype=np.int64)]
        owner, modality = [np.full(len(self.begin), -1)], [np.zeros(len(self.begin))]
        leads = [np.zeros(len(self.begin))]
        ends: list[np.ndarray] = [np.zeros(len(self.begin))]
        role = self.format.start
        before: str | None = None
        for index, segment in enumerate(segments):
            try:
                if before is not None and self._closes(before):
                    raise ValueError(f"the document ends after its first {before} span")
                lead = self.segment_prefix(before, role, segment.kind, segment.role)
                body, body_modality = self.segment_ids(segment)
            except ValueError as error:
                raise ValueError(f"segment {index} ({segment.kind}): {error}") from None
            ids += [np.array(lead, dtype=np.int64), body]
            owner.append(np.full(len(lead) + len(body), index))
            modality += [np.zeros(len(lead)), body_modality]
            leads += [np.ones(len(lead)), np.zeros(len(body))]
            ended = self.role_suffix(role) if (segment.role or self.format.start) != role else ()
            ends.append(np.arange(len(lead) + len(body)) < len(ended))
            role, before = segment.role or self.format.start, segment.kind
        if end:
            closing = self.eos(role)
            ids.append(np.array(closing))
            owner.append(np.full(len(closing), -1))
            modality.append(np.zeros(len(closing)))
            leads.append(np.zeros(len(closing)))
            ends.append(np.arange(len(closing)) < len(self.role_suffix(role)))
        return Serialized(
            np.concatenate(ids).astype(np.int64),
            np.concatenate(owner).astype(np.int32),
            np.concatenate(modality).astype(np.uint8),
            np.concatenate(leads).astype(bool),
            np.concatenate(ends).astype(bool),
        )

    def segment_ids(self, segment: Coded) -> tuple[np.ndarray, np.ndarray]:
        """(ids int64 (L,), modality uint8 (L,)) of one segment, markers before it left out."""
        if isinstance(segment, CodedText):
            text = self.vocabulary.to_ids("text", np.array(segment.ids))
            return text, np.full(len(text), MODALITIES["text"], dtype=np.uint8)
        if not isinstance(segment, CodedImage | CodedAudio):
            raise ValueError(f"expected a coded segment, found {type(segment).__name__}")
        program = self.span_grammars.get(segment.kind)
        if program is None:
            raise ValueError(f"the format {self.format.name} has no {segment.kind} spans")
        ids, is_code = program.serialize(segment.codes)
        return ids, np.where(is_code, MODALITIES[program.modality], 0).astype(np.uint8)

    def _closes(self, kind: str) -> bool:
        return kind in self.span_grammars and self.span_grammars[kind].terminal

    def segment_prefix(
        self, before: str | None, role_before: str | None, kind: str, role: str | None
    ) -> tuple[int, ...]:
        """The markers before a segment of this kind and role.

        before: kind of the segment before it, None at the start of a document.
        """
        role, role_before = role or self.format.start, role_before or self.format.start
        if role != role_before:
            if role not in self.roles:
                raise ValueError(
                    f"role {role!r} cannot follow role {role_before!r}; "
                    f"the format has roles {', '.join(self.roles)}"
                )
            found = self.transition(role_before, role)
            if not found:
                raise ValueError(f"role {role!r} cannot follow role {role_before!r}")
            return found
        if not before == kind == "text":
            return ()
        if self.separator is None:
            raise ValueError(
                f"format {self.format.name} has nothing to stand between two texts of a role;"
                " join them"
            )
        return (self.separator,)

    def text_stop(self, role: str | None, following: tuple[str, str | None] | None) -> int:
        """The id that ends a text of this role when `following`, (kind, role), comes next.

        None: the document ends. It is the `stop` of `Limits` for a text slot.
        """
        if following is None:
            return self.eos(role or self.format.start)[0]
        kind, next_role = following
        lead = self.segment_prefix("text", role, kind, next_role)
        return lead[0] if lead else self.span_grammars[kind].begin

    # Ids to documents.

    def modality(self, id: int) -> str:
        """What an id is of: "text", "image", "audio" or "marker" (sizes are markers, too)."""
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

    # For the states.

    def rules(self, limits: Limits) -> Rules:
        """What limits mean for this grammar (cached)."""
        return self._rules(limits, self)

    def ranges(self, text: bool, markers: tuple[int, ...]) -> Ranges:
        """Sorted disjoint ranges that hold the markers, and the text ids if `text`."""
        key = (text, markers)
        found = self._range_cache.get(key)
        if found is None:
            merged: list[tuple[int, int]] = []
            singles = [(id, id + 1) for id in markers]
            for start, stop in sorted([*singles, *(self.vocabulary.text_ranges if text else ())]):
                if merged and merged[-1][1] == start:
                    merged[-1] = (merged[-1][0], stop)
                else:
                    merged.append((start, stop))
            found = self._range_cache[key] = tuple(merged)
        return found

    def describe(self, ranges: Ranges) -> str:
        """Allowed ranges in words."""
        words: list[str] = []
        for start, stop in ranges:
            at = start
            while at < stop:
                _, upto, block = self.vocabulary.segment_of(at)
                upto = min(stop, upto)
                if block.symbols is not None:
                    words += [self.vocabulary.symbol(id) for id in range(at, upto)]
                elif upto - at == 1:
                    words.append(self.vocabulary.describe(at))
                else:
                    words.append(f"{block.name} (ids {at}..{upto - 1})")
                at = upto
        return " or ".join(words)


def _plain(ids: Any) -> list[int]:
    """Ids as Python integers: comparing them is several times faster than numpy's own."""
    if hasattr(ids, "tolist"):
        if getattr(ids, "ndim", 1) != 1:
            raise ValueError(f"expected one sequence of ids, found shape {tuple(ids.shape)}")
        return ids.tolist()
    return list(ids)

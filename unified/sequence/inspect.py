"""Looking into a document or a sequence: its spans, where they lie, what they hold."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified.formats.coded import Coded, CodedText, GrammarError, RoleChange, SpanEnd
from unified.sequence.modality import modality_of, registered_modalities
from unified_base.arrays import read_npy
from unified_base.structured import read_json
from unified_base.text import safe
from unified_data.document import Document, Slot
from unified_data.segments import media_classes

if TYPE_CHECKING:
    from rich.console import Console

    from unified.sequence.sequencer import Sequencer

__all__ = ["Inspection", "Span", "inspect_document", "inspect_ids", "print_inspection", "read_file"]

_COLOURS = {
    "text": "green",
    "marker": "bright_black",
    "slot": "yellow",
    "offence": "bold red",
}
_KIND_COLOUR = "blue"  # of a kind of span that is no modality, such as music
_SHOWN_IDS = 12


@dataclass(frozen=True)
class Span:
    """ids at [start, start + len(ids)) of the sequence. kind: text, a kind of span, marker, slot
    (which has no ids yet), or offence: what lies outside the grammar. content: it in words.
    depths: of each id, its index within its position of the decoder."""

    kind: str
    start: int
    ids: tuple[int, ...]
    role: str | None
    content: str
    depths: tuple[int, ...] = ()

    @property
    def stop(self) -> int:
        return self.start + len(self.ids)

    @property
    def num_positions(self) -> int:
        """Positions of the decoder that begin in it."""
        return self.depths.count(0)


@dataclass(frozen=True)
class Inspection:
    """The spans of a sequence. error: why it is no complete document; None where it is one, or
    where slots keep it from being one yet."""

    spans: tuple[Span, ...]
    error: str | None

    @property
    def length(self) -> int:
        return sum(len(span.ids) for span in self.spans)

    @property
    def num_positions(self) -> int:
        """Positions of the decoder that the ids take."""
        return sum(span.num_positions for span in self.spans)

    def to_json(self) -> dict[str, Any]:
        spans = [
            {
                "kind": span.kind,
                "start": span.start,
                "stop": span.stop,
                "role": span.role,
                "content": span.content,
                "ids": list(span.ids),
                "positions": span.num_positions,
            }
            for span in self.spans
        ]
        valid = self.error is None
        return {
            "length": self.length, "positions": self.num_positions, "valid": valid,
            "error": self.error, "spans": spans,
        }  # fmt: skip


def read_file(path: Path) -> Document | list[int]:
    """A document (.json with its media beside it) or a sequence (.json or .npy list of ids).

    Raises ValueError for anything else.
    """
    if path.suffix.lower() == ".npy":
        array = read_npy(path)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ValueError(
                f"{path} holds {array.dtype} of shape {array.shape}, expected a row of integer ids"
            )
        return [int(id) for id in array]
    try:
        obj = read_json(path, kind=None)
    except ValueError as error:
        raise ValueError(f"{path} is neither JSON nor .npy: {error}") from None
    if isinstance(obj, list):
        if not all(type(id) is int and abs(id) < 2**63 for id in obj):
            raise ValueError(f"{path} is a list, but not of integer ids")
        return obj
    try:
        return Document.from_json(obj, path.parent)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def inspect_document(document: Document, sequencer: Sequencer) -> Inspection:
    """The spans of a document's sequence. From its first slot on positions are not known yet."""
    if not document.has_slots:
        return inspect_ids(sequencer.encode(document).ids.tolist(), sequencer)
    first = document.slots[0]
    slot = document.segments[first]
    assert isinstance(slot, Slot)
    prefix = sequencer.encode_prefix(document.segments[:first], slot).ids.tolist()
    spans = list(inspect_ids(prefix, sequencer, complete=False).spans)
    for segment in document.segments[first:]:
        if isinstance(segment, Slot):
            spans.append(Span("slot", len(prefix), (), segment.role, _slot(segment)))
        else:
            coded = sequencer.code_segment(segment)
            content = f"{_content(coded, sequencer)}, placed once the slot is filled"
            spans.append(Span(coded.kind, len(prefix), (), segment.role, content))
    return Inspection(tuple(spans), None)


def _slot(slot: Slot) -> str:
    wishes = [f"{slot.width}x{slot.height} pixels"] if slot.height else []
    for cls in media_classes().values():
        number = None if cls.count_field is None else getattr(slot, cls.count_field)
        if number is not None:
            wishes.append(f"{number} {cls.noun}{'' if number == 1 else 's'}")
    return f"to be filled: {slot.modality}" + (f" ({', '.join(wishes)})" if wishes else "")


def inspect_ids(ids: Iterable[int], sequencer: Sequencer, complete: bool = True) -> Inspection:
    """The spans of a sequence, up to its first offence against the grammar.

    complete: whether a sequence that stops early is an offence as well.
    """
    all_ids = list(ids)
    depths: list[int] = []
    state = sequencer.grammar.start()
    spans: list[Span] = []
    begun, open_kind, role = 0, None, None
    error: str | None = None

    def close(stop: int, kind: str, content: str) -> None:
        nonlocal begun
        if stop > begun:
            ids = tuple(all_ids[begun:stop])
            # What an offence leaves unread is counted as an id a position.
            within = (*depths[begun:stop], *[0] * (stop - max(begun, len(depths))))
            spans.append(Span(kind, begun, ids, role, content, within))
        begun = stop

    for position, id in enumerate(all_ids):
        depth = state.depth
        try:
            events = state.advance(id)
        except GrammarError as offence:
            error = str(offence)
            close(position, open_kind or "marker", "unfinished" if open_kind else "")
            close(len(all_ids), "offence", f"from position {position} on outside the grammar")
            break
        depths.append(depth)
        ends = [event for event in events if isinstance(event, SpanEnd)]
        for event in ends:
            # A text ends with the marker after it, a picture or sound with its own last marker.
            stop = position if event.kind == "text" else position + 1
            close(stop, event.kind, _content(event.segment, sequencer))
        open_kind = state.kind
        if open_kind is None and begun == position:
            role = next((e.role for e in events if isinstance(e, RoleChange)), role)
            close(position + 1, "marker", _marker(id, sequencer))
    else:
        if open_kind is not None:
            text = _partial_text(all_ids[begun:], sequencer) if open_kind == "text" else None
            close(len(all_ids), open_kind, text or "unfinished")
        if complete and not state.finished:
            error = str(state.unfinished())
    return Inspection(tuple(spans), error)


def _marker(id: int, sequencer: Sequencer) -> str:
    block = sequencer.vocabulary.block_of(id)
    return sequencer.vocabulary.symbol(id) if block.symbols else sequencer.vocabulary.describe(id)


def _partial_text(ids: Sequence[int], sequencer: Sequencer) -> str:
    return json.dumps(sequencer.text_tokenizer.decode(ids), ensure_ascii=False)


def _content(segment: Coded, sequencer: Sequencer) -> str:
    """A coded segment in words: its text, or the extent of its codes."""
    if isinstance(segment, CodedText):
        return _partial_text(segment.ids, sequencer)
    levels, *grid = segment.codes.shape
    # A kind such as music has codes of its own, though its modality has a tokenizer.
    own = segment.kind == segment.modality
    tokenizer = sequencer.tokenizers.get(segment.modality) if own else None
    extent = modality_of(segment.modality).describe(tuple(grid), tokenizer)
    content = f"{extent}, {levels} level{'s' * (levels > 1)}"
    dialogue = sequencer.dialogue
    if dialogue is None or segment.kind != "audio":
        return content
    words = dialogue.span.split_streams(segment.codes)[dialogue.text][0].tolist()
    return f"{content}: {_partial_text(dialogue.words_in(words), sequencer)}"


def _colour(kind: str) -> str:
    modality = registered_modalities().get(kind)
    return _COLOURS.get(kind, _KIND_COLOUR) if modality is None else modality.colour


def print_inspection(inspection: Inspection, console: Console, every_id: bool = False) -> None:
    """A table of the spans, coloured by modality. every_id: all ids, not the first few of each."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, justify in (("ids at", "right"), ("span", "left"), ("role", "left")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("content", overflow="fold", ratio=3)
    table.add_column("ids", overflow="fold", ratio=2)
    for span in inspection.spans:
        where = f"{span.start}" if len(span.ids) < 2 else f"{span.start}-{span.stop - 1}"
        ids = _in_positions(span, len(span.ids) if every_id else _SHOWN_IDS)
        if not every_id and len(span.ids) > _SHOWN_IDS:
            ids += f" ... {len(span.ids)} ids"
            if span.num_positions < len(span.ids):
                ids += f" in {span.num_positions} positions"
        cells = (where if span.ids else "", span.kind, span.role or "", span.content, ids)
        table.add_row(*(Text(safe(cell)) for cell in cells), style=_colour(span.kind))
    console.print(table)
    counts = Counter[str]()
    for span in inspection.spans:
        counts[span.kind] += len(span.ids)
    parts = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number)
    ids = f"{inspection.length} ids"
    if inspection.num_positions < inspection.length:
        ids += f" of {inspection.num_positions} positions"
    console.print(Text(f"{ids} in {len(inspection.spans)} spans: {parts}"))


def _in_positions(span: Span, most: int) -> str:
    """The first ids of a span, those of a position joined by "+"."""
    words = ""
    for id, depth in zip(span.ids[:most], span.depths):
        words += f"+{id}" if depth and words else f" {id}"
    return words.lstrip()

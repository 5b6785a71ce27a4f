"""Ids of a document by themselves, and those that the grammar allows at a place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from unified.engine.documents import coded_slot
from unified.engine.request import Sampling, slot_limits
from unified.sequence.sequencer import Sequencer
from unified_data.document import Document, Slot

__all__ = ["allowed_next", "ids_of"]

_MOST_IDS = 65_536
_EXAMPLES = 8


def ids_of(ids: Sequence[int], sequencer: Sequencer) -> list[dict[str, Any]]:
    """{"id", "position", "block", "modality", "text" or "code"} of each id.

    text: of an id of text what it stands for, of a marker its name. position: in the sequence.

    Raises ValueError for more ids than are looked at.
    """
    if len(ids) > _MOST_IDS:
        raise ValueError(f"the document has {len(ids):,} ids, expected at most {_MOST_IDS:,} here")
    return [
        {"position": position, "id": id, **_about(id, sequencer)} for position, id in enumerate(ids)
    ]


def allowed_next(
    document: Document, sequencer: Sequencer, sampling: Sampling, position: int | None
) -> dict[str, Any]:
    """The ids that may stand at a position of a document, by block.

    Args:
        document: perhaps with slots; its first slot's wishes hold where that slot begins.
        sequencer: of the model.
        sampling: its budgets.
        position: ids before; None: all of the document, up to its first slot.

    Raises ValueError for a position that the document does not have.
    """
    slot = document.segments[document.slots[0]] if document.has_slots else None
    assert slot is None or isinstance(slot, Slot)
    if slot is None:
        ids = sequencer.encode(document).ids.tolist()
    else:
        before = document.segments[: document.slots[0]]
        ids = sequencer.encode_prefix(before, slot).ids.tolist()
    at = len(ids) if position is None else position
    if at > len(ids):
        raise ValueError(f"position is {at}, but {len(ids)} ids are known of the document")
    state = sequencer.grammar.start()
    for id in ids[:at]:
        state.advance(id)
    if slot is not None and at == len(ids):
        coded = coded_slot(slot, sequencer, sampling.max_audio_frames)
        state.restrict(slot_limits(coded, sampling), state.kind == "text")
    counts: dict[str, int] = {}
    examples: dict[str, list[dict[str, Any]]] = {}
    for name, start, stop in _by_block(state.allowed(), sequencer):
        counts[name] = counts.get(name, 0) + stop - start
        some = examples.setdefault(name, [])
        for id in range(start, min(stop, start + _EXAMPLES - len(some))):
            some.append({"id": id, **_about(id, sequencer)})
    return {
        "position": at,
        "expects": state.mode,
        "finished": state.finished,
        "next": ids[at] if at < len(ids) else None,
        "blocks": [
            {"name": name, "ids": count, "examples": examples[name]}
            for name, count in counts.items()
        ],
    }


def _by_block(
    ranges: Sequence[tuple[int, int]], sequencer: Sequencer
) -> Iterator[tuple[str, int, int]]:
    """(block, start, stop) of ranges of ids, each within one block."""
    for start, stop in ranges:
        at = start
        while at < stop:
            _, end, block = sequencer.vocabulary.segment_of(at)
            yield block.name, at, min(end, stop)
            at = min(end, stop)


def _about(id: int, sequencer: Sequencer) -> dict[str, Any]:
    vocabulary = sequencer.vocabulary
    block = vocabulary.block_of(id)
    about: dict[str, Any] = {
        "block": block.name, "modality": sequencer.grammar.modality(id),
    }  # fmt: skip
    if block.symbols is not None:
        return {**about, "text": vocabulary.symbol(id)}
    if vocabulary.is_text(id):
        return {**about, "text": sequencer.text_tokenizer.decode([id])}
    return {**about, "code": int(vocabulary.from_ids(block.name, id))}

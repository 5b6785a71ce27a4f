"""From documents with slots to requests, and from sampling steps to events with media."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from unified.coded import Coded, FrameDone, RowDone, SpanBegin, SpanEnd, TextIds
from unified.events import (
    AudioBegun,
    AudioDone,
    AudioFrame,
    Done,
    Dropped,
    Event,
    ImageBegun,
    ImageDone,
    ImageRow,
    TextPiece,
)
from unified.sampling import CodedSlot, Finished, Request, Sampler, Sampling, Step
from unified.sequence import Sequencer
from unified_data.document import Audio, Document, Image, Segment, Slot, Text


def stream(
    sampler: Sampler,
    sequencer: Sequencer,
    documents: Sequence[Document],
    seeds: Sequence[int],
    sampling: Sampling,
) -> Iterator[Event]:
    """Fill the slots of every document; one `Done` for each, in the order they end.

    Raises ValueError, before the first event, for a document without slots, media the model cannot
    read, or a budget that is too small.
    """
    if len(seeds) != len(documents):
        raise ValueError(f"{len(documents)} documents but {len(seeds)} seeds; give one for each")
    # Many samples of one document: its pictures and sounds are tokenized once.
    coded: dict[int, tuple[Coded | CodedSlot, ...]] = {}
    for document in documents:
        if id(document) not in coded:
            coded[id(document)] = tuple(
                coded_slot(segment, sequencer) if isinstance(segment, Slot) else segment
                for segment in sequencer.code(document)
            )
    rows = [Request(coded[id(document)], seed) for document, seed in zip(documents, seeds)]
    translators = [_Translator(row, document, sequencer) for row, document in enumerate(documents)]
    for step in sampler.run(rows, sampling):
        yield from translators[step.row].translate(step)


def coded_slot(slot: Slot, sequencer: Sequencer) -> CodedSlot:
    """A slot in codes: pixels become a grid."""
    grid = None
    if slot.height is not None and slot.width is not None:
        grid = sequencer.image_grid(slot.height, slot.width)
    return CodedSlot(slot.modality, grid, slot.num_images, slot.num_audios, slot.role)


class _Translator:
    """Turns the steps of one row into events, and gathers its document."""

    def __init__(self, row: int, document: Document, sequencer: Sequencer) -> None:
        self.row = row
        self.document = document
        self.sequencer = sequencer
        self.pieces = sequencer.text_tokenizer.stream()
        self.filled: dict[int, list[Segment]] = {index: [] for index in document.slots}
        self.decode_seconds = 0.0

    def translate(self, step: Step | Finished) -> Iterator[Event]:
        if isinstance(step, Finished):
            yield Done(
                self.row,
                self._whole(),
                step.ids,
                step.usage,
                {**step.timings, "decode": self.decode_seconds},
            )
            return
        if not step.sampled:
            return
        event, row = step.event, self.row
        if isinstance(event, TextIds):
            if piece := self.pieces.push(event.ids):
                yield TextPiece(row, piece)
        elif isinstance(event, SpanBegin) and event.kind == "image":
            height, width = (n or 0 for n in event.grid)
            stride = self.sequencer.image_tokenizer.stride
            yield ImageBegun(row, height * stride, width * stride)
        elif isinstance(event, SpanBegin) and event.kind == "audio":
            yield AudioBegun(row)
        elif isinstance(event, RowDone):
            yield ImageRow(row, event.row, event.codes)
        elif isinstance(event, FrameDone):
            tokenizer = self.sequencer.audio_tokenizer
            seconds = (event.frame + 1) * tokenizer.hop / tokenizer.sample_rate
            yield AudioFrame(row, event.codes, seconds)
        elif isinstance(event, SpanEnd):
            yield from self._ended(step.index, event)

    def _ended(self, index: int, event: SpanEnd) -> Iterator[Event]:
        begun = time.perf_counter()
        segment = self.sequencer.decode_segment(event.segment)
        self.decode_seconds += time.perf_counter() - begun
        self.filled[index].append(segment)
        if isinstance(segment, Image):
            yield ImageDone(self.row, segment)
        elif isinstance(segment, Audio):
            yield AudioDone(self.row, segment)
        else:
            assert isinstance(segment, Text)
            if rest := self.pieces.flush():
                yield TextPiece(self.row, rest)
            if lost := segment.text.count("\ufffd"):
                yield Dropped(
                    self.row,
                    f"{lost} places of a sampled text are no valid UTF-8 and became U+FFFD",
                )

    def _whole(self) -> Document:
        segments: list[Segment] = []
        for index, segment in enumerate(self.document.segments):
            segments += self.filled[index] if isinstance(segment, Slot) else [segment]
        return Document(tuple(segments))

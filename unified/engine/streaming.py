"""From documents with slots to requests, and from sampling steps to events with media."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from unified.engine.engine import Cancelled, Engine
from unified.engine.events import (
    AudioBegun,
    AudioChunk,
    AudioDone,
    AudioFrame,
    Done,
    Dropped,
    Event,
    ImageBegun,
    ImageDone,
    ImageRow,
    MediaBegun,
    MediaCodes,
    MediaDone,
    TextCut,
    TextPiece,
)
from unified.engine.request import CodedSlot, CutShort, Finished, Request, Sampling, Step
from unified.engine.stop import StopFinder, cut
from unified.formats.coded import (
    Coded,
    CodedAudio,
    CodedText,
    FrameDone,
    RowDone,
    SpanBegin,
    SpanEnd,
    TextIds,
)
from unified.sequence.modality import modality_of
from unified.sequence.sequencer import Sequencer
from unified_base.arguments import seeds_of, several, text
from unified_data.document import Audio, Document, Image, Media, Segment, Slot, Text
from unified_data.segments import media_classes

if TYPE_CHECKING:
    from unified_tokenizers.base import AudioTokenizer


def stream(
    sampler: Engine,
    sequencer: Sequencer,
    documents: Sequence[Document],
    seeds: Sequence[int] | None,
    sampling: Sampling | Sequence[Sampling],
    negative: str | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[Event]:
    """Fill the slots of every document; one `Done` for each, in the order they end.

    See `UnifiedModel.stream`. Raises ValueError, before the first event, for a document without
    slots, media the model cannot read, or a budget that is too small.
    """
    documents = several("documents", documents, Document)
    if isinstance(sampling, Sampling):
        each = [sampling] * len(documents)
    else:
        each = several("sampling", sampling, Sampling)
    if len(each) != len(documents):
        raise ValueError(f"{len(documents)} documents but {len(each)} sampling; give one for each")
    seeds = seeds_of(seeds, len(documents))
    without: tuple[CodedText, ...] = ()
    if negative is not None and text("negative", negative):
        without = (CodedText(tuple(sequencer.text_tokenizer.encode(negative))),)
    # Many samples of one document: its pictures and sounds are tokenized once.
    coded: dict[int, tuple[Coded | CodedSlot, ...]] = {}
    for document in documents:
        if id(document) not in coded:
            coded[id(document)] = tuple(
                coded_slot(segment, sequencer) if isinstance(segment, Slot) else segment
                for segment in sequencer.code(document)
            )
    rows = [
        Request(coded[id(document)], seed, own, without)
        for document, seed, own in zip(documents, seeds, each)
    ]
    translators = [
        _Translator(row, document, sequencer, own.stop)
        for row, (document, own) in enumerate(zip(documents, each))
    ]
    for step in sampler.run(rows, each[0] if each else Sampling(), cancelled):
        yield from translators[step.row].translate(step)


def coded_slot(slot: Slot, sequencer: Sequencer) -> CodedSlot:
    """A slot in codes: pixels become a grid, and media that the model cannot make are ruled out.

    Raises ValueError where it shall have such media, or a size that the tokenizer cannot give.
    """
    grid = None
    for modality, media in media_classes().items():
        number = None if media.count_field is None else getattr(slot, media.count_field)
        if slot.modality == modality or number:
            sequencer.check_makes(modality)
        if any(getattr(slot, name) is not None for name in media.slot_fields):
            tokenizer = sequencer.tokenizer(modality)
            grid = modality_of(modality).slot_grid(slot, tokenizer)
    missing = sequencer.missing
    makes = tuple(name for name in media_classes() if (name, "make") not in missing)
    return CodedSlot(
        slot.modality, grid, slot.num_images, slot.num_audios, slot.role, ("text", *makes)
    )


class _Translator:
    """Turns the steps of one row into events, and gathers its document."""

    def __init__(
        self, row: int, document: Document, sequencer: Sequencer, stops: Sequence[str]
    ) -> None:
        self.row = row
        self.document = document
        self.sequencer = sequencer
        self.stops = stops
        self.text = StopFinder(sequencer.text_tokenizer, stops)
        self.filled: dict[int, list[Segment]] = {index: [] for index in document.slots}
        self.cut: TextCut | None = None  # of the open text
        self.decode_seconds = 0.0
        self.modality = ""  # of the open media
        self.rows: list[np.ndarray] = []  # codes of the open picture
        self.height = 0  # and the rows it will have
        self.sound: _Sound | None = None  # the open one

    def translate(self, step: Step | Finished | Cancelled) -> Iterator[Event]:
        if isinstance(step, Cancelled):
            yield Dropped(self.row, f"cancelled after {step.sampled} sampled ids")
            return
        if isinstance(step, Finished):
            if self.cut is not None:  # of a text that had nothing to add
                yield self.cut
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
            self.text.push(event.ids)
            if piece := self.text.take():
                yield TextPiece(row, piece)
        elif isinstance(event, CutShort):
            self.cut = TextCut(row, step.index, event.reason, event.ids)
        elif isinstance(event, SpanBegin):
            yield from self._begun(event)
        elif isinstance(event, RowDone | FrameDone) and self.modality not in ("image", "audio"):
            index = event.row if isinstance(event, RowDone) else event.frame
            yield MediaCodes(row, self.modality, index, event.codes)
        elif isinstance(event, RowDone):
            self.rows.append(event.codes)
            picture = partial(_so_far, self.sequencer, tuple(self.rows), self.height)
            yield ImageRow(row, event.row, event.codes, picture)
        elif isinstance(event, FrameDone) and self.sound is not None:
            yield from self._heard(event)
        elif isinstance(event, SpanEnd):
            yield from self._ended(step.index, event)
            if self.cut is not None:
                yield self.cut
                self.cut = None

    def _begun(self, event: SpanBegin) -> Iterator[Event]:
        if event.kind == "text":
            return
        self.modality = self.sequencer.grammar.span_grammars[event.kind].modality
        if self.modality not in ("image", "audio"):
            yield MediaBegun(self.row, self.modality, event.grid)
            return
        if self.modality == "audio":
            self.sound = _Sound(self.sequencer.tokenizer("audio"))
            yield AudioBegun(self.row)
            return
        self.sound = None
        if len(event.grid) < 2:  # codes in an order, without rows
            yield ImageBegun(self.row, None, None)
            return
        height, width = (n or 0 for n in event.grid)
        self.rows, self.height = [], height
        stride = self.sequencer.tokenizer("image").stride
        yield ImageBegun(self.row, height * stride, width * stride)

    def _heard(self, event: FrameDone) -> Iterator[Event]:
        tokenizer = self.sequencer.tokenizer("audio")
        seconds = (event.frame + 1) * tokenizer.hop / tokenizer.sample_rate
        yield AudioFrame(self.row, event.codes, seconds)
        assert self.sound is not None  # or this would not have been called
        begun = time.perf_counter()
        samples = self.sound.push(event.codes)
        self.decode_seconds += time.perf_counter() - begun
        if samples.size:
            yield AudioChunk(self.row, samples, tokenizer.sample_rate)

    def _ended(self, index: int, event: SpanEnd) -> Iterator[Event]:
        begun = time.perf_counter()
        segment: Text | Media
        if isinstance(event.segment, CodedAudio):
            assert self.sound is not None
            rest, whole = self.sound.finish()
            rate = self.sequencer.tokenizer("audio").sample_rate
            if rest.size:
                yield AudioChunk(self.row, rest, rate)
            role: Any = event.segment.role
            segment = Audio(whole, rate, role, event.segment.loss)
        else:
            segment = self.sequencer.decode_segment(event.segment)
        self.decode_seconds += time.perf_counter() - begun
        if isinstance(segment, Text) and (before_stop := cut(segment.text, self.stops)) is not None:
            self.text.reset()
            if not before_stop:
                return
            segment = replace(segment, text=before_stop)
        self.filled[index].append(segment)
        if isinstance(segment, Image):
            yield ImageDone(self.row, segment)
        elif isinstance(segment, Audio):
            yield AudioDone(self.row, segment)
        elif isinstance(segment, Media):
            yield MediaDone(self.row, segment)
        else:
            if last := self.text.flush():
                yield TextPiece(self.row, last)
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


def _so_far(sequencer: Sequencer, rows: Sequence[np.ndarray], height: int) -> np.ndarray:
    """The picture of the rows so far; those to come are taken to be like the last one, since
    codecs may take whole grids alone."""
    codes = np.stack([*rows, *[rows[-1]] * (height - len(rows))], axis=1)
    stride = sequencer.tokenizer("image").stride
    return sequencer.decode_image(codes)[: len(rows) * stride]


# Sound that is decoded at once: shorter chunks cost more, for what lies around them is decoded too.
_CHUNK_SECONDS = 0.4


class _Sound:
    """A sound decoded as its frames come."""

    def __init__(self, tokenizer: AudioTokenizer) -> None:
        from unified_tokenizers.streaming import ArrayDecodeStream

        self.stream = ArrayDecodeStream(tokenizer)
        self.frames: list[np.ndarray] = []
        self.parts: list[np.ndarray] = []
        self.enough = max(1, round(_CHUNK_SECONDS * tokenizer.sample_rate / tokenizer.hop))

    def push(self, codes: np.ndarray) -> np.ndarray:
        """The next frame's codes (K,); samples (channels, S) that are certain now."""
        self.frames.append(codes)
        return self._decode() if len(self.frames) >= self.enough else np.zeros((1, 0), np.float32)

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """The samples that are left, and those of the whole sound."""
        first = self._decode() if self.frames else np.zeros((1, 0), np.float32)
        last = self.stream.finish()[0]
        self.parts.append(last)
        rest = np.concatenate([first, last], axis=1) if first.size else last
        return rest, np.concatenate(self.parts, axis=1)

    def _decode(self) -> np.ndarray:
        codes = np.stack(self.frames, axis=1)[None]
        self.frames = []
        samples = self.stream.push(codes)[0]
        if samples.size:
            self.parts.append(samples)
        return samples

"""From steps of one request to events with media: what is sampled, as its listener sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from unified.engine.engine import Cancelled, Failed
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
from unified.engine.request import CutShort, Finished, Step
from unified.engine.stop import StopFinder, cut
from unified.engine.text_scores import TextScore
from unified.formats.coded import (
    CodedAudio,
    CodedText,
    FrameDone,
    RowDone,
    SpanBegin,
    SpanEnd,
    StreamFrameDone,
    TextIds,
)
from unified.sequence.sequencer import Sequencer
from unified_data.document import Audio, Document, Image, Media, Segment, Slot, Text

if TYPE_CHECKING:
    from unified_tokenizers.base import AudioTokenizer

__all__ = ["EngineStep", "Translator"]

EngineStep = Step | Finished | Cancelled | Failed


Elsewhere = Callable[[Callable[[], np.ndarray]], np.ndarray]
"""Runs a function where media are decoded, and returns what it returns."""


class Translator:
    """Turns the steps of one request into events, and gathers its document.

    Steps come in order, one at a time, from any thread.

    decode_seconds: spent on turning codes into media.
    """

    def __init__(
        self,
        row: int,
        document: Document,
        sequencer: Sequencer,
        stops: Sequence[str],
        elsewhere: Elsewhere,
    ) -> None:
        """
        Args:
            row: the document's number, for its events.
            document: whose slots are filled.
            sequencer: of the model.
            stops: strings that end a text.
            elsewhere: where partial pictures are decoded when they are asked for.
        """
        self.row = row
        self.document = document
        self.sequencer = sequencer
        self.stops = stops
        self.elsewhere = elsewhere
        self.text = StopFinder(sequencer.text_tokenizer, stops)
        self.scores: list[TextScore] = []  # of ids whose text is still to be told
        self.filled: dict[int, list[Segment]] = {index: [] for index in document.slots}
        self.cut: TextCut | None = None  # of the open text
        self.decode_seconds = 0.0
        self.modality = ""  # of the open media
        self.rows: list[np.ndarray] = []  # codes of the open picture
        self.height = 0  # and the rows it will have
        self.sound: _Sound | None = None  # the open one
        self.words = sequencer.text_tokenizer.stream()  # of the open dialogue

    def decodes(self, step: EngineStep) -> bool:
        """Whether media are decoded in translating this step, the next one."""
        if not isinstance(step, Step) or not step.sampled:
            return False
        event = step.event
        if isinstance(event, SpanEnd):
            return not isinstance(event.segment, CodedText)
        if isinstance(event, SpanBegin):  # a sound's stream loads what it is decoded with
            return self._modality_of(event) == "audio"
        return isinstance(event, FrameDone) and self.sound is not None and self.sound.is_due

    def translate(self, step: EngineStep) -> Iterator[Event]:
        """The events of the next step."""
        if isinstance(step, Cancelled):
            yield Dropped(self.row, f"cancelled after {step.sampled} sampled ids")
            return
        if isinstance(step, Failed):
            yield Dropped(self.row, step.reason)
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
            if step.score is not None:
                self.scores.append(step.score)
            stops = self.text.push(event.ids)
            if piece := self.text.take():
                yield TextPiece(row, piece, self._scores_of(piece if stops else None))
        elif isinstance(event, CutShort):
            text_cut = TextCut(row, step.index, event.reason, event.ids)
            if event.reason == "max_thought_ids":  # the text itself goes on
                yield text_cut
            else:
                self.cut = text_cut
        elif isinstance(event, SpanBegin):
            yield from self._begun(event)
        elif isinstance(event, RowDone | FrameDone) and self.modality not in ("image", "audio"):
            index = event.row if isinstance(event, RowDone) else event.frame
            yield MediaCodes(row, self.modality, index, event.codes)
        elif isinstance(event, RowDone) and event.codes.ndim > 2:  # a row of tiles
            yield MediaCodes(row, self.modality, event.row, event.codes)
        elif isinstance(event, RowDone):
            self.rows.append(event.codes)
            so_far = partial(_so_far, self.sequencer, tuple(self.rows), self.height)
            picture = partial(self.elsewhere, so_far)
            yield ImageRow(row, event.row, event.codes, picture)
        elif isinstance(event, FrameDone) and self.sound is not None:
            yield from self._heard(event)
        elif isinstance(event, StreamFrameDone):
            yield from self._said(event)
        elif isinstance(event, SpanEnd):
            yield from self._ended(step.index, event)
            if self.cut is not None:
                yield self.cut
                self.cut = None

    def _begun(self, event: SpanBegin) -> Iterator[Event]:
        if event.kind == "text":
            return
        self.modality = self._modality_of(event)
        if self.modality not in ("image", "audio"):
            yield MediaBegun(self.row, self.modality, event.grid)
            return
        if self.modality == "audio":
            self.sound = _Sound(self.sequencer.tokenizer("audio"))
            yield AudioBegun(self.row)
            return
        self.sound = None
        if len(event.grid) != 2:  # codes in an order, without rows, or in tiles
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
        samples = self.sound.push(self._voice(event.codes))
        self.decode_seconds += time.perf_counter() - begun
        if samples.size:
            yield AudioChunk(self.row, samples, tokenizer.sample_rate)

    def _said(self, event: StreamFrameDone) -> Iterator[Event]:
        """The words of a dialogue's text, as they come."""
        dialogue = self.sequencer.dialogue
        if dialogue is not None and event.stream == dialogue.text:
            word = self.words.push(dialogue.words_in(event.codes.tolist()))
            if word:
                yield TextPiece(self.row, word)

    def _voice(self, codes: np.ndarray) -> np.ndarray:
        """The codes of what is made, of a frame (K,): of a dialogue those of the first voice."""
        dialogue = self.sequencer.dialogue
        if dialogue is None:
            return codes
        return dialogue.span.split_streams(codes)[dialogue.speaker]

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
            if self.sequencer.dialogue is not None:
                segment = self.sequencer.decode_segment(event.segment)
                if last := self.words.flush():
                    yield TextPiece(self.row, last)
        else:
            segment = self.sequencer.decode_segment(event.segment)
        self.decode_seconds += time.perf_counter() - begun
        if isinstance(segment, Text) and (before_stop := cut(segment.text, self.stops)) is not None:
            self.text.reset()
            self.scores.clear()
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
                yield TextPiece(self.row, last, self._scores_of(None))
            if lost := segment.text.count("\ufffd"):
                yield Dropped(
                    self.row,
                    f"{lost} places of a sampled text are no valid UTF-8 and became U+FFFD",
                )

    def _scores_of(self, before_stop: str | None) -> tuple[TextScore, ...]:
        """Those of the ids that a piece is of. before_stop: the piece, where a stop cuts it off:
        ids that stand for nothing of it are left out."""
        scores = tuple(self.scores)
        self.scores.clear()
        if before_stop is None or not scores:
            return scores
        left, number = len(before_stop.encode()), 0
        while left > 0:
            text_id = int(self.sequencer.vocabulary.from_ids("text", scores[number].id))
            left -= len(self.sequencer.text_tokenizer.to_bytes([text_id]))
            number += 1
        return scores[:number]

    def _modality_of(self, event: SpanBegin) -> str:
        if event.kind == "text":
            return "text"
        return self.sequencer.grammar.span_grammars[event.kind].modality

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
# The first samples come soon, the chunks behind them while those are heard.
_FIRST_CHUNK_SECONDS = 0.4
_CHUNK_SECONDS = 1.6


class _Sound:
    """A sound decoded as its frames come."""

    def __init__(self, tokenizer: AudioTokenizer) -> None:
        from unified_tokenizers.streaming import ArrayDecodeStream

        self.stream = ArrayDecodeStream(tokenizer)
        self.frames: list[np.ndarray] = []
        self.parts: list[np.ndarray] = []
        frame_rate = tokenizer.sample_rate / tokenizer.hop
        self.enough = max(1, round(_FIRST_CHUNK_SECONDS * frame_rate))
        self.most = max(1, round(_CHUNK_SECONDS * frame_rate))

    @property
    def is_due(self) -> bool:
        """Whether the next frame is decoded with those before it."""
        return len(self.frames) + 1 >= self.enough

    def push(self, codes: np.ndarray) -> np.ndarray:
        """The next frame's codes (K,); samples (channels, S) that are certain now."""
        due = self.is_due
        self.frames.append(codes)
        return self._decode() if due else np.zeros((1, 0), np.float32)

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
            self.enough = min(2 * self.enough, self.most)
        return samples

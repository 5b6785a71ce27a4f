"""The engine for documents: any number of callers, each with streams or submissions of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from unified.engine.backends.base import Decoder
from unified.engine.call import Row
from unified.engine.counters import EngineCounters
from unified.engine.driver import Driver
from unified.engine.engine import MAX_ROWS, Engine
from unified.engine.events import Event
from unified.engine.media_worker import MediaWorker
from unified.engine.request import CodedSlot, Request, Sampling
from unified.engine.streaming import EventStream
from unified.engine.submission import Submission
from unified.engine.translator import Translator
from unified.formats.coded import Coded, CodedMedia, CodedText
from unified.sequence.modality import modality_of
from unified.sequence.sequencer import Sequencer
from unified_base.arguments import seeds_of, several, text
from unified_data.document import Document, Slot
from unified_data.segments import ANY, media_classes

__all__ = ["DocumentEngine", "coded_slot"]


class DocumentEngine:
    """Fills the slots of documents for any number of threads and tasks, in one running batch.

    A document joins the batch when it is asked for and leaves it when it is complete; each has the
    ids and the media that it would have alone. Made by `UnifiedModel.engine`, whose methods
    (`stream`, `astream`, `submit`) check parameters, too, and have the model's defaults.

    Nothing runs while nothing is asked for. Streams are sampled by the threads that take their
    events; asyncio streams and submissions by a thread that is there while there are any.

    Attributes:
        decoder: what computes.
    """

    def __init__(
        self,
        decoder: Decoder,
        sequencer: Sequencer,
        *,
        max_rows: int = MAX_ROWS,
        cache_bytes: int | None = None,
    ) -> None:
        """
        Args:
            decoder: of the sequencer's vocabulary.
            sequencer: documents to ids and back.
            max_rows: documents in one pass of the decoder, of all callers together.
            cache_bytes: of the KV cache; None: what `Engine` takes by itself.
        """
        self.decoder = decoder
        self._sequencer = sequencer
        self._engine = Engine(
            decoder,
            sequencer.grammar,
            sequencer.text_tokenizer,
            max_rows=max_rows,
            cache_bytes=cache_bytes,
        )
        self._driver = Driver(self._engine)
        self._worker = MediaWorker(self._driver)
        self._closed = False

    @property
    def counters(self) -> EngineCounters:
        """What it does now and has done so far."""
        return self._engine.counters

    @property
    def usable(self) -> bool:
        """Whether it takes documents: not once it was closed or failed, nor in a forked process."""
        driver = self._driver
        return not (self._closed or driver.is_forked or driver.failure is not None)

    def stream(
        self,
        documents: Sequence[Document],
        sampling: Sampling | Sequence[Sampling],
        seeds: Sequence[int] | None = None,
        negative: str | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> EventStream:
        """The events of some documents, to be taken by one thread; see `UnifiedModel.stream`.

        Raises ValueError for a document without slots, media the model cannot read or make, or a
        budget that is too small.
        """
        stream = EventStream(self._engine, self._driver, self._worker, cancelled)
        rows = self._rows(documents, sampling, seeds, negative)
        stream.begin(rows, rows[0].sampling.max_rows if rows else 1)
        return stream

    def submit(
        self,
        document: Document,
        on_event: Callable[[Event], None],
        sampling: Sampling,
        seed: int = 0,
        negative: str | None = None,
    ) -> Submission:
        """Put a document into the batch; its events are told to a function, see `Submission`."""
        submission = Submission(self._engine, self._driver, self._worker, on_event)
        submission.begin(self._rows([document], sampling, [seed], negative), 1)
        submission.in_background()
        return submission

    def close(self) -> None:
        """End: what is not complete is dropped, and the KV cache's memory is given back.

        Any number of times; what is asked for thereafter is a ValueError.
        """
        self._closed = True
        self._engine.close()
        self._driver.changed()

    def _rows(
        self,
        documents: Sequence[Document],
        sampling: Sampling | Sequence[Sampling],
        seeds: Sequence[int] | None,
        negative: str | None,
    ) -> list[Row]:
        documents = several("documents", documents, Document)
        if isinstance(sampling, Sampling):
            each = [sampling] * len(documents)
        else:
            each = several("sampling", sampling, Sampling)
        if len(each) != len(documents):
            raise ValueError(
                f"{len(documents)} documents but {len(each)} sampling; give one for each"
            )
        seeds = seeds_of(seeds, len(documents))
        sequencer = self._sequencer
        without: tuple[CodedText, ...] = ()
        if negative is not None and text("negative", negative):
            without = (CodedText(tuple(sequencer.text_tokenizer.encode(negative))),)
        # Many samples of one document: its pictures and sounds are tokenized once.
        coded: dict[tuple[int, int | None], tuple[Coded | CodedSlot, ...]] = {}
        keys = [(id(document), own.max_audio_frames) for document, own in zip(documents, each)]
        for document, key in zip(documents, keys):
            if key not in coded:
                coded[key] = tuple(
                    coded_slot(segment, sequencer, key[1]) if isinstance(segment, Slot) else segment
                    for segment in sequencer.code(document)
                )
        return [
            Row(
                Request(coded[key], seed, own, without),
                own,
                Translator(number, document, sequencer, own.stop, self._elsewhere),
            )
            for number, (document, seed, own, key) in enumerate(zip(documents, seeds, each, keys))
        ]

    def _elsewhere(self, decode: Callable[[], np.ndarray]) -> np.ndarray:
        """A picture that is asked for, decoded by the worker while this thread samples."""
        return self._worker.run(decode) if self.usable else decode()


def coded_slot(slot: Slot, sequencer: Sequencer, max_audio_frames: int | None = None) -> CodedSlot:
    """A slot in codes: pixels become a grid, and media that the model cannot make are ruled out.

    max_audio_frames: of the request, which alone ends a dialogue of two voices.

    Raises ValueError where it shall have such media, or a size that the tokenizer cannot give; for
    a voice spoken with where there are no dialogues, and for dialogues that nothing ends.
    """
    grid = None
    for modality, media in media_classes().items():
        number = None if media.count_field is None else getattr(slot, media.count_field)
        if slot.modality == modality or number:
            sequencer.check_makes(modality)
        # Of an "any" slot the sizes are of what it counts: of pictures, not of videos.
        its_own = slot.modality == modality or (
            slot.modality == ANY and media.count_field is not None
        )
        if its_own and any(getattr(slot, name) is not None for name in media.slot_fields):
            tokenizer = sequencer.tokenizer(modality)
            grid = modality_of(modality).slot_grid(slot, tokenizer)
    missing = sequencer.missing
    makes = tuple(name for name in media_classes() if (name, "make") not in missing)
    begun = None
    if slot.begins is not None:
        coded = sequencer.code_segment(slot.begins)
        assert isinstance(coded, CodedMedia)
        begun = coded.codes
    streams = None
    if sequencer.dialogue is not None and slot.modality == "audio":
        streams = _given_streams(slot, sequencer, begun, max_audio_frames)
    elif slot.listener is not None:
        raise ValueError(
            "the slot has a listener, but the model's format has no voice beside the one that it"
            " makes; leave listener out"
        )
    return CodedSlot(
        slot.modality, grid, slot.num_images, slot.num_audios, slot.role, ("text", *makes),
        begins=() if begun is None else _ids_of(begun, sequencer), streams=streams,
    )  # fmt: skip


def _ids_of(codes: np.ndarray, sequencer: Sequencer) -> tuple[tuple[int, ...], ...]:
    """The ids of a sound's codes (K, T), level by level."""
    span = sequencer.grammar.span_grammars.get("audio")
    blocks = sequencer.vocabulary.levels("audio") if span is None else span.blocks
    return tuple(
        tuple(sequencer.vocabulary.to_ids(block.name, own).tolist())
        for block, own in zip(blocks, codes)
    )


def _given_streams(
    slot: Slot, sequencer: Sequencer, begun: np.ndarray | None, frames: int | None
) -> dict[str, np.ndarray]:
    """The voice that is spoken with, for all frames of a dialogue. begun: codes (K, T)."""
    dialogue = sequencer.dialogue
    assert dialogue is not None
    if frames is None:
        raise ValueError(
            "nothing but a number of frames ends a dialogue, and max_audio_frames is not set"
        )
    codec = sequencer.tokenizer("audio")
    return {dialogue.listener: dialogue.listener_codes(slot.listener, codec, begun, frames)}

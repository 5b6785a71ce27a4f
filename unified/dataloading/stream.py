"""One stream (virtual shard) of the data: its sequences depend on nothing but seed and sources.

A stream mixes the sources, draws every n-th sample of each (n: the number of streams), tokenizes
and packs it. Its state after a sequence is small and exact: the sequences that follow are the same
whichever process or worker makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unified.dataloading.layout import Layout
from unified.dataloading.mixing import Mixture
from unified.dataloading.order import sample_at
from unified.dataloading.packed_sequence import COUNTERS, PackedSequence
from unified.dataloading.packing import Chunk, Packer, TooLongError, pack, split_document
from unified.dataloading.source import Source, leaves
from unified.dataloading.source_samples import SourceSamples, allow_open
from unified.dataloading.transforms import Draws, transform
from unified.formats.grammar import Grammar
from unified.sequence.infilling import check_infills
from unified.sequence.sequencer import Sequencer
from unified.tasks.task_table import Tasks
from unified.vocabulary.text_tokenizer import TextTokenizer

__all__ = [
    "Counters",
    "Stream",
    "StreamConfig",
    "StreamContext",
    "image_stride_of",
    "too_many_corrupt",
]

_MAX_CONSECUTIVE_FAILURES = 1000
"""After as many unusable samples of a source in succession the source is given up."""
_MAX_REPORTS = 8


@dataclass(frozen=True)
class StreamConfig:
    """What the order of the data depends on, and how many corrupt samples end the run.

    Attributes:
        sources: by name.
        seq_len: positions of a packed sequence.
        streams: how many streams the order of the data is made of.
        seed: of all that is drawn.
        max_corrupt: skip at most this many corrupt samples of a process's streams, then raise.
        tasks: of the model, by which pairs are laid out (see `Source.tasks`); None: as they are.
        image_stride: pixels a code of the image tokenizer covers on each side, if there is one.
    """

    sources: Mapping[str, Source]
    seq_len: int
    streams: int
    seed: int
    max_corrupt: int
    tasks: Tasks | None = None
    image_stride: int | None = None


class StreamContext:
    """What the streams of one process share: the sources' shards, and a layout with its caches."""

    def __init__(
        self, config: StreamConfig, grammar: Grammar, text_tokenizer: TextTokenizer
    ) -> None:
        self.config = config
        self.sources = dict(leaves(config.sources))
        if any(source.infill for source in self.sources.values()):
            check_infills(grammar.format)
        self.samples = {
            name: SourceSamples(name, source, grammar.vocabulary)
            for name, source in self.sources.items()
        }
        allow_open(sum(samples.num_shards for samples in self.samples.values()))
        self.layout = Layout(grammar, text_tokenizer)

    def chunks(self, name: str, index: int, sample: int, draws: Draws) -> tuple[list[Chunk], bool]:
        """A sample of a source as chunks, and whether it could not be reversed though it should.

        Args:
            name: of the source.
            index: in the source's endless order; goes into the chunks' references.
            sample: number of the sample in the source.
            draws: what is random about it.

        Raises:
            ValueError: the sample is corrupt; shard and key are named.
            TooLongError: it does not fit into sequences.
        """
        samples = self.samples[name]
        key, (*shots, segments) = samples.read_set(sample)
        try:
            source = self.sources[name]
            by_tasks = samples.of_captions(sample) if source.tasks is None else source.tasks
            document, input_ids, not_reversed = transform(
                self.layout,
                segments,
                source,
                draws,
                self.config.tasks if by_tasks else None,
                self.config.image_stride,
                shots,
            )
            full_key = f"{name}/{key}"
            seq_len = self.config.seq_len
            return split_document(document, input_ids, seq_len, full_key, name, index), not_reversed
        except ValueError as error:
            kind = TooLongError if isinstance(error, TooLongError) else ValueError
            raise kind(f"{samples.where(sample, key)}: {error}") from None

    def drawn(self, name: str, index: int) -> tuple[list[Chunk], bool]:
        """The sample at an index of a source's endless order, with all that is drawn for it."""
        seed = self.config.seed
        epoch, sample = sample_at(index, len(self.samples[name]), seed, name)
        return self.chunks(name, index, sample, Draws.of(seed, name, epoch, sample))


class Counters:
    """What has been tokenized or skipped since the last sequence."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(COUNTERS, 0)
        self._reports: list[str] = []

    def add(self, chunks: list[Chunk], not_reversed: bool) -> int:
        """Count a document; returns its number of ids."""
        ids = sum(chunk.num_ids for chunk in chunks)
        self.counts["documents"] += 1
        self.counts["ids"] += ids
        self.counts["split"] += len(chunks) > 1
        self.counts["not_reversed"] += not_reversed
        return ids

    def skip(self, error: ValueError) -> None:
        """Count a sample that cannot be used."""
        self.counts["too_long" if isinstance(error, TooLongError) else "corrupt"] += 1
        if len(self._reports) < _MAX_REPORTS:
            self._reports.append(str(error))

    def flush(self) -> dict[str, Any]:
        """The fields `counters` and `reports` of the next sequence; counting begins anew."""
        fields = {"counters": self.counts, "reports": tuple(self._reports)}
        self.counts, self._reports = dict.fromkeys(COUNTERS, 0), []
        return fields


class Stream:
    """The packed sequences of one stream.

    Args:
        context: shared by the streams of a process.
        number: which stream this is, from 0.
        state: where to resume, as the attribute `state` gives it; {} at the beginning.
    """

    def __init__(self, context: StreamContext, number: int, state: Mapping[str, Any]) -> None:
        self.number = number
        self._context = context
        self._mixture = Mixture(context.config.sources, context.config.seed, number)
        self._packer = Packer(context.config.seq_len)
        self.num_sequences = state.get("sequences", 0)
        self._drawn = dict.fromkeys(context.sources, 0) | state.get("drawn", {})
        self._totals = dict.fromkeys(COUNTERS, 0) | state.get("totals", {})
        self._counters = Counters()
        self._consecutive_failures = dict.fromkeys(context.sources, 0)
        for name, ids in state.get("served", {}).items():
            self._mixture.serve(name, ids)
        self._restore_waiting(state.get("waiting", []))

    def _restore_waiting(self, references: list[list[Any]]) -> None:
        documents: dict[tuple[str, int], list[Chunk]] = {}
        for name, index, number in references:
            if (name, index) not in documents:
                documents[name, index] = self._context.drawn(name, index)[0]
            chunks = documents[name, index]
            if number >= len(chunks):
                raise ValueError(
                    f"a document of source {name} that waits to be packed has become shorter since"
                    " the state was saved; begin the data anew"
                )
            self._packer.add([chunks[number]])

    @property
    def state(self) -> dict[str, Any]:
        """All that the sequences to come depend on, as JSON."""
        return {
            "sequences": self.num_sequences,
            "drawn": dict(self._drawn),
            "served": self._mixture.served,
            "waiting": [list(chunk.reference) for chunk in self._packer.waiting],
            "totals": dict(self._totals),
        }

    def next(self) -> PackedSequence | None:
        """The next sequence, None once the sources have ended.

        Raises:
            ValueError: too many corrupt samples, or a source that has only such.
        """
        while self._packer.wants_more:
            name = self._mixture.next()
            if name is None:
                break
            self._draw(name)
        chunks = self._packer.next()
        if not chunks:
            return None
        config, layout = self._context.config, self._context.layout
        fields = pack(chunks, config.seq_len, layout.grammar.padding, layout.ranges)
        self.num_sequences += 1
        return PackedSequence(
            **fields, **self.last(), stream=self.number, number=self.num_sequences - 1
        )

    def last(self) -> dict[str, Any]:
        """Counters, reports and the state, for a sequence or for the end."""
        for name, count in self._counters.counts.items():
            self._totals[name] += count
        return {**self._counters.flush(), "state": self.state}

    def _draw(self, name: str) -> None:
        """Draw the stream's next sample of a source, or end the source."""
        epochs = self._context.sources[name].epochs
        index = self.number + self._drawn[name] * self._context.config.streams
        if epochs is not None and index >= epochs * len(self._context.samples[name]):
            self._mixture.end(name)
            return
        self._drawn[name] += 1
        try:
            chunks, not_reversed = self._context.drawn(name, index)
        except ValueError as error:
            self._skip(name, error)
        else:
            self._consecutive_failures[name] = 0
            self._mixture.serve(name, self._counters.add(chunks, not_reversed))
            self._packer.add(chunks)

    def _skip(self, name: str, error: ValueError) -> None:
        self._counters.skip(error)
        self._consecutive_failures[name] += 1
        if self._consecutive_failures[name] == _MAX_CONSECUTIVE_FAILURES:
            raise ValueError(
                f"source {name}: none of {_MAX_CONSECUTIVE_FAILURES} samples can be used; the last:"
                f" {error}"
            )
        corrupt = self._totals["corrupt"] + self._counters.counts["corrupt"]
        if corrupt > self._context.config.max_corrupt:
            raise too_many_corrupt(corrupt, self._context.config.max_corrupt, str(error))


def image_stride_of(sequencer: Sequencer) -> int | None:
    """Pixels a code of the image tokenizer covers on each side; None without one."""
    tokenizer = sequencer.image_tokenizer
    return None if tokenizer is None else int(tokenizer.stride)


def too_many_corrupt(corrupt: int, limit: int, last: str) -> ValueError:
    """The error of a run that has met more corrupt samples than it may skip."""
    return ValueError(f"{corrupt} samples are corrupt, max_corrupt is {limit}; the last: {last}")

"""Preference pairs: two documents of one prompt, side by side in their shards.

A pair is two samples in a row, KEY-chosen and KEY-rejected (`unified data import preferences`). A
sample that lacks its other half, because that was left out on the way, shifts no other pair.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unified.dataloading import PackedSequence, Source
from unified.dataloading.order import sample_at
from unified.dataloading.packing import Chunk, Packer, pack
from unified.dataloading.source import leaves
from unified.dataloading.source_samples import SourceSamples
from unified.dataloading.stream import StreamConfig, StreamContext, too_many_corrupt
from unified.dataloading.transforms import Draws
from unified.sequence.sequencer import Sequencer

__all__ = ["Pair", "PreferencePairs"]

_CHOSEN, _REJECTED = "-chosen", "-rejected"
_MAX_REPORTS = 8


@dataclass(frozen=True, eq=False)
class Pair:
    """A preference pair.

    Attributes:
        number: of all pairs of the source.
        key: "source/KEY".
        documents: the chosen and the rejected one, each as one chunk.
    """

    number: int
    key: str
    documents: tuple[Chunk, Chunk]


class PreferencePairs:
    """The pairs of one source, shuffled anew for each epoch; every process takes its own.

    What is corrupt is excluded before the first step, so that every step takes as many pairs, and
    which these are depends on nothing but the seed.

    Attributes:
        num_pairs: all pairs, corrupt ones too.
        size: without those.
        digest: of the samples' keys.
        reports: one line for some of what is corrupt.
        counts: pairs that this process took, and samples and pairs that are corrupt.

    Raises:
        ValueError: several sources, one with anything drawn at random, shards that hold no pairs,
            or too many corrupt ones.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        sequencer: Sequencer,
        seq_len: int,
        seed: int,
        rank: int,
        world: int,
        max_corrupt: int,
    ) -> None:
        named = list(leaves(sources))
        if len(named) != 1:
            raise ValueError(f"preferences come from one source, not from {[n for n, _ in named]}")
        self.name, self.source = named[0]
        source = self.source
        drawn = source.noise or source.drop_prompt or source.infill or source.shots
        if drawn or source.orders != "as_is":
            raise ValueError(
                f"source {self.name} has noise, drop_prompt, infill, shots or orders; documents of"
                " preferences are always the same, or their reference would be of others"
            )
        self._config = StreamConfig(sources, seq_len, 1, seed, max_corrupt)
        self._context = StreamContext(self._config, sequencer.grammar, sequencer.text_tokenizer)
        self._seed, self._rank, self._world = seed, rank, world
        self._next = 0
        self.reports: list[str] = []
        self.counts = {"pairs": 0, "corrupt": 0}
        self._starts, self.digest = self._find_pairs(self._context.samples[self.name])
        self._numbers = np.arange(len(self._starts))
        self.num_pairs = len(self._starts)
        if not self.num_pairs:
            raise ValueError(
                f"source {self.name} holds no pairs, KEY-chosen beside KEY-rejected; import them"
                " with `unified data import preferences`"
            )

    @property
    def size(self) -> int:
        return len(self._numbers)

    def _find_pairs(self, samples: SourceSamples) -> tuple[array[int], str]:
        """Where each pair's chosen document stands; a digest of all keys."""
        starts, digest = array("q"), hashlib.sha256()
        before = ""
        for number in range(len(samples)):
            try:
                key = samples.key(number)
            except ValueError as error:
                self._count(str(error))
                key = ""
            digest.update(f"{key}\n".encode())
            stem = before.removesuffix(_CHOSEN)
            if before.endswith(_CHOSEN) and key == stem + _REJECTED:
                starts.append(number - 1)
                key = ""
            elif before:
                self._count(f"{samples.where(number - 1, before)}: its other half is not beside it")
            before = key
        if before:
            self._count(f"{samples.where(len(samples) - 1, before)}: its other half is missing")
        return starts, digest.hexdigest()

    def _count(self, reason: str) -> None:
        self.counts["corrupt"] += 1
        if len(self.reports) < _MAX_REPORTS:
            self.reports.append(reason)
        if self.counts["corrupt"] > self._config.max_corrupt:
            raise too_many_corrupt(self.counts["corrupt"], self._config.max_corrupt, reason)

    def read(self, number: int) -> Pair:
        """A pair by its number. Raises ValueError, naming shard and key, if it is corrupt.

        A pair one of whose documents does not fit into a sequence is corrupt, too.
        """
        start = self._starts[number]
        documents = []
        for sample in (start, start + 1):
            chunks, _ = self._context.chunks(self.name, sample, sample, Draws())
            if len(chunks) != 1:
                raise ValueError(
                    f"{chunks[0].key} is longer than a sequence of {self._config.seq_len}"
                    " positions; documents of a pair must not be split"
                )
            documents.append(chunks[0])
        key = documents[0].key.removesuffix(_CHOSEN)
        return Pair(number, key, (documents[0], documents[1]))

    def exclude(self, numbers: Sequence[int]) -> None:
        """Never give these pairs, which are corrupt. ValueError for too many, or for all."""
        reason = ""
        for number in numbers:
            try:
                self.read(number)
                reason = f"pair {number} of source {self.name}: it has no reference"
            except ValueError as error:
                reason = str(error)
            self._count(reason)
        self._numbers = np.delete(self._numbers, numbers)
        if not self.size:
            raise ValueError(f"source {self.name}: none of its pairs can be used; {reason}")

    def take(self, count: int) -> list[Pair]:
        """This process's next pairs; fewer where the source's epochs end."""
        indices = range(self._next + self._rank, self._next + count * self._world, self._world)
        self._next += count * self._world
        pairs = []
        for position in indices:
            if self.source.epochs is not None and position >= self.source.epochs * self.size:
                break
            _, index = sample_at(position, self.size, self._seed, self.name)
            pairs.append(self.read(int(self._numbers[index])))
        self.counts["pairs"] += len(pairs)
        return pairs

    def pack(self, pairs: Sequence[Pair]) -> Iterator[tuple[PackedSequence, list[int]]]:
        """Packed sequences of pairs' documents, and which document (2 * pair + 0 or 1) each of a
        sequence is."""
        layout = self._context.layout
        packer = Packer(self._config.seq_len)
        numbers = {}
        for index, pair in enumerate(pairs):
            for which, chunk in enumerate(pair.documents):
                numbers[id(chunk)] = 2 * index + which
            packer.add(list(pair.documents))
        count = 0
        while chunks := packer.next():
            fields = pack(chunks, self._config.seq_len, layout.grammar.padding, layout.ranges)
            sequence = PackedSequence(
                **fields, stream=0, number=count, counters={}, reports=(), state={}
            )
            yield sequence, [numbers[id(chunk)] for chunk in chunks]
            count += 1

    # As a `Loader` has them.

    def state(self) -> dict[str, Any]:
        return {"next": self._next, "counts": dict(self.counts)}

    def load_state(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Resume from the states of all processes, however many they were: each had as many pairs
        of a step."""
        self._next = states[0]["next"]
        if len(states) == self._world:
            self.counts["pairs"] = states[self._rank]["counts"]["pairs"]
        elif self._rank == 0:
            self.counts["pairs"] = sum(state["counts"]["pairs"] for state in states)

    def close(self) -> None:
        """Nothing is held open."""

"""The packed sequences of a run in order, from any number of processes and workers, resumable.

The order of the data is made of streams: sequence i of all comes from stream i % streams. Process
`rank` of `world` has every `world`-th stream and each of its workers a share of those, so which
process makes a sequence changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from heapq import heapify, heappop, heapreplace
from typing import Any

from unified.dataloading.order import check_streams, streams_of
from unified.dataloading.packed_sequence import COUNTERS, PackedSequence
from unified.dataloading.round_robin import (
    Ended,
    TokenizerSpec,
    WorkerFailed,
    WorkerMessage,
    round_robin,
)
from unified.dataloading.source import Source, shares_of
from unified.dataloading.stream import (
    StreamConfig,
    StreamContext,
    image_stride_of,
    too_many_corrupt,
)
from unified.dataloading.workers import Worker
from unified.sequence.sequencer import Sequencer
from unified.tasks.task_table import Tasks

__all__ = ["Loader"]


class Loader:
    """The packed sequences that one process of a run trains on, in order: iterate over it.

    Args:
        sources: by name, of code shards (see `prepare_sources`).
        sequencer: of the model. Its vocabulary, grammar and text tokenizer are used, no others.
        seq_len: positions of a sequence.
        streams: virtual shards that the order of the data is made of; the number of processes must
            divide it.
        seed: of the order and of all that is drawn.
        rank, world: which process of how many this is.
        workers: processes that prepare sequences ahead; 0: none but this one. They are started with
            `spawn`, so a script that asks for some needs `if __name__ == "__main__":`.
        max_corrupt: skip at most this many corrupt samples of this process's streams, then raise.
        tasks: of the model, by which pairs are laid out (see `Source.tasks`).

    Raises:
        ValueError: streams that cannot be shared out, or sources that cannot be read.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        sequencer: Sequencer,
        seq_len: int,
        streams: int = 48,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        max_corrupt: int = 100,
        tasks: Tasks | None = None,
    ) -> None:
        check_streams(streams, rank, world, workers)
        if seq_len < 2:
            raise ValueError(f"seq_len is {seq_len}, expected at least 2 positions")
        stride = image_stride_of(sequencer)
        self._config = StreamConfig(
            dict(sources), seq_len, streams, seed, max_corrupt, tasks, stride
        )
        self._sequencer = sequencer
        self._context = StreamContext(self._config, sequencer.grammar, sequencer.text_tokenizer)
        self._workers = workers
        self._states: dict[int, dict[str, Any]] = {
            stream: {} for stream in streams_of(streams, rank, world)
        }
        self._iterators: list[Iterator[WorkerMessage]] = []

    @property
    def samples(self) -> dict[str, int]:
        """How many samples each source has."""
        return {name: len(samples) for name, samples in self._context.samples.items()}

    @property
    def counts(self) -> dict[str, int]:
        """What this process's streams have counted since the run began, by the names in
        `COUNTERS`."""
        totals = [state.get("totals", {}) for state in self._states.values()]
        return {name: sum(total.get(name, 0) for total in totals) for name in COUNTERS}

    def __iter__(self) -> Iterator[PackedSequence]:
        """Sequences from the present state on, until every source has ended. One iterator at a
        time: a new one ends the one before it.

        Raises:
            ValueError: more than `max_corrupt` corrupt samples, or a source none of whose samples
                can be used.
        """
        self.close()
        streams = list(self._states)
        if self._workers:
            spec = TokenizerSpec.of(self._sequencer)
            for worker in range(self._workers):
                states = {
                    stream: self._states[stream] for stream in streams[worker :: self._workers]
                }
                self._iterators.append(Worker(self._config, spec, states))
        else:
            self._iterators = [round_robin(self._context, streams, self._states)]
        return self._merge(self._iterators)

    def _merge(self, iterators: Sequence[Iterator[WorkerMessage]]) -> Iterator[PackedSequence]:
        """The sequences of all workers, again in round-robin order of the streams."""
        iterator_of = {
            stream: iterators[index % len(iterators)] for index, stream in enumerate(self._states)
        }
        queue = [(state.get("sequences", 0), stream) for stream, state in self._states.items()]
        heapify(queue)
        while queue and self._iterators is iterators:
            num_sequences, stream = queue[0]
            message = next(iterator_of[stream])
            if isinstance(message, WorkerFailed):
                raise ValueError(message.reason)
            assert message.stream == stream
            self._states[stream] = message.state
            if message.counters["corrupt"]:
                corrupt, limit = self.counts["corrupt"], self._config.max_corrupt
                if corrupt > limit:
                    raise too_many_corrupt(corrupt, limit, message.reports[-1])
            if isinstance(message, Ended):
                heappop(queue)
            else:
                heapreplace(queue, (num_sequences + 1, stream))
                yield message

    def close(self) -> None:
        """End the workers. The loader can be iterated over again, from where it is."""
        for iterator in self._iterators:
            if isinstance(iterator, Worker):
                iterator.close()
        self._iterators = []

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # State.

    def state(self) -> dict[str, Any]:
        """Where this process is after the last sequence it gave, as JSON."""
        return {**self._fingerprint(), "states": {str(k): v for k, v in self._states.items()}}

    def load_state(self, saved: Sequence[Mapping[str, Any]]) -> list[str]:
        """Resume from the states of all processes of a run, however many they were.

        Returns:
            Warnings about settings that may change on resume: the sources' shares.

        Raises:
            ValueError: the order of the data would not be the one that was begun.
        """
        if not saved:
            raise ValueError("there is no state of the data to go on from")
        now, warnings = self._fingerprint(), []
        states: dict[str, dict[str, Any]] = {}
        for state in saved:
            for name, value in now.items():
                if name != "shares" and state.get(name) != value:
                    raise ValueError(
                        f"the saved state of the data has {name} {_short(state.get(name))}, this"
                        f" run {_short(value)}; take the same, or begin the data anew"
                    )
            states |= state["states"]
        if missing := [n for n in range(self._config.streams) if str(n) not in states]:
            raise ValueError(
                f"the saved state of the data lacks streams {missing[:8]} of"
                f" {self._config.streams}; give those of all processes"
            )
        mine = {stream: dict(states[str(stream)]) for stream in self._states}
        if any(state.get("shares") != now["shares"] for state in saved):
            warnings.append(
                "the shares of the sources have changed; what they had is not made up for"
            )
            mine = {stream: {**state, "served": {}} for stream, state in mine.items()}
        self.close()
        self._states = mine
        return warnings

    def _fingerprint(self) -> dict[str, Any]:
        """What the order of the data depends on beside the streams' states."""
        config, layout = self._config, self._context.layout
        return {
            "seed": config.seed,
            "streams": config.streams,
            "seq_len": config.seq_len,
            "vocabulary": layout.grammar.vocabulary.hash,
            "format": hashlib.sha256(layout.grammar.source.encode()).hexdigest(),
            "samples": self.samples,
            "shares": shares_of(config.sources),
            "tasks": _tasks_digest(config.tasks),
        }


def _tasks_digest(tasks: Tasks | None) -> str:
    """Of how pairs are laid out."""
    words = "" if tasks is None else json.dumps(tasks.describe(), sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."

"""Several streams of one process in round-robin order, here or in a worker process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from typing import Any

from unified.dataloading.packed_sequence import PackedSequence
from unified.dataloading.stream import Stream, StreamConfig, StreamContext
from unified.formats.grammar import Grammar
from unified.sequence.sequencer import Sequencer
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified.vocabulary.vocabulary import Vocabulary

__all__ = ["Ended", "TokenizerSpec", "WorkerFailed", "WorkerMessage", "round_robin"]


@dataclass(frozen=True)
class Ended:
    """A stream has no more sequences. The other fields are those of a `PackedSequence`, for what
    came after its last one."""

    stream: int
    counters: dict[str, int]
    reports: tuple[str, ...]
    state: dict[str, Any]


@dataclass(frozen=True)
class WorkerFailed:
    """Nothing can follow; the message of the ValueError."""

    reason: str


WorkerMessage = PackedSequence | Ended | WorkerFailed


@dataclass(frozen=True)
class TokenizerSpec:
    """Vocabulary, grammar and text tokenizer as text, to be sent to a worker process."""

    vocabulary: str
    grammar: str
    text_tokenizer: str

    @classmethod
    def of(cls, sequencer: Sequencer) -> TokenizerSpec:
        vocabulary = json.dumps(sequencer.vocabulary.to_json())
        return cls(vocabulary, sequencer.grammar.source, sequencer.text_tokenizer.to_text())

    def context(self, config: StreamConfig) -> StreamContext:
        """What a worker's streams share."""
        vocabulary = Vocabulary.from_json(json.loads(self.vocabulary))
        grammar = Grammar.from_text(self.grammar, vocabulary)
        return StreamContext(config, grammar, TextTokenizer.from_text(self.text_tokenizer))


def round_robin(
    context: StreamContext, numbers: Sequence[int], states: Mapping[int, Mapping[str, Any]]
) -> Iterator[WorkerMessage]:
    """The sequences of some streams in the order of all: the stream that has given the fewest is
    next.

    Args:
        context: shared by the streams.
        numbers: of the streams.
        states: where each of them resumes; see `Stream`.
    """
    try:
        streams = {number: Stream(context, number, states[number]) for number in numbers}
        queue = [(stream.num_sequences, number) for number, stream in streams.items()]
        heapify(queue)
        while queue:
            num_sequences, number = queue[0]
            sequence = streams[number].next()
            if sequence is None:
                heappop(queue)
                yield Ended(number, **streams[number].last())
            else:
                heapreplace(queue, (num_sequences + 1, number))
                yield sequence
    except ValueError as error:
        yield WorkerFailed(str(error))

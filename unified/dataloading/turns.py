"""Several lanes of one process taken in turn, here or in a worker that is handed plain texts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from typing import Any

from unified.dataloading.lane import Feed, Lane, Plan
from unified.dataloading.row import Row
from unified.formats.grammar import Grammar
from unified.sequence.sequencer import Sequencer
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified.vocabulary.vocabulary import Vocabulary

__all__ = ["Ended", "Failed", "Language", "Message", "in_turn"]


@dataclass(frozen=True)
class Ended:
    """A lane has no more rows. The rest is that of a `Row`, for what came after its last one."""

    lane: int
    counts: dict[str, int]
    reports: tuple[str, ...]
    state: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """Nothing can follow; what the ValueError said."""

    reason: str


Message = Row | Ended | Failed


@dataclass(frozen=True)
class Language:
    """Vocabulary, grammar and text tokenizer as the texts that files of a model hold."""

    vocabulary: str
    grammar: str
    text_tokenizer: str

    @classmethod
    def of(cls, sequencer: Sequencer) -> Language:
        vocabulary = json.dumps(sequencer.vocabulary.to_json())
        return cls(vocabulary, sequencer.grammar.source, sequencer.text_tokenizer.to_text())

    def feed(self, plan: Plan) -> Feed:
        vocabulary = Vocabulary.from_json(json.loads(self.vocabulary))
        grammar = Grammar.from_text(self.grammar, vocabulary)
        return Feed(plan, grammar, TextTokenizer.from_text(self.text_tokenizer))


def in_turn(
    feed: Feed, lanes: Sequence[int], states: Mapping[int, Mapping[str, Any]]
) -> Iterator[Message]:
    """The rows of some lanes in the order of all: the lane that has given the fewest is next."""
    try:
        made = {lane: Lane(feed, lane, states[lane]) for lane in lanes}
        going = [(lane.rows, number) for number, lane in made.items()]
        heapify(going)
        while going:
            rows, number = going[0]
            row = made[number].next()
            if row is None:
                heappop(going)
                yield Ended(number, **made[number].last())
            else:
                heapreplace(going, (rows + 1, number))
                yield row
    except ValueError as error:
        yield Failed(str(error))

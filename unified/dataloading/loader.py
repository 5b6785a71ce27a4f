"""The rows of a run in their order, from any number of processes and workers, with exact resuming.

The order of data is made of lanes: row i of all comes from lane i % lanes. A process has every
`world`-th lane and a worker of it every so-manieth of those, so who makes a row changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from heapq import heapify, heappop, heapreplace
from typing import Any

from unified.dataloading.lane import Feed, Plan, too_many
from unified.dataloading.order import check_lanes, lanes_of
from unified.dataloading.row import COUNTS, Row
from unified.dataloading.source import Source, shares_of
from unified.dataloading.turns import Ended, Failed, Language, Message, in_turn
from unified.dataloading.workers import Worker
from unified.sequence.sequencer import Sequencer

__all__ = ["Loader"]


class Loader:
    """The rows that one process of a run trains on, in order: iterate over it.

    Args:
        sources: by name, of code shards (see `prepare_sources`).
        sequencer: of the model. Its vocabulary, grammar and text tokenizer are used, no others.
        length: places of a row.
        lanes: streams that the order of data is made of; the number of processes must divide it.
        rank, world: which process of how many this is.
        workers: processes that make rows ahead; 0: none but this one. They are started with
            `spawn`, so a script that asks for some needs `if __name__ == "__main__":`.
        max_broken: so many broken samples of this process's lanes are left out; one more is an
            error.

    Raises ValueError for lanes that cannot be shared out, and sources that cannot be read.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        sequencer: Sequencer,
        length: int,
        lanes: int = 48,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        max_broken: int = 100,
    ) -> None:
        check_lanes(lanes, rank, world, workers)
        if length < 2:
            raise ValueError(f"rows have {length} places, expected at least 2")
        self._plan = Plan(dict(sources), length, lanes, seed, max_broken)
        self._sequencer = sequencer
        self._feed = Feed(self._plan, sequencer.grammar, sequencer.text_tokenizer)
        self._workers = workers
        self._states: dict[int, dict[str, Any]] = {
            lane: {} for lane in lanes_of(lanes, rank, world)
        }
        self._streams: list[Iterator[Message]] = []

    @property
    def samples(self) -> dict[str, int]:
        """How many samples each source has."""
        return {name: len(samples) for name, samples in self._feed.samples.items()}

    @property
    def counts(self) -> dict[str, int]:
        """What this process's lanes have counted since the run began, by the names in `COUNTS`."""
        totals = [state.get("totals", {}) for state in self._states.values()]
        return {name: sum(total.get(name, 0) for total in totals) for name in COUNTS}

    def __iter__(self) -> Iterator[Row]:
        """Rows from the present state on; they end where every source does. One iterator at a time:
        a new one ends the one before it.

        Raises ValueError for more than `max_broken` broken samples, and for a source none of whose
        samples can be used.
        """
        self.close()
        lanes = list(self._states)
        if self._workers:
            shared = [lanes[worker :: self._workers] for worker in range(self._workers)]
            states = [{lane: self._states[lane] for lane in some} for some in shared]
            language = Language.of(self._sequencer)
            self._streams = [Worker(self._plan, language, some) for some in states]
        else:
            self._streams = [in_turn(self._feed, lanes, self._states)]
        return self._merged(self._streams)

    def _merged(self, streams: Sequence[Iterator[Message]]) -> Iterator[Row]:
        """The rows of all workers: again the lane that has given the fewest is next."""
        of = {lane: streams[at % len(streams)] for at, lane in enumerate(self._states)}
        going = [(state.get("rows", 0), lane) for lane, state in self._states.items()]
        heapify(going)
        while going and self._streams is streams:
            rows, lane = going[0]
            message = next(of[lane])
            if isinstance(message, Failed):
                raise ValueError(message.reason)
            assert message.lane == lane
            self._states[lane] = message.state
            if message.counts["broken"]:
                broken = self.counts["broken"]
                if broken > self._plan.max_broken:
                    raise too_many(broken, self._plan.max_broken, message.reports[-1])
            if isinstance(message, Ended):
                heappop(going)
            else:
                heapreplace(going, (rows + 1, lane))
                yield message

    def close(self) -> None:
        """End the workers. The loader can be iterated over again, from where it is."""
        for stream in self._streams:
            if isinstance(stream, Worker):
                stream.close()
        self._streams = []

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # State.

    def state(self) -> dict[str, Any]:
        """Where this process is after the last row that was taken, as JSON."""
        return {**self._plan_in_words(), "states": {str(k): v for k, v in self._states.items()}}

    def load_state(self, saved: Sequence[Mapping[str, Any]]) -> list[str]:
        """Go on from the states of all processes of a run, however many they were.

        Returns what has changed since then and goes on all the same: shares.

        Raises ValueError where the order of data would not be the one that was begun.
        """
        if not saved:
            raise ValueError("there is no state of the data to go on from")
        here, notes = self._plan_in_words(), []
        found: dict[str, dict[str, Any]] = {}
        for one in saved:
            for name, value in here.items():
                if name != "shares" and one.get(name) != value:
                    raise ValueError(
                        f"the saved state of the data has {name} {_short(one.get(name))}, this run "
                        f"{_short(value)}; take the same, or begin the data anew"
                    )
            found |= one["states"]
        if missing := [lane for lane in range(self._plan.lanes) if str(lane) not in found]:
            raise ValueError(
                f"the saved state of the data lacks lanes {missing[:8]} of {self._plan.lanes}; "
                "give those of all processes"
            )
        states = {lane: dict(found[str(lane)]) for lane in self._states}
        if any(one.get("shares") != here["shares"] for one in saved):
            notes.append("the shares of the sources have changed; what they had is not made up for")
            states = {lane: {**state, "served": {}} for lane, state in states.items()}
        self.close()
        self._states = states
        return notes

    def _plan_in_words(self) -> dict[str, Any]:
        """What the order of data depends on beside the lanes' states."""
        plan, layout = self._plan, self._feed.layout
        return {
            "seed": plan.seed,
            "lanes": plan.lanes,
            "length": plan.length,
            "vocabulary": layout.grammar.vocabulary.hash,
            "format": hashlib.sha256(layout.grammar.source.encode()).hexdigest(),
            "samples": self.samples,
            "shares": shares_of(self._plan.sources),
        }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."

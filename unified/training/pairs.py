"""Preference pairs: two documents of one prompt, side by side in their shards.

A pair is two samples in a row, KEY-chosen and KEY-rejected (`unified data import preferences`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from unified.feeding import Row, Source
from unified.feeding.lane import Feed, Plan, too_many
from unified.feeding.order import sample_at
from unified.feeding.packing import Packer, fill_row
from unified.feeding.source import leaves
from unified.feeding.transforms import Draws
from unified.sequence import Sequencer

__all__ = ["Pair", "Pairs"]

_SUFFIXES = ("-chosen", "-rejected")


@dataclass(frozen=True, eq=False)
class Pair:
    """key: "source/KEY". documents: the chosen and the rejected one, as pieces of one."""

    key: str
    documents: tuple[Any, Any]


class Pairs:
    """The pairs of one source, shuffled anew for each epoch; every process takes its own.

    Raises ValueError for several sources, shards that hold no pairs, or too many broken ones.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        sequencer: Sequencer,
        length: int,
        seed: int,
        rank: int,
        world: int,
        max_broken: int,
    ) -> None:
        found = list(leaves(sources))
        if len(found) != 1:
            raise ValueError(f"preferences come from one source, found {[n for n, _ in found]}")
        self.name, self.source = found[0]
        self._plan = Plan(sources, length, 1, seed, max_broken)
        self._feed = Feed(self._plan, sequencer.grammar, sequencer.text_tokenizer)
        samples = len(self._feed.samples[self.name])
        if samples % 2:
            raise ValueError(f"source {self.name} holds {samples} samples, expected pairs of two")
        self.size = samples // 2
        self._seed, self._rank, self._world = seed, rank, world
        self.taken = 0
        self.counts = {"pairs": 0, "broken": 0}

    def read(self, number: int) -> Pair:
        """A pair by its number. Raises ValueError, naming shard and key, for a broken one."""
        pieces = []
        for sample in (2 * number, 2 * number + 1):
            found, _ = self._feed.pieces(self.name, sample, sample, Draws())
            if len(found) != 1:
                raise ValueError(
                    f"{found[0].key} is longer than a row of {self._plan.length} places; documents"
                    " of a pair must not be cut"
                )
            pieces.append(found[0])
        keys = [piece.key.removesuffix(end) for piece, end in zip(pieces, _SUFFIXES)]
        if keys[0] != keys[1] or any(k == p.key for k, p in zip(keys, pieces)):
            raise ValueError(
                f"{pieces[0].key} and {pieces[1].key} stand side by side, expected KEY-chosen and"
                " KEY-rejected; import the pairs with `unified data import preferences`"
            )
        return Pair(keys[0], (pieces[0], pieces[1]))

    def next(self) -> Pair | None:
        """This process's next pair; None where the source's epochs have ended."""
        while True:
            place = self.taken * self._world + self._rank
            if self.source.epochs is not None and place >= self.source.epochs * self.size:
                return None
            _, number = sample_at(place, self.size, self._seed, self.name)
            self.taken += 1
            try:
                pair = self.read(number)
            except ValueError as error:
                self.counts["broken"] += 1
                if self.counts["broken"] > self._plan.max_broken:
                    raise too_many(
                        self.counts["broken"], self._plan.max_broken, str(error)
                    ) from None
                continue
            self.counts["pairs"] += 1
            return pair

    def pack(self, pairs: list[Pair]) -> Iterator[tuple[Row, list[int]]]:
        """Rows of pairs' documents, and which document (2 * pair + 0 or 1) each of a row is."""
        layout = self._feed.layout
        packer = Packer(self._plan.length)
        numbers = {}
        for index, pair in enumerate(pairs):
            for which, piece in enumerate(pair.documents):
                numbers[id(piece)] = 2 * index + which
            packer.add(list(pair.documents))
        count = 0
        while pieces := packer.take():
            fields = fill_row(pieces, self._plan.length, layout.grammar.padding, layout.ranges)
            yield Row(**fields, lane=0, number=count, state={}), [numbers[id(p)] for p in pieces]
            count += 1

    # As a `Loader` has them.

    def state(self) -> dict[str, Any]:
        return {"taken": self.taken, "counts": dict(self.counts)}

    def load_state(self, states: list[dict[str, Any]]) -> None:
        """Of all processes. Raises ValueError for another number of them."""
        if len(states) != self._world:
            raise ValueError(
                f"the pairs were dealt out among {len(states)} processes, now there are"
                f" {self._world}; go on with as many as before"
            )
        self.taken = states[self._rank]["taken"]
        self.counts = dict(states[self._rank]["counts"])

    def close(self) -> None:
        """Nothing is held open."""

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

from unified.dataloading import Row, Source
from unified.dataloading.lane import Feed, Plan, too_many
from unified.dataloading.order import sample_at
from unified.dataloading.packing import Packer, fill_row
from unified.dataloading.samples import Samples
from unified.dataloading.source import leaves
from unified.dataloading.transforms import Draws
from unified.sequence.sequencer import Sequencer

__all__ = ["Pair", "Pairs"]

_CHOSEN, _REJECTED = "-chosen", "-rejected"
_MAX_REPORTS = 8


@dataclass(frozen=True, eq=False)
class Pair:
    """number: of all pairs found. key: "source/KEY". documents: the chosen and the rejected one, as
    pieces of one."""

    number: int
    key: str
    documents: tuple[Any, Any]


class Pairs:
    """The pairs of one source, shuffled anew for each epoch; every process takes its own.

    What is broken is left out before the first step (`leave_out`), so that every step takes as
    many pairs, and which these are depends on nothing but the seed.

    Attributes:
        num_found: all pairs, broken ones too. size: without those.
        digest: of the samples' keys. reports: one line for some of what is broken.
        counts: pairs taken by this process, and samples and pairs that are broken.

    Raises ValueError for several sources, one with anything drawn at random, shards that hold no
    pairs, or too many broken ones.
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
        if self.source.noise or self.source.drop_prompt or self.source.orders != "as_is":
            raise ValueError(
                f"source {self.name} has noise, drop_prompt or orders; documents of preferences"
                " are always the same, or their reference would be of others"
            )
        self._plan = Plan(sources, length, 1, seed, max_broken)
        self._feed = Feed(self._plan, sequencer.grammar, sequencer.text_tokenizer)
        self._seed, self._rank, self._world = seed, rank, world
        self._place = 0
        self.reports: list[str] = []
        self.counts = {"pairs": 0, "broken": 0}
        self._starts, self.digest = self._find(self._feed.samples[self.name])
        self._numbers = np.arange(len(self._starts))
        self.num_found = len(self._starts)
        if not self.num_found:
            raise ValueError(
                f"source {self.name} holds no pairs, KEY-chosen beside KEY-rejected; import them"
                " with `unified data import preferences`"
            )

    @property
    def size(self) -> int:
        return len(self._numbers)

    def _find(self, samples: Samples) -> tuple[array[int], str]:
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
        self.counts["broken"] += 1
        if len(self.reports) < _MAX_REPORTS:
            self.reports.append(reason)
        if self.counts["broken"] > self._plan.max_broken:
            raise too_many(self.counts["broken"], self._plan.max_broken, reason)

    def read(self, number: int) -> Pair:
        """A pair of all that were found. Raises ValueError, naming shard and key, if it is broken.

        One of whose documents does not fit into a row is broken, too.
        """
        start = self._starts[number]
        pieces = []
        for sample in (start, start + 1):
            found, _ = self._feed.pieces(self.name, sample, sample, Draws())
            if len(found) != 1:
                raise ValueError(
                    f"{found[0].key} is longer than a row of {self._plan.length} places; documents"
                    " of a pair must not be cut"
                )
            pieces.append(found[0])
        return Pair(number, pieces[0].key.removesuffix(_CHOSEN), (pieces[0], pieces[1]))

    def leave_out(self, numbers: Sequence[int]) -> None:
        """Never give these pairs, which are broken. ValueError for too many, or for all."""
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
        places = range(self._place + self._rank, self._place + count * self._world, self._world)
        self._place += count * self._world
        found = []
        for place in places:
            if self.source.epochs is not None and place >= self.source.epochs * self.size:
                break
            _, index = sample_at(place, self.size, self._seed, self.name)
            found.append(self.read(int(self._numbers[index])))
        self.counts["pairs"] += len(found)
        return found

    def pack(self, pairs: Sequence[Pair]) -> Iterator[tuple[Row, list[int]]]:
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
            row = Row(**fields, lane=0, number=count, counts={}, reports=(), state={})
            yield row, [numbers[id(piece)] for piece in pieces]
            count += 1

    # As a `Loader` has them.

    def state(self) -> dict[str, Any]:
        return {"place": self._place, "counts": dict(self.counts)}

    def load_state(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Of all processes, however many there were: each had as many pairs of a step."""
        self._place = states[0]["place"]
        if len(states) == self._world:
            self.counts["pairs"] = states[self._rank]["counts"]["pairs"]
        elif self._rank == 0:
            self.counts["pairs"] = sum(state["counts"]["pairs"] for state in states)

    def close(self) -> None:
        """Nothing is held open."""

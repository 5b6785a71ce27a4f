"""One lane of the order of data: a stream of rows that depends on nothing but seed and sources.

A lane mixes the sources, draws every so-manieth sample of each, lays it out and packs it. Its state
after a row is small and exact: rows that follow it are the same whoever makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unified.dataloading.layout import Layout
from unified.dataloading.mixing import Mixture
from unified.dataloading.order import sample_at
from unified.dataloading.packing import Packer, Piece, TooLongError, fill_row, pieces_of
from unified.dataloading.row import COUNTS, Row
from unified.dataloading.samples import Samples, allow_open
from unified.dataloading.source import Source, leaves
from unified.dataloading.transforms import Draws, transform
from unified.formats.grammar import Grammar
from unified.vocabulary.text_tokenizer import TextTokenizer

__all__ = ["Feed", "Lane", "Plan"]

_BARREN = 1000
"""So many samples of a source in a row without one that can be used: the source is of no use."""
_MAX_REPORTS = 8


@dataclass(frozen=True)
class Plan:
    """What the order of data depends on, and how many broken samples end it."""

    sources: Mapping[str, Source]
    length: int
    lanes: int
    seed: int
    max_broken: int


class Feed:
    """What the lanes of one process share: the sources' shards, and a layout with its memory."""

    def __init__(self, plan: Plan, grammar: Grammar, text_tokenizer: TextTokenizer) -> None:
        self.plan = plan
        self.sources = dict(leaves(plan.sources))
        self.samples = {
            name: Samples(name, source, grammar.vocabulary) for name, source in self.sources.items()
        }
        allow_open(sum(samples.num_shards for samples in self.samples.values()))
        self.layout = Layout(grammar, text_tokenizer)

    def pieces(self, name: str, place: int, sample: int, draws: Draws) -> tuple[list[Piece], bool]:
        """A sample of a source as pieces, and whether it kept its order though it was not to.

        Raises ValueError naming shard and key; TooLongError where it does not fit into rows.
        """
        samples = self.samples[name]
        key, segments = samples.read(sample)
        try:
            laid, shown, kept = transform(self.layout, segments, self.sources[name], draws)
            full = f"{name}/{key}"
            return pieces_of(laid, shown, self.plan.length, full, name, place), kept
        except ValueError as error:
            kind = TooLongError if isinstance(error, TooLongError) else ValueError
            raise kind(f"{samples.where(sample, key)}: {error}") from None

    def drawn(self, name: str, place: int) -> tuple[list[Piece], bool]:
        """The sample at a place of a source's endless order, with all that is drawn for it."""
        seed = self.plan.seed
        epoch, sample = sample_at(place, len(self.samples[name]), seed, name)
        return self.pieces(name, place, sample, Draws.of(seed, name, epoch, sample))


class Tally:
    """What has been laid out or left out since the last row."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(COUNTS, 0)
        self._reports: list[str] = []

    def add(self, pieces: list[Piece], kept_order: bool) -> int:
        """Count a document; its ids."""
        ids = sum(map(len, pieces))
        self.counts["documents"] += 1
        self.counts["ids"] += ids
        self.counts["cut"] += len(pieces) > 1
        self.counts["kept_order"] += kept_order
        return ids

    def leave_out(self, error: ValueError) -> None:
        self.counts["too_long" if isinstance(error, TooLongError) else "broken"] += 1
        if len(self._reports) < _MAX_REPORTS:
            self._reports.append(str(error))

    def hand_over(self) -> dict[str, Any]:
        """The fields of the next row, which begins a new count."""
        fields = {"counts": self.counts, "reports": tuple(self._reports)}
        self.counts, self._reports = dict.fromkeys(COUNTS, 0), []
        return fields


class Lane:
    """The rows of one lane, and how many it has given.

    state: where to go on, as `state` gives it; {} at the beginning.
    """

    def __init__(self, feed: Feed, number: int, state: Mapping[str, Any]) -> None:
        self.number = number
        self._feed = feed
        self._mixture = Mixture(feed.plan.sources, feed.plan.seed, number)
        self._packer = Packer(feed.plan.length)
        self.rows = state.get("rows", 0)
        self._taken = dict.fromkeys(feed.sources, 0) | state.get("taken", {})
        self._totals = dict.fromkeys(COUNTS, 0) | state.get("totals", {})
        self._tally = Tally()
        self._barren = dict.fromkeys(feed.sources, 0)
        for name, ids in state.get("served", {}).items():
            self._mixture.serve(name, ids)
        self._wait_again(state.get("waiting", []))

    def _wait_again(self, references: list[list[Any]]) -> None:
        read: dict[tuple[str, int], list[Piece]] = {}
        for name, place, number in references:
            if (name, place) not in read:
                read[name, place] = self._feed.drawn(name, place)[0]
            pieces = read[name, place]
            if number >= len(pieces):
                raise ValueError(
                    f"a document of source {name} that waits for a row has become shorter since "
                    "the state was saved; begin the data anew"
                )
            self._packer.add([pieces[number]])

    @property
    def state(self) -> dict[str, Any]:
        """All that the rows to come depend on, as JSON."""
        return {
            "rows": self.rows,
            "taken": dict(self._taken),
            "served": self._mixture.served,
            "waiting": [list(piece.reference) for piece in self._packer.waiting],
            "totals": dict(self._totals),
        }

    def next(self) -> Row | None:
        """The next row, None once the sources have ended.

        Raises ValueError for too many broken samples, or a source that has only such.
        """
        while self._packer.wants_more:
            name = self._mixture.next()
            if name is None:
                break
            self._draw(name)
        pieces = self._packer.take()
        if not pieces:
            return None
        plan, layout = self._feed.plan, self._feed.layout
        fields = fill_row(pieces, plan.length, layout.grammar.padding, layout.ranges)
        self.rows += 1
        return Row(**fields, **self.last(), lane=self.number, number=self.rows - 1)

    def last(self) -> dict[str, Any]:
        """Counts, reports and the state, for a row or for the end."""
        for name, count in self._tally.counts.items():
            self._totals[name] += count
        return {**self._tally.hand_over(), "state": self.state}

    def _draw(self, name: str) -> None:
        """Take the lane's next sample of a source, or end the source."""
        epochs = self._feed.sources[name].epochs
        place = self.number + self._taken[name] * self._feed.plan.lanes
        if epochs is not None and place >= epochs * len(self._feed.samples[name]):
            self._mixture.end(name)
            return
        self._taken[name] += 1
        try:
            pieces, kept = self._feed.drawn(name, place)
        except ValueError as error:
            self._leave_out(name, error)
        else:
            self._barren[name] = 0
            self._mixture.serve(name, self._tally.add(pieces, kept))
            self._packer.add(pieces)

    def _leave_out(self, name: str, error: ValueError) -> None:
        self._tally.leave_out(error)
        self._barren[name] += 1
        if self._barren[name] == _BARREN:
            raise ValueError(
                f"source {name}: none of {_BARREN} samples can be used; the last: {error}"
            )
        broken = self._totals["broken"] + self._tally.counts["broken"]
        if broken > self._feed.plan.max_broken:
            raise too_many(broken, self._feed.plan.max_broken, str(error))


def too_many(broken: int, most: int, last: str) -> ValueError:
    """The error of a run that has met more broken samples than it may."""
    return ValueError(f"{broken} samples are broken, max_broken is {most}; the last: {last}")

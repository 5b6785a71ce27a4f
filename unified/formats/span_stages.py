"""The stages of a declared span in the order of its ids, and the codes inside their items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from unified.formats.spec import CodesItem, Delayed, Item, Repeat, SizeVariable
from unified.vocabulary.block import Block, Ranges
from unified.vocabulary.vocabulary import Vocabulary

Env = Mapping[str, int]


class Leaf(NamedTuple):
    """One expected id in [lo, hi). level: codebook level, or -1 for a marker. depth: its index
    within its position. rising: it is at least the id so many before it in its level; 0: any."""

    lo: int
    hi: int
    ranges: Ranges
    level: int
    depth: int = 0
    rising: int = 0


class PositionRest(NamedTuple):
    """Codes to come in a position of several: the level of each, and the ids allowed. All are empty
    where something else may come, or no choice is left.

    first: those ids allowed next that are codes of the position; others begin none.
    """

    levels: tuple[int, ...] = ()
    ranges: tuple[Ranges, ...] = ()
    first: Ranges = ()


class LeafRun:
    """A run of leaves. done: position -> index of the row or frame complete with it.

    lows: int64 (length,), the least id of each leaf. levels, depths: int64 (length,), theirs.
    rises: whether a leaf depends on an id before it.
    """

    __slots__ = ("_rests", "depths", "done", "leaves", "length", "levels", "lows", "rises")

    def __init__(self, leaves: tuple[Leaf, ...], done: dict[int, int]):
        self.leaves = leaves
        self.length = len(leaves)
        self.done = done
        self.lows = np.array([leaf.lo for leaf in leaves], dtype=np.int64)
        self.levels = np.array([leaf.level for leaf in leaves], dtype=np.int64)
        self.depths = np.array([leaf.depth for leaf in leaves], dtype=np.int64)
        self.rises = any(leaf.rising for leaf in leaves)
        self._rests: dict[int, PositionRest] = {}  # by position

    def settled(self, at: int, number: int, ranges: Ranges) -> list[Ranges]:
        """What is allowed at leaf `at` and behind it, `number` at most, as far as that is settled.
        ranges: of leaf `at`."""
        leaves = self.leaves[at : at + number]
        if not self.rises:
            return [leaf.ranges for leaf in leaves]
        # What a leaf that rises may be follows from an id that may still be to come.
        stop = next((n for n, leaf in enumerate(leaves) if n and leaf.rising), len(leaves))
        return [ranges if not n else leaf.ranges for n, leaf in enumerate(leaves[:stop])]

    def rest_of_position(self, at: int) -> PositionRest:
        """The codes from leaf `at` to the end of its position, where that holds several."""
        rest = self._rests.get(at)
        if rest is None:
            stop = at + 1
            while stop < self.length and self.leaves[stop].depth:
                stop += 1
            leaves = self.leaves[at:stop]
            rest = PositionRest()
            several = len(leaves) > 1 or leaves[0].depth > 0
            if several and all(leaf.level >= 0 and leaf.hi - leaf.lo > 1 for leaf in leaves):
                levels, ranges = zip(*((leaf.level, leaf.ranges) for leaf in leaves))
                rest = PositionRest(levels, ranges, ranges[0])
            self._rests[at] = rest
        return rest


@dataclass(frozen=True)
class SizeStage:
    """A size variable as one id of a block: its code + 1 is the value."""

    name: str
    block: Block


@dataclass(frozen=True)
class DigitsStage:
    """A size variable in decimal digits, at most `max_digits`. ids: of the digits 0 to 9."""

    name: str
    max_digits: int
    ids: tuple[int, ...]


@dataclass(frozen=True)
class DelayFlush:
    """The steps after the last code of level 0, in which the delayed levels catch up."""

    of: Delayed


@dataclass(frozen=True)
class LastTurn:
    """The turn that ends an open repeat, all its codes being `of.until`."""

    of: Repeat


SpanItem = Item | DelayFlush | LastTurn


@dataclass(frozen=True)
class RunStage:
    """Items that are fully determined once the size variables are known."""

    items: tuple[SpanItem, ...]


@dataclass(frozen=True)
class OpenStage:
    """Items repeated at least once, until the next stage begins; `variable` counts the repeats.

    warmup: the first repeats in which delayed levels have no code yet; 0 without delays.
    until: the code that ends it where a repeat has it in every level, see `LastTurn`.
    """

    items: tuple[Item, ...]
    variable: str
    warmup: int = 0
    until: int | None = None


Stage = SizeStage | DigitsStage | RunStage | OpenStage
Axis = tuple[str | None, int]
"""Length of an axis of the grid: (size variable, factor), or (None, length) where it is fixed."""


def latest_level(item: Delayed) -> int:
    """The level with the largest delay; the highest of them where several have it."""
    return max(range(len(item.by)), key=lambda k: (item.by[k], k))


def read_stages(items: tuple[Item, ...], vocabulary: Vocabulary) -> tuple[Stage, ...]:
    """The stages of a span's items; determined items that follow one another are one run."""
    stages: list[Stage] = []

    def run(item: SpanItem) -> None:
        if stages and isinstance(stages[-1], RunStage):
            stages[-1] = RunStage((*stages[-1].items, item))
        else:
            stages.append(RunStage((item,)))

    for item in items:
        if isinstance(item, SizeVariable) and item.block is not None:
            stages.append(SizeStage(item.name, vocabulary.block(item.block)))
        elif isinstance(item, SizeVariable):
            digits = [vocabulary.literal(digit) for digit in "0123456789"]
            if any(len(ids) != 1 for ids in digits):
                raise ValueError(f"the vocabulary writes digits as {digits}, expected an id each")
            stages.append(DigitsStage(item.name, item.digits, tuple(ids[0] for ids in digits)))
        elif isinstance(item, Repeat) and item.count is None:
            assert item.sets is not None
            stages.append(OpenStage(item.of, item.sets, until=item.until))
            if item.until is not None:
                run(LastTurn(item))
        elif isinstance(item, Delayed):
            stages.append(OpenStage((item,), item.sets, max(item.by)))
            run(DelayFlush(item))
        else:
            run(item)
    return tuple(stages)


def counters(items: tuple[SpanItem, ...]) -> tuple[str, ...]:
    """The size variables that repeats inside `items` count by."""
    names: list[str] = []
    for item in items:
        if isinstance(item, DelayFlush):
            names.append(item.of.sets)
        elif isinstance(item, Repeat):
            names += [item.count] if isinstance(item.count, str) else []
            names += counters(item.of)
    return tuple(dict.fromkeys(names))


def code_paths(
    items: tuple[SpanItem, ...], axes: tuple[Axis, ...]
) -> list[tuple[CodesItem, tuple[Axis, ...]]]:
    """Every item of codes with the counts of the repeats around it, outermost first."""
    paths: list[tuple[CodesItem, tuple[Axis, ...]]] = []
    for item in items:
        if isinstance(item, CodesItem):
            paths.append((item, axes))
        elif isinstance(item, Delayed):
            paths.append((CodesItem(item.kind), (*axes, (item.sets, 1))))
        elif isinstance(item, Repeat):
            if isinstance(item.count, int):
                axis: Axis = (None, item.count * item.times)
            else:
                axis = (item.count if item.count is not None else item.sets, item.times)
            paths += code_paths(item.of, (*axes, axis))
    return paths

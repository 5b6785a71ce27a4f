"""What a declared span runs through: its stages, and what the items inside them hold."""

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
    """One expected id in [lo, hi). level: codebook level, or -1 for a marker."""

    lo: int
    hi: int
    ranges: Ranges
    level: int


class Plan:
    """A run of leaves. done: position -> index of the row or frame complete with it.

    lows: int64 (length,), the least id of each leaf. levels: int64 (length,), theirs.
    """

    __slots__ = ("done", "leaves", "length", "levels", "lows")

    def __init__(self, leaves: tuple[Leaf, ...], done: dict[int, int]):
        self.leaves = leaves
        self.length = len(leaves)
        self.done = done
        self.lows = np.array([leaf.lo for leaf in leaves], dtype=np.int64)
        self.levels = np.array([leaf.level for leaf in leaves], dtype=np.int64)


@dataclass(frozen=True)
class SizeStage:
    name: str
    block: Block


@dataclass(frozen=True)
class DigitsStage:
    """A register in decimal digits, at most `most` of them. ids: of the digits 0 to 9."""

    name: str
    most: int
    ids: tuple[int, ...]


@dataclass(frozen=True)
class DelayFlush:
    """What delayed levels still hold once the first one is through."""

    of: Delayed


@dataclass(frozen=True)
class RunStage:
    items: tuple[Item | DelayFlush, ...]


@dataclass(frozen=True)
class OpenStage:
    """Items repeated at least once, until the next stage begins; sets `register` to how often.

    ramp: in its first so many turns levels come in, one after the other.
    """

    items: tuple[Item, ...]
    register: str
    ramp: int = 0


Stage = SizeStage | DigitsStage | RunStage | OpenStage
Axis = tuple[str | None, int]
"""Length of an axis of the grid: a register and how often its value is taken, or None and it."""


def latest_level(item: Delayed) -> int:
    """The last of the levels that come latest."""
    return max(range(len(item.by)), key=lambda k: (item.by[k], k))


def read_stages(items: tuple[Item, ...], vocabulary: Vocabulary) -> tuple[Stage, ...]:
    stages: list[Stage] = []

    def run(item: Item | DelayFlush) -> None:
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
            stages.append(OpenStage(item.of, item.sets))
        elif isinstance(item, Delayed):
            stages.append(OpenStage((item,), item.sets, max(item.by)))
            run(DelayFlush(item))
        else:
            run(item)
    return tuple(stages)


def counters(items: tuple[Item | DelayFlush, ...]) -> tuple[str, ...]:
    """The registers that repeats inside `items` count by."""
    names: list[str] = []
    for item in items:
        if isinstance(item, DelayFlush):
            names.append(item.of.sets)
        elif isinstance(item, Repeat):
            names += [item.count] if isinstance(item.count, str) else []
            names += counters(item.of)
    return tuple(dict.fromkeys(names))


def code_paths(
    items: tuple[Item | DelayFlush, ...], axes: tuple[Axis, ...]
) -> list[tuple[CodesItem, tuple[Axis, ...]]]:
    """Every item of codes with the counts of the repeats around it, outermost first."""
    found: list[tuple[CodesItem, tuple[Axis, ...]]] = []
    for item in items:
        if isinstance(item, CodesItem):
            found.append((item, axes))
        elif isinstance(item, Delayed):
            found.append((CodesItem(item.kind), (*axes, (item.sets, 1))))
        elif isinstance(item, Repeat):
            if isinstance(item.count, int):
                axis: Axis = (None, item.count * item.times)
            else:
                axis = (item.count if item.count is not None else item.sets, item.times)
            found += code_paths(item.of, (*axes, axis))
    return found

"""One declared span compiled against a vocabulary.

A span runs as stages: reading a register, a *run* of ids that is fully determined once the
registers are known, or an open repeat of such a run. A run is expanded, once for each set of
register values, into a flat plan of leaves, so that a step costs one comparison whatever the
nesting of its repeats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from unified.format_spec import Codes, Item, Marker, Register, Repeat
from unified.vocabulary import Block, Vocabulary

Ranges = tuple[tuple[int, int], ...]
Env = Mapping[str, int]


class Leaf(NamedTuple):
    """One expected id in [lo, hi). level: codebook level, or -1 for a marker."""

    lo: int
    hi: int
    ranges: Ranges
    level: int


class Plan:
    """A run of leaves. done: position -> index of the row or frame complete with it."""

    __slots__ = ("done", "leaves", "length")

    def __init__(self, leaves: tuple[Leaf, ...], done: dict[int, int]):
        self.leaves = leaves
        self.length = len(leaves)
        self.done = done

    def fill(self, codes_ids: list[np.ndarray]) -> np.ndarray:
        """The ids of the run, given the ids of each level it holds, in order, int64 (length,)."""
        ids = np.array([leaf.lo for leaf in self.leaves], dtype=np.int64)
        level = np.array([leaf.level for leaf in self.leaves])
        for k, level_ids in enumerate(codes_ids):
            where = level == k
            if where.any():
                ids[where] = level_ids
        return ids


@dataclass(frozen=True)
class RegisterStage:
    name: str
    block: Block


@dataclass(frozen=True)
class RunStage:
    items: tuple[Item, ...]


@dataclass(frozen=True)
class OpenStage:
    """Items repeated at least once, until the next stage begins; sets `register` to how often."""

    items: tuple[Item, ...]
    register: str


Stage = RegisterStage | RunStage | OpenStage


class SpanProgram:
    """A compiled span of one kind ("image", "audio").

    blocks: the codebook blocks by level. axes: for each axis of the grid, the register (str) or
    the fixed number (int) that gives its length.
    """

    def __init__(self, kind: str, items: tuple[Item, ...], vocabulary: Vocabulary):
        self.kind = kind
        self.vocabulary = vocabulary
        self.items = items
        self.blocks = vocabulary.levels(kind)
        if not self.blocks:
            raise ValueError(f"the format has {kind} spans, the vocabulary no block '{kind}.0'")
        first = items[0]
        assert isinstance(first, Marker)
        self.begin = vocabulary.marker(first.name)
        self.stages = _stages(items[1:], vocabulary)
        self.registers = tuple(s.name for s in self.stages if isinstance(s, RegisterStage))
        self.open_registers = tuple(s.register for s in self.stages if isinstance(s, OpenStage))
        self.axes = self._find_axes()
        self.header_stages = 1 + max(
            (i for i, s in enumerate(self.stages) if isinstance(s, RegisterStage)), default=-1
        )
        # Rows and frames are complete once the last stage that holds codes has given theirs.
        self._last_codes = max(
            i
            for i, s in enumerate(self.stages)
            if not isinstance(s, RegisterStage) and any(_code_paths(s.items, ()))
        )
        self._expanded = lru_cache(maxsize=512)(self._expand_stage)
        self._check_open_repeats()

    def plan(self, stage: int, env: Env) -> Plan:
        """The leaves of a run, or of one turn of an open repeat, under these registers."""
        found = self.stages[stage]
        assert not isinstance(found, RegisterStage)
        return self._expanded(stage, tuple((n, env[n]) for n in _counts(found.items)))

    def length(self, env: Env, stage: int = -1) -> int:
        """Ids of the span after `stage` (from its begin marker on if -1).

        Registers not in `env` count as 1, the least they can be.
        """
        total = 1 if stage < 0 else 0
        for found in self.stages[stage + 1 :]:
            if isinstance(found, RegisterStage):
                total += 1
            elif isinstance(found, RunStage):
                total += _length(found.items, env, len(self.blocks))
            else:
                turn = _length(found.items, env, len(self.blocks))
                total += env.get(found.register, 1) * turn
        return total

    def affine(self, name: str, env: Env, stage: int) -> tuple[int, int]:
        """(a, b) with length after `stage` = a + b * value of the register `name`, value >= 1."""
        one = self.length({**env, name: 1}, stage)
        slope = self.length({**env, name: 2}, stage) - one
        return one - slope, slope

    def grid(self, env: Env) -> tuple[int | None, ...]:
        return tuple(axis if isinstance(axis, int) else env.get(axis) for axis in self.axes)

    def fix_grid(self, grid: tuple[int, ...]) -> dict[str, int]:
        """Register values that give this grid, or ValueError where the format cannot."""
        if len(grid) != len(self.axes):
            raise ValueError(
                f"{self.kind} codes must have {len(self.axes)} axes after the levels "
                f"({' x '.join(str(a) for a in self.axes)}), found grid {grid}"
            )
        env: dict[str, int] = {}
        for axis, size in zip(self.axes, grid):
            if isinstance(axis, int) and axis != size:
                raise ValueError(f"{self.kind} grids of this format have {axis}, found {grid}")
            if isinstance(axis, str) and env.setdefault(axis, size) != size:
                raise ValueError(f"{self.kind} grids of this format have equal sides, found {grid}")
        for found in self.stages:
            if isinstance(found, RegisterStage) and found.name in env:
                most = found.block.size
                if not 1 <= env[found.name] <= most:
                    raise ValueError(
                        f"{self.kind} grid {'x'.join(map(str, grid))}: {found.name} must be in "
                        f"1..{most}"
                    )
        return env

    def serialize(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes int64 (K, *grid) -> (ids int64 (L,), is_code bool (L,)), begin and end included."""
        if codes.shape[0] != len(self.blocks):
            raise ValueError(
                f"{self.kind} codes must have {len(self.blocks)} levels, found {codes.shape[0]}"
            )
        env = self.fix_grid(codes.shape[1:])
        level_ids = [
            self.vocabulary.to_ids(block.name, codes[k].reshape(-1))
            for k, block in enumerate(self.blocks)
        ]
        parts, is_code = [np.array([self.begin])], [np.array([False])]
        for at, stage in enumerate(self.stages):
            if isinstance(stage, RegisterStage):
                parts.append(
                    np.array([self.vocabulary.to_ids(stage.block.name, env[stage.name] - 1)])
                )
                is_code.append(np.array([False]))
                continue
            plan = self.plan(at, env)
            if isinstance(stage, OpenStage):
                turns = env[stage.register]
                plan = Plan(plan.leaves * turns, {})
            parts.append(plan.fill(level_ids))
            is_code.append(np.array([leaf.level >= 0 for leaf in plan.leaves]))
        return np.concatenate(parts), np.concatenate(is_code)

    def _levels(self, codes: Codes) -> tuple[int, ...]:
        if codes.blocks == self.kind:
            return tuple(range(len(self.blocks)))
        for k, block in enumerate(self.blocks):
            if block.name == codes.blocks:
                return (k,)
        raise ValueError(
            f"{self.kind} spans of the format name block '{codes.blocks}'; the vocabulary has "
            f"{', '.join(b.name for b in self.blocks)}"
        )

    def _leaf(self, name: str) -> Leaf:
        id = self.vocabulary.marker(name)
        return Leaf(id, id + 1, ((id, id + 1),), -1)

    def _find_axes(self) -> tuple[int | str, ...]:
        found: dict[int, tuple[int | str, ...]] = {}
        for item, axes in _code_paths(self.items, ()):
            for k in self._levels(item):
                if k in found:
                    raise ValueError(f"{self.kind} spans of the format hold level {k} twice")
                found[k] = axes
        if len(found) != len(self.blocks) or len(set(found.values())) != 1:
            raise ValueError(
                f"{self.kind} spans of the format must hold each of the {len(self.blocks)} levels "
                f"of the vocabulary once, all in equal numbers; found level: counts {found}"
            )
        axes = next(iter(found.values()))
        if not 1 <= len(axes) <= 2:
            raise ValueError(f"{self.kind} codes must stand in one or two repeats, found {axes}")
        counted = [n for st in self.stages if isinstance(st, RunStage) for n in _counts(st.items)]
        for name in (*self.registers, *self.open_registers, *counted):
            if name not in axes:
                raise ValueError(f"{self.kind} spans: register {name} is no side of the grid")
        return axes

    def _check_open_repeats(self) -> None:
        for at, stage in enumerate(self.stages):
            # Budgets solve for one register at a time, so lengths must be linear in each: a side
            # that multiplies itself (h rows of h codes) would not be.
            name = getattr(stage, "register", getattr(stage, "name", None))
            if name is not None:
                a, b = self.affine(name, {}, at)
                if self.length({name: 3}, at) != a + 3 * b:
                    raise ValueError(f"{self.kind} spans: a repeat of {name} within itself")
            if isinstance(stage, OpenStage):
                if set(_counts(stage.items)) & {*self.open_registers}:
                    raise ValueError(f"{self.kind} spans: an open repeat counts inside another")
                env = dict.fromkeys((*self.registers, *self.open_registers), 1)
                again = self.plan(at, env).leaves[0]
                after = self.plan(at + 1, env).leaves[0]
                if again.lo < after.hi and after.lo < again.hi:
                    raise ValueError(
                        f"{self.kind} spans: an open repeat and what follows it begin alike"
                    )

    def _expand_stage(self, stage: int, counts: tuple[tuple[str, int], ...]) -> Plan:
        found = self.stages[stage]
        assert not isinstance(found, RegisterStage)
        out: list[tuple[Leaf, int | None]] = []
        # One turn of an open repeat is frame 0 of its plan; the state adds the turns before it.
        self._expand(found.items, dict(counts), 0 if isinstance(found, OpenStage) else None, out)
        done: dict[int, int] = {}
        if stage == self._last_codes:
            last = {frame: at for at, (_, frame) in enumerate(out) if frame is not None}
            done = {at: frame for frame, at in last.items()}
        return Plan(tuple(leaf for leaf, _ in out), done)

    def _expand(
        self,
        items: tuple[Item, ...],
        env: Env,
        index: int | None,
        out: list[tuple[Leaf, int | None]],
    ) -> None:
        """Append (leaf, index on the first axis of the grid or None) for every id of `items`."""
        for item in items:
            if isinstance(item, Marker):
                out.append((self._leaf(item.name), None))
            elif isinstance(item, Codes):
                for k in self._levels(item):
                    lo, hi = self.vocabulary.id_range(self.blocks[k].name)
                    out.append((Leaf(lo, hi, ((lo, hi),), k), index))
            elif isinstance(item, Repeat):
                assert item.count is not None
                times = item.count if isinstance(item.count, int) else env[item.count]
                for turn in range(times):
                    self._expand(item.of, env, turn if index is None else index, out)
                    if item.separator and (item.separate == "each" or turn < times - 1):
                        out.append((self._leaf(item.separator), None))


def _stages(items: tuple[Item, ...], vocabulary: Vocabulary) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    for item in items:
        if isinstance(item, Register):
            stages.append(RegisterStage(item.name, vocabulary.block(item.block)))
        elif isinstance(item, Repeat) and item.count is None:
            assert item.sets is not None
            stages.append(OpenStage(item.of, item.sets))
        elif stages and isinstance(stages[-1], RunStage):
            stages[-1] = RunStage((*stages[-1].items, item))
        else:
            stages.append(RunStage((item,)))
    return tuple(stages)


def _counts(items: tuple[Item, ...]) -> tuple[str, ...]:
    """The registers that repeats inside `items` count by."""
    names: list[str] = []
    for item in items:
        if isinstance(item, Repeat):
            names += [item.count] if isinstance(item.count, str) else []
            names += _counts(item.of)
    return tuple(dict.fromkeys(names))


def _code_paths(
    items: tuple[Item, ...], axes: tuple[int | str, ...]
) -> list[tuple[Codes, tuple[int | str, ...]]]:
    """Every Codes item with the counts of the repeats around it, outermost first."""
    found: list[tuple[Codes, tuple[int | str, ...]]] = []
    for item in items:
        if isinstance(item, Codes):
            found.append((item, axes))
        elif isinstance(item, Repeat):
            axis = item.count if item.count is not None else item.sets
            assert axis is not None
            found += _code_paths(item.of, (*axes, axis))
    return found


def _length(items: tuple[Item, ...], env: Env, num_levels: int) -> int:
    total = 0
    for item in items:
        if isinstance(item, Codes):
            total += num_levels if "." not in item.blocks else 1
        elif isinstance(item, Repeat):
            times = item.count if isinstance(item.count, int) else env.get(str(item.count), 1)
            total += times * _length(item.of, env, num_levels)
            if item.separator is not None:
                total += times if item.separate == "each" else times - 1
        else:
            total += 1
    return total

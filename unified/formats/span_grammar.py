"""One declared span compiled against a vocabulary.

A span runs as stages: reading a register, a *run* of ids that is fully determined once the
registers are known, or an open repeat of such a run. A run is expanded, once for each set of
register values, into a flat plan of leaves, so that a step costs one comparison whatever the
nesting of its repeats.

Levels that come late (`format_spec.Delayed`) are an open repeat of steps and a run that ends what
is under way: the first steps and the last ones hold `fill` for the levels that have no code there.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from unified.formats.span_stages import (
    Axis,
    DelayFlush,
    DigitsStage,
    Env,
    Leaf,
    OpenStage,
    Plan,
    RunStage,
    SizeStage,
    code_paths,
    counters,
    latest_level,
    read_stages,
)
from unified.formats.spec import CodesItem, Delayed, Item, Literal, Marker, Repeat, SpanSpec
from unified.vocabulary.vocabulary import Vocabulary


class SpanGrammar:
    """A compiled span of one kind ("image", "audio", ...).

    modality: "image" or "audio". blocks: the codebook blocks by level. axes: the length of each
    axis of the grid.
    """

    def __init__(self, kind: str, span: SpanSpec, vocabulary: Vocabulary):
        self.kind = kind
        self.modality = span.modality
        self.terminal = span.terminal
        self.vocabulary = vocabulary
        self.items = span.items
        self.blocks = vocabulary.levels(kind)
        if not self.blocks:
            raise ValueError(f"the format has {kind} spans, the vocabulary no block '{kind}.0'")
        first = span.items[0]
        assert isinstance(first, Marker)
        self.begin = vocabulary.marker(first.name)
        self.stages = read_stages(span.items[1:], vocabulary)
        header = [s for s in self.stages if isinstance(s, SizeStage | DigitsStage)]
        self.registers = tuple(stage.name for stage in header)
        self.open_registers = tuple(s.register for s in self.stages if isinstance(s, OpenStage))
        self.axes = self._find_axes()
        self.header_stages = 1 + max((self.stages.index(stage) for stage in header), default=-1)
        # Rows and frames are complete once the last stage that holds codes has given theirs.
        self._last_codes = max(
            i
            for i, s in enumerate(self.stages)
            if isinstance(s, RunStage | OpenStage) and any(code_paths(s.items, ()))
        )
        self._expanded = lru_cache(maxsize=512)(self._expand_stage)
        self._check_open_repeats()

    def plan(self, stage: int, env: Env, turn: int = 0) -> Plan:
        """The leaves of a run, or of one turn of an open repeat, under these registers."""
        found = self.stages[stage]
        assert isinstance(found, RunStage | OpenStage)
        counts = tuple((n, env[n]) for n in counters(found.items))
        return self._expanded(stage, counts, min(turn, getattr(found, "ramp", 0)))

    def length(self, env: Env, stage: int = -1) -> int:
        """Ids of the span after `stage` (from its begin marker on if -1).

        Registers not in `env` count as 1, the least they can be.
        """
        total = 1 if stage < 0 else 0
        for found in self.stages[stage + 1 :]:
            if isinstance(found, SizeStage):
                total += 1
            elif isinstance(found, DigitsStage):
                total += len(str(env.get(found.name, 1)))
            else:
                turn = self._length(found.items, env)
                total += turn * (env.get(found.register, 1) if isinstance(found, OpenStage) else 1)
        return total

    def affine(self, name: str, env: Env, stage: int) -> tuple[int, int]:
        """(a, b) with length after `stage` = a + b * value of the register `name`, value >= 1."""
        one = self.length({**env, name: 1}, stage)
        slope = self.length({**env, name: 2}, stage) - one
        return one - slope, slope

    def grid(self, env: Env) -> tuple[int | None, ...]:
        """The lengths of the axes, None where a register is not in `env`."""
        return tuple(
            times if name is None else env[name] * times if name in env else None
            for name, times in self.axes
        )

    def fix_grid(self, grid: tuple[int, ...]) -> dict[str, int]:
        """SizeVariable values that give this grid, or ValueError where the format cannot."""
        if len(grid) != len(self.axes):
            names = [str(times) if name is None else name for name, times in self.axes]
            raise ValueError(
                f"{self.kind} codes must have {len(self.axes)} axes after the levels "
                f"({' x '.join(names)}), found grid {grid}"
            )
        env: dict[str, int] = {}
        for (name, times), size in zip(self.axes, grid):
            if name is None and times != size:
                raise ValueError(f"{self.kind} grids of this format have {times}, found {grid}")
            if name is None:
                continue
            if size % times or size < times:
                raise ValueError(
                    f"{self.kind} grids of this format have a multiple of {times}, found {grid}"
                )
            if env.setdefault(name, size // times) != size // times:
                raise ValueError(f"{self.kind} grids of this format have equal sides, found {grid}")
        for name, value in env.items():
            most = self.most(name)
            if most is not None and not 1 <= value <= most:
                raise ValueError(
                    f"{self.kind} grid {'x'.join(map(str, grid))}: {name} must be in 1..{most}"
                )
        return env

    def most(self, name: str | None) -> int | None:
        """The largest value that a size variable can have; None where nothing bounds it."""
        for stage in self.stages:
            if isinstance(stage, SizeStage | DigitsStage) and stage.name == name:
                return stage.block.size if isinstance(stage, SizeStage) else 10**stage.most - 1
        return None

    def expand(self, grid: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """(ids int64 (L,), level int64 (L,)) of a span with this grid, begin and end included.

        The level of an id that is no code is -1; ids of codes are each the least of their block.
        """
        env = self.fix_grid(grid)
        lows, levels = [np.array([self.begin])], [np.array([-1])]
        for at, stage in enumerate(self.stages):
            if isinstance(stage, SizeStage):
                found = np.array([self.vocabulary.to_ids(stage.block.name, env[stage.name] - 1)])
                parts = [(found, np.array([-1]))]
            elif isinstance(stage, DigitsStage):
                found = np.array([stage.ids[int(digit)] for digit in str(env[stage.name])])
                parts = [(found, np.full(len(found), -1))]
            else:
                turns = env[stage.register] if isinstance(stage, OpenStage) else 1
                plans = [self.plan(at, env, turn) for turn in range(turns)]
                parts = [(plan.lows, plan.levels) for plan in plans]
            lows += [low for low, _ in parts]
            levels += [level for _, level in parts]
        return np.concatenate(lows), np.concatenate(levels)

    def serialize(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes int64 (K, *grid) -> (ids int64 (L,), is_code bool (L,)), begin and end included."""
        self.check_levels(len(codes))
        ids, level = self.expand(codes.shape[1:])
        for k, block in enumerate(self.blocks):
            ids[level == k] = self.vocabulary.to_ids(block.name, codes[k].reshape(-1))
        return ids, level >= 0

    def check_levels(self, levels: int) -> None:
        """Raises ValueError for codes of another number of levels."""
        if levels != len(self.blocks):
            raise ValueError(
                f"{self.kind} codes must have {len(self.blocks)} levels, found {levels}"
            )

    def levels(self, codes: CodesItem) -> tuple[int, ...]:
        if codes.blocks == self.kind:
            return tuple(range(len(self.blocks)))
        for k, block in enumerate(self.blocks):
            if block.name == codes.blocks:
                return (k,)
        raise ValueError(
            f"{self.kind} spans of the format name block '{codes.blocks}'; the vocabulary has "
            f"{', '.join(b.name for b in self.blocks)}"
        )

    def _leaf(self, id: int) -> Leaf:
        return Leaf(id, id + 1, ((id, id + 1),), -1)

    def _code(self, level: int) -> Leaf:
        lo, hi = self.vocabulary.id_range(self.blocks[level].name)
        return Leaf(lo, hi, ((lo, hi),), level)

    def _find_axes(self) -> tuple[Axis, ...]:
        found: dict[int, tuple[Axis, ...]] = {}
        for codes, axes in code_paths(self.items, ()):
            for k in self.levels(codes):
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
        counted = [n for st in self.stages if isinstance(st, RunStage) for n in counters(st.items)]
        for name in (*self.registers, *self.open_registers, *counted):
            if name not in [axis for axis, _ in axes]:
                raise ValueError(f"{self.kind} spans: register {name} is no side of the grid")
        for item in self.items:
            if isinstance(item, Delayed) and len(item.by) != len(self.blocks):
                raise ValueError(
                    f"{self.kind} spans delay {len(item.by)} levels, the vocabulary has"
                    f" {len(self.blocks)}"
                )
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
            env = dict.fromkeys((*self.registers, *self.open_registers), 1)
            if isinstance(stage, OpenStage):
                if set(counters(stage.items)) & {*self.open_registers}:
                    raise ValueError(f"{self.kind} spans: an open repeat counts inside another")
                again = self.plan(at, env).leaves[0]
                after = self.plan(at + 1, env).leaves[0]
                if again.lo < after.hi and after.lo < again.hi:
                    raise ValueError(
                        f"{self.kind} spans: an open repeat and what follows it begin alike"
                    )
            if isinstance(stage, DigitsStage) and self.plan(at + 1, env).lows[0] in stage.ids:
                raise ValueError(f"{self.kind} spans: what follows the digits begins with one")

    def _expand_stage(self, stage: int, counts: tuple[tuple[str, int], ...], turn: int) -> Plan:
        found = self.stages[stage]
        assert isinstance(found, RunStage | OpenStage)
        out: list[tuple[Leaf, int | None]] = []
        # One turn of an open repeat is frame 0 of its plan; the state adds the turns before it.
        first = 0 if isinstance(found, OpenStage) else None
        self._expand(found.items, dict(counts), first, out, turn)
        done: dict[int, int] = {}
        if stage == self._last_codes or any(isinstance(item, DelayFlush) for item in found.items):
            last = {frame: at for at, (_, frame) in enumerate(out) if frame is not None}
            done = {at: frame for frame, at in last.items()}
        return Plan(tuple(leaf for leaf, _ in out), done)

    def _expand(
        self,
        items: tuple[Item | DelayFlush, ...],
        env: Env,
        index: int | None,
        out: list[tuple[Leaf, int | None]],
        turn: int = 0,
    ) -> None:
        """Append (leaf, index on the first axis of the grid or None) for every id of `items`."""
        for item in items:
            if isinstance(item, Marker):
                out.append((self._leaf(self.vocabulary.marker(item.name)), None))
            elif isinstance(item, Literal):
                out += [(self._leaf(id), None) for id in self.vocabulary.literal(item.text)]
            elif isinstance(item, CodesItem):
                out += [(self._code(k), index) for k in self.levels(item)]
            elif isinstance(item, Delayed):
                fill = self._leaf(self.vocabulary.marker(item.fill))
                latest = latest_level(item)
                for k, late in enumerate(item.by):
                    # A frame is complete with its code of the level that is latest.
                    frame = 0 if k == latest and turn >= late else None
                    out.append((self._code(k) if turn >= late else fill, frame))
            elif isinstance(item, DelayFlush):
                self._expand_ending(item.of, env[item.of.sets], out)
            elif isinstance(item, Repeat):
                times = self._times(item, env)
                for again in range(times):
                    self._expand(item.of, env, again if index is None else index, out)
                    if item.separator and (item.separate == "each" or again < times - 1):
                        separator = self.vocabulary.marker(item.separator)
                        out.append((self._leaf(separator), None))

    def _expand_ending(
        self, item: Delayed, frames: int, out: list[tuple[Leaf, int | None]]
    ) -> None:
        """The steps after the last of the first level: other levels have as many codes."""
        fill = self._leaf(self.vocabulary.marker(item.fill))
        for step in range(frames, frames + max(item.by)):
            for k, late in enumerate(item.by):
                code = late <= step < frames + late
                frame = step - late if code and k == latest_level(item) else None
                out.append((self._code(k) if code else fill, frame))

    @staticmethod
    def _times(item: Repeat, env: Env) -> int:
        count = item.count if isinstance(item.count, int) else env.get(str(item.count), 1)
        return count * item.times

    def _length(self, items: tuple[Item | DelayFlush, ...], env: Env) -> int:
        total = 0
        for item in items:
            if isinstance(item, CodesItem):
                total += len(self.levels(item))
            elif isinstance(item, Literal):
                total += len(self.vocabulary.literal(item.text))
            elif isinstance(item, Delayed):
                total += len(item.by)
            elif isinstance(item, DelayFlush):
                total += len(item.of.by) * max(item.of.by)
            elif isinstance(item, Repeat):
                times = self._times(item, env)
                total += times * self._length(item.of, env)
                if item.separator is not None:
                    total += times if item.separate == "each" else times - 1
            else:
                total += 1
        return total

"""One declared span compiled against a vocabulary.

A span is a row of stages: a size variable to be read, a *run* of ids that is fully determined once
the size variables are known, or an open repeat of such a run. A run is expanded, once for each set
of sizes, into a flat list of leaves, so that a step costs one comparison whatever the nesting of
its repeats.

Delayed levels (`spec.Delayed`) are an open repeat of steps and a run that flushes them: the warm-up
steps and the last ones hold `fill` for the levels that have no code there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from unified.formats.span_leaves import LeafExpander
from unified.formats.span_stages import (
    Axis,
    DelayFlush,
    DigitsStage,
    Env,
    LeafRun,
    OpenStage,
    RunStage,
    SizeStage,
    code_paths,
    counters,
    read_stages,
)
from unified.formats.spec import Delayed, Marker, SpanSpec
from unified.vocabulary.vocabulary import Vocabulary


class ExpandedSpan(NamedTuple):
    """A span of known sizes, begin and end included; all int64 (L,).

    levels: of codes; -1 for other ids. depths: the index of each id within its position.
    """

    ids: np.ndarray
    levels: np.ndarray
    depths: np.ndarray


class SpanGrammar:
    """A compiled span of one kind ("image", "audio", ...).

    modality: of its media. blocks: the codebook blocks by level. axes: the length of each
    axis of the grid. num_together: the most ids that a position holds.
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
        self.leaves = LeafExpander(kind, self.blocks, vocabulary)
        self.stages = read_stages(span.items[1:], vocabulary)
        header = [s for s in self.stages if isinstance(s, SizeStage | DigitsStage)]
        self.size_variables = tuple(stage.name for stage in header)
        self.open_variables = tuple(s.variable for s in self.stages if isinstance(s, OpenStage))
        self.axes = self._find_axes()
        self.header_stages = 1 + max((self.stages.index(stage) for stage in header), default=-1)
        # Rows and frames are complete once the last stage that holds codes has given theirs.
        self._last_codes = max(
            i
            for i, s in enumerate(self.stages)
            if isinstance(s, RunStage | OpenStage) and any(code_paths(s.items, ()))
        )
        self.num_together = max(
            (depth + 1 for stage in self.stages if isinstance(stage, RunStage | OpenStage)
             for depth in self.leaves.depths(stage.items)), default=1,
        )  # fmt: skip
        self._expanded = lru_cache(maxsize=512)(self._expand_stage)
        self._check_open_repeats()

    def run(self, stage: int, env: Env, repeat: int = 0) -> LeafRun:
        """The leaves of a run, or of one repeat of an open repeat, under these size variables."""
        items = self.stages[stage]
        assert isinstance(items, RunStage | OpenStage)
        counts = tuple((name, env[name]) for name in counters(items.items))
        warmup = items.warmup if isinstance(items, OpenStage) else 0
        return self._expanded(stage, counts, min(repeat, warmup))

    def length(self, env: Env, stage: int = -1, positions: bool = False) -> int:
        """Ids of the span after `stage` (from its begin marker on if -1).

        Size variables not in `env` count as 1, the least they can be. positions: count positions
        of the decoder in place of ids.
        """
        total = 1 if stage < 0 else 0
        for later in self.stages[stage + 1 :]:
            if isinstance(later, SizeStage):
                total += 1
            elif isinstance(later, DigitsStage):
                total += len(str(env.get(later.name, 1)))
            else:
                repeats = env.get(later.variable, 1) if isinstance(later, OpenStage) else 1
                total += repeats * self.leaves.length(later.items, env, positions)
        return total

    def affine(self, name: str, env: Env, stage: int) -> tuple[int, int]:
        """(a, b) with length after `stage` = a + b * value of the size variable `name`, >= 1."""
        shortest = self.length({**env, name: 1}, stage)
        slope = self.length({**env, name: 2}, stage) - shortest
        return shortest - slope, slope

    def grid(self, env: Env) -> tuple[int | None, ...]:
        """The lengths of the axes, None where a size variable is not in `env`."""
        return tuple(
            times if name is None else env[name] * times if name in env else None
            for name, times in self.axes
        )

    def fix_grid(self, grid: tuple[int, ...]) -> dict[str, int]:
        """The values of the size variables that give this grid.

        Raises ValueError where the format cannot say it.
        """
        size_words = "x".join(map(str, grid))
        if len(grid) != len(self.axes):
            raise ValueError(
                f"{self.kind} codes have a grid of {len(grid)} axes ({size_words}), the format's"
                f" have {len(self.axes)} ({self._axes_in_words()})"
            )
        env: dict[str, int] = {}
        for (name, times), size in zip(self.axes, grid):
            fits = size == times if name is None else size >= times and size % times == 0
            if fits and name is not None:
                fits = env.setdefault(name, size // times) == size // times
            if not fits:
                raise ValueError(
                    f"{self.kind} codes have a grid of {size_words}; the format's grids are"
                    f" {self._axes_in_words()}"
                )
        for stage in self.stages:
            if not isinstance(stage, SizeStage | DigitsStage) or stage.name not in env:
                continue
            largest = self.most(stage.name)
            assert largest is not None  # its stage is this one
            if not 1 <= env[stage.name] <= largest:
                raise ValueError(
                    f"{self.kind} codes have a grid of {size_words}; {stage.name} must be"
                    f" in 1..{largest}, found {env[stage.name]}"
                )
        return env

    def most(self, name: str | None) -> int | None:
        """The largest value that a size variable can have; None where nothing bounds it."""
        for stage in self.stages:
            if isinstance(stage, SizeStage) and stage.name == name:
                return stage.block.size
            if isinstance(stage, DigitsStage) and stage.name == name:
                return int(10**stage.max_digits) - 1
        return None

    def _axes_in_words(self) -> str:
        """Such as "32x32", "(2 times h)x(2 times w)" or "frames"."""
        names = [name if name is None or "@" not in name else "frames" for name, _ in self.axes]
        return "x".join(
            str(times) if name is None else f"({times} times {name})" if times > 1 else name
            for name, (_, times) in zip(names, self.axes)
        )

    def expand(self, grid: tuple[int, ...]) -> ExpandedSpan:
        """A span with this grid, the id of each code being the least of its block.

        Raises ValueError where the format cannot say it.
        """
        env = self.fix_grid(grid)
        lows, levels = [np.array([self.begin])], [np.array([-1])]
        depths = [np.array([0])]
        for at, stage in enumerate(self.stages):
            if isinstance(stage, SizeStage):
                lows.append(
                    np.array([self.vocabulary.to_ids(stage.block.name, env[stage.name] - 1)])
                )
                levels.append(np.array([-1]))
                depths.append(np.array([0]))
            elif isinstance(stage, DigitsStage):
                digits = str(env[stage.name])
                lows.append(np.array([stage.ids[int(digit)] for digit in digits]))
                levels.append(np.full(len(digits), -1))
                depths.append(np.zeros(len(digits), np.int64))
            else:
                repeats = env[stage.variable] if isinstance(stage, OpenStage) else 1
                for repeat in range(repeats):
                    run = self.run(at, env, repeat)
                    lows.append(run.lows)
                    levels.append(run.levels)
                    depths.append(run.depths)
        return ExpandedSpan(*map(np.concatenate, (lows, levels, depths)))

    def serialize(self, codes: np.ndarray) -> ExpandedSpan:
        """The span of codes int64 (K, *grid)."""
        self.check_levels(len(codes))
        span = self.expand(codes.shape[1:])
        for k, block in enumerate(self.blocks):
            span.ids[span.levels == k] = self.vocabulary.to_ids(block.name, codes[k].reshape(-1))
        return span

    def check_levels(self, levels: int) -> None:
        """Raises ValueError for codes of another number of levels."""
        if levels != len(self.blocks):
            raise ValueError(
                f"{self.kind} codes must have {len(self.blocks)} levels, found {levels}"
            )

    def _find_axes(self) -> tuple[Axis, ...]:
        axes_of: dict[int, tuple[Axis, ...]] = {}
        for codes, axes in code_paths(self.items, ()):
            for k in self.leaves.levels(codes):
                if k in axes_of:
                    raise ValueError(f"the format's {self.kind} spans hold level {k} twice")
                axes_of[k] = axes
        if len(axes_of) != len(self.blocks) or len(set(axes_of.values())) != 1:
            raise ValueError(
                f"the format's {self.kind} spans must hold each of the {len(self.blocks)} levels "
                f"of the vocabulary once, all in equal numbers; they hold levels"
                f" {', '.join(map(str, sorted(axes_of)))}, in {len(set(axes_of.values()))} numbers"
            )
        axes = next(iter(axes_of.values()))
        if not 1 <= len(axes) <= 2:
            raise ValueError(
                f"the codes of the format's {self.kind} spans stand in {len(axes)} nested repeats,"
                " expected one (frames) or two (rows of codes)"
            )
        counted = [n for st in self.stages if isinstance(st, RunStage) for n in counters(st.items)]
        for name in (*self.size_variables, *self.open_variables, *counted):
            if name not in [axis for axis, _ in axes]:
                raise ValueError(
                    f"the format's {self.kind} spans have register {name}, which is no side of"
                    " their grid of codes"
                )
        for item in self.items:
            if isinstance(item, Delayed) and len(item.by) != len(self.blocks):
                raise ValueError(
                    f"the format's {self.kind} spans delay {len(item.by)} levels, the vocabulary"
                    f" has {len(self.blocks)}"
                )
        return axes

    def _check_open_repeats(self) -> None:
        for at, stage in enumerate(self.stages):
            # Budgets solve for one size variable at a time, so lengths must be linear in each: a
            # side that multiplies itself (h rows of h codes) would not be.
            name = getattr(stage, "variable", getattr(stage, "name", None))
            if name is not None:
                a, b = self.affine(name, {}, at)
                if self.length({name: 3}, at) != a + 3 * b:
                    raise ValueError(
                        f"the format's {self.kind} spans repeat by {name} inside a repeat by {name}"
                    )
            env = dict.fromkeys((*self.size_variables, *self.open_variables), 1)
            if isinstance(stage, OpenStage):
                if set(counters(stage.items)) & {*self.open_variables}:
                    raise ValueError(
                        f"the format's {self.kind} spans have an open repeat that another counts by"
                    )
                again = self.run(at, env).leaves[0]
                after = self.run(at + 1, env).leaves[0]
                if again.lo < after.hi and after.lo < again.hi:
                    raise ValueError(
                        f"the format's {self.kind} spans have an open repeat that begins with"
                        " the same ids as what follows it: nothing would tell where it ends"
                    )
            if isinstance(stage, DigitsStage) and self.run(at + 1, env).lows[0] in stage.ids:
                raise ValueError(
                    f"the format's {self.kind} spans have a digit right behind the digits of"
                    f" {stage.name}: nothing would tell where they end"
                )

    def _expand_stage(
        self, stage: int, counts: tuple[tuple[str, int], ...], repeat: int
    ) -> LeafRun:
        run = self.stages[stage]
        assert isinstance(run, RunStage | OpenStage)
        # One repeat of an open repeat is frame 0 of its run; the state adds the repeats before it.
        first = 0 if isinstance(run, OpenStage) else None
        leaves = self.leaves.expand(run.items, dict(counts), first, repeat)
        done: dict[int, int] = {}
        if stage == self._last_codes or any(isinstance(item, DelayFlush) for item in run.items):
            last = {frame: at for at, (_, frame) in enumerate(leaves) if frame is not None}
            done = {at: frame for frame, at in last.items()}
        return LeafRun(tuple(leaf for leaf, _ in leaves), done)

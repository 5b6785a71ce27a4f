"""The state inside one image or audio span: what may come next, and the codes so far."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from unified.formats.coded import Event, FrameDone, RowDone, SpanBegin
from unified.formats.limits import UNLIMITED
from unified.formats.span_grammar import SpanGrammar
from unified.formats.span_stages import DigitsStage, OpenStage, Plan, SizeStage
from unified.vocabulary.block import Ranges


class _Ones(dict[str, int]):
    """Registers of which those not read yet are 1."""

    def __missing__(self, name: str) -> int:
        return 1


class SpanState:
    """A span after its begin marker.

    ranges: ids that may come next. finished: whether the span is complete.
    left: ids of the budget that remain; need: how many of them must remain after the span.
    fixed: least values of registers not read yet. forced: registers whose value is settled.
    most_turns: bound on the turns of an open repeat, or None.
    """

    __slots__ = (
        "at",
        "choice",
        "env",
        "finished",
        "fixed",
        "forced",
        "left",
        "levels",
        "most_turns",
        "need",
        "plan",
        "program",
        "ranges",
        "stage",
        "tail",
        "turns",
        "typed",
    )

    def __init__(
        self,
        program: SpanGrammar,
        left: int,
        need: int,
        fixed: Mapping[str, int],
        forced: Mapping[str, int],
        most_turns: int | None,
    ):
        self.program = program
        self.left = left
        self.need = need
        self.fixed = fixed
        self.forced = forced
        self.most_turns = most_turns
        self.finished = False
        self.env: dict[str, int] = {}
        self.levels: list[list[int]] = [[] for _ in program.blocks]
        self.stage = 0
        self.plan: Plan | None = None
        self.at = 0
        self.turns = -1  # turns done of the open repeat at hand, -1 outside one
        self.choice = False  # at a register, or between two turns of an open repeat
        self.typed = ""  # of a register in digits
        self.tail = (0, 0)
        self.ranges: Ranges = ()
        self._open_stage(0)

    def copy(self) -> SpanState:
        other = object.__new__(SpanState)
        for name in SpanState.__slots__:
            setattr(other, name, getattr(self, name))
        other.env = self.env.copy()
        other.levels = [level.copy() for level in self.levels]
        return other

    def lift(self) -> None:
        """Drop budget and limits."""
        self.left, self.need = UNLIMITED, 1
        self.fixed, self.forced, self.most_turns = {}, {}, None
        stage = self.program.stages[self.stage]
        if self.choice and isinstance(stage, OpenStage):
            self._open_turn()
        elif self.choice and isinstance(stage, DigitsStage):
            self.ranges = self._digit_ranges(stage)
        elif self.choice:
            self._open_stage(self.stage)

    def begin_event(self) -> SpanBegin:
        registers = {name: self.env[name] for name in self.program.registers}
        return SpanBegin(self.program.kind, registers, self.program.grid(self.env))

    @property
    def expects_marker(self) -> bool:
        """Whether only one id, a marker, can come next."""
        if not self.choice:
            assert self.plan is not None
            return self.plan.leaves[self.at].level < 0
        if self.plan is None or self.plan.leaves[0].ranges[0] in self.ranges:
            return False
        return self.program.plan(self.stage + 1, self.env).leaves[0].level < 0

    def advance(self, id: int) -> tuple[Event, ...] | None:
        """Take one id; the events it completes, or None (and no change) if it cannot come."""
        plan = self.plan
        opened: tuple[Event, ...] = ()
        if self.choice:
            for start, stop in self.ranges:
                if start <= id < stop:
                    break
            else:
                return None
            if plan is None:
                stage = self.program.stages[self.stage]
                if isinstance(stage, SizeStage):
                    return self._set_register(id)
                assert isinstance(stage, DigitsStage)
                if id in stage.ids:
                    return self._type(stage, id)
                self.env[stage.name] = int(self.typed)
                opened = self._next_stage()
                plan = self.plan
            else:
                leaf = plan.leaves[0]
                if not leaf.lo <= id < leaf.hi:
                    self._open_stage(self.stage + 1)
                    plan = self.plan
            self.choice = False
        assert plan is not None
        at = self.at
        leaf = plan.leaves[at]
        if not leaf.lo <= id < leaf.hi:
            return None
        self.left -= 1
        if leaf.level >= 0:
            self.levels[leaf.level].append(id)
        done = plan.done.get(at)
        events = opened if done is None else (*opened, self._progress(done))
        at += 1
        if at < plan.length:
            self.at = at
            self.ranges = plan.leaves[at].ranges
            return events
        if self.turns >= 0:
            self.turns += 1
            self._open_turn()
            return events
        return events + self._next_stage()

    def codes(self) -> np.ndarray:
        """The codes of the finished span, int64 (K, *grid)."""
        grid = self.program.grid(self.env)
        from_ids = self.program.vocabulary.from_ids
        return np.stack(
            [
                from_ids(block.name, np.array(ids)).reshape(grid)
                for block, ids in zip(self.program.blocks, self.levels)
            ]
        )

    def describe(self) -> str:
        """How far the span has come, for error messages."""
        number = sum(len(ids) for ids in self.levels)
        sides = [side for side in self.program.grid(self.env) if side is not None]
        if self.turns < 0 and len(sides) == len(self.program.axes):
            total = int(np.prod(sides)) * len(self.levels)
            shape = "x".join(str(side) for side in sides)
            levels = f", {len(self.levels)} levels" if len(self.levels) > 1 else ""
            return f"{number} codes of {total} ({shape}{levels})"
        return f"{number} codes"

    def _next_stage(self) -> tuple[Event, ...]:
        stage = self.stage + 1
        if stage == len(self.program.stages):
            self.finished = True
            self.ranges = ()
            return ()
        self._open_stage(stage)
        return (self.begin_event(),) if stage == self.program.header_stages else ()

    def _open_stage(self, stage: int) -> None:
        found = self.program.stages[stage]
        self.stage = stage
        self.at = 0
        self.turns = -1
        self.choice = True
        if isinstance(found, SizeStage):
            self.plan = None
            self.ranges = self._register_ranges(found)
            return
        if isinstance(found, DigitsStage):
            self.plan = None
            self.typed = ""
            self.ranges = self._digit_ranges(found)
            return
        self.plan = self.program.plan(stage, self.env)
        if isinstance(found, OpenStage):
            self.turns = 0
            self.tail = self.program.affine(found.register, {**self.fixed, **self.env}, stage)
            self._open_turn()
            return
        self.choice = False
        self.ranges = self.plan.leaves[0].ranges

    def _register_ranges(self, stage: SizeStage) -> Ranges:
        """The values of a register with which everything that must follow still fits."""
        vocabulary, block = self.program.vocabulary, stage.block.name
        if stage.name in self.forced:
            id = vocabulary.to_ids(block, self.forced[stage.name] - 1)
            return ((id, id + 1),)
        start, stop = vocabulary.id_range(block)
        base, slope = self.program.affine(stage.name, {**self.fixed, **self.env}, self.stage)
        if slope > 0:
            most = (self.left - 1 - self.need - base) // slope
            stop = min(stop, start + most)
        return ((start, stop),)

    def _digit_ranges(self, stage: DigitsStage) -> Ranges:
        """The digits that may come next, so that the value can be written and what must follow
        still fits; and what follows them, once there is a value."""
        typed = self.typed
        following = self.program.plan(self.stage + 1, _Ones(self.env)).leaves[0].lo
        if stage.name in self.forced:
            wanted = str(self.forced[stage.name])
            id = stage.ids[int(wanted[len(typed)])] if len(typed) < len(wanted) else following
            return ((id, id + 1),)
        base, slope = self.program.affine(stage.name, {**self.fixed, **self.env}, self.stage)
        ids = [following] if typed else []
        if len(typed) < stage.most:
            for digit in range(0 if typed else 1, 10):
                value = int(typed + str(digit))
                if self.left >= 1 + base + slope * value + self.need:
                    ids.append(stage.ids[digit])
        return tuple((id, id + 1) for id in sorted(ids))

    def _type(self, stage: DigitsStage, id: int) -> tuple[Event, ...]:
        self.typed += str(stage.ids.index(id))
        self.left -= 1
        self.ranges = self._digit_ranges(stage)
        return ()

    def _set_register(self, id: int) -> tuple[Event, ...]:
        stage = self.program.stages[self.stage]
        assert isinstance(stage, SizeStage)
        # The sizes 1, 2, ... are the codes 0, 1, ... of their block.
        self.env[stage.name] = self.program.vocabulary.from_ids(stage.block.name, id) + 1
        self.left -= 1
        return self._next_stage()

    def _open_turn(self) -> None:
        """Between two turns of an open repeat: another one, or what follows."""
        stage = self.program.stages[self.stage]
        assert isinstance(stage, OpenStage)
        turns = self.turns
        if turns <= stage.ramp:
            self.plan = self.program.plan(self.stage, self.env, turns)
        plan = self.plan
        assert plan is not None
        base, slope = self.tail
        self.choice = True
        self.at = 0
        if turns < self.fixed.get(stage.register, 1):
            self.ranges = plan.leaves[0].ranges
            return
        self.env[stage.register] = turns
        after = self.program.plan(self.stage + 1, self.env).leaves[0].ranges
        length = plan.length + base + slope * (turns + 1)
        again = self.most_turns is None or turns < self.most_turns
        if again and self.left >= length + self.need:
            self.ranges = tuple(sorted((*plan.leaves[0].ranges, *after)))
        else:
            self.ranges = after

    def _progress(self, index: int) -> Event:
        """The row or frame that is complete now."""
        program = self.program
        from_ids = program.vocabulary.from_ids
        if len(program.axes) == 1:
            stage = program.stages[self.stage]
            if self.turns >= 0:
                index = self.turns - (stage.ramp if isinstance(stage, OpenStage) else 0)
            codes = [from_ids(b.name, ids[index]) for b, ids in zip(program.blocks, self.levels)]
            return FrameDone(np.array(codes, dtype=np.int64), index, program.kind)
        width = program.grid(self.env)[1]
        assert width is not None
        rows = [
            from_ids(b.name, np.array(ids[index * width : (index + 1) * width]))
            for b, ids in zip(program.blocks, self.levels)
        ]
        return RowDone(program.kind, index, np.stack(rows))

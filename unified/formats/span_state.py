"""The state inside one span of codes: what may come next, and the codes so far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np

from unified.formats.coded import Event, FrameDone, RowDone, SpanBegin, StreamFrameDone
from unified.formats.limits import UNLIMITED
from unified.formats.span_grammar import SpanGrammar
from unified.formats.span_stages import DigitsStage, LeafRun, OpenStage, PositionRest, SizeStage
from unified.formats.streams import level_in_words
from unified.vocabulary.block import Ranges


class _Ones(dict[str, int]):
    """Size variables of which those not read yet are 1."""

    def __missing__(self, name: str) -> int:
        return 1


class SpanState:
    """A span after its begin marker.

    ranges: ids that may come next. finished: whether the span is complete.
    left: ids of the budget that remain; need: how many of them must remain after the span.
    fixed: least values of size variables not read yet. forced: their values where settled.
    max_repeats: bound on the repeats of an open repeat, or None.
    """

    __slots__ = (
        "at", "choice", "ending", "env", "finished", "fixed", "forced", "goes_on", "grammar",
        "left", "levels", "max_repeats", "may_end", "need", "ranges", "repeats", "run", "stage",
        "stream_ids", "tail", "typed", "until",
    )  # fmt: skip

    def __init__(
        self,
        grammar: SpanGrammar,
        left: int,
        need: int,
        fixed: Mapping[str, int],
        forced: Mapping[str, int],
        max_repeats: int | None,
        stream_ids: Mapping[int, Sequence[int]] | None = None,
    ):
        """stream_ids: those of some levels, which alone may come there."""
        self.grammar = grammar
        self.left = left
        self.need = need
        self.fixed = fixed
        self.forced = forced
        self.max_repeats = max_repeats
        self.stream_ids = stream_ids or {}
        self.finished = False
        self.env: dict[str, int] = {}
        self.levels: list[list[int]] = [[] for _ in grammar.blocks]
        self.stage = 0
        self.run: LeafRun | None = None
        self.at = 0
        self.repeats = -1  # completed ones of the open repeat at hand, -1 outside one
        self.choice = False  # at a size variable, or between two repeats of an open repeat
        # Of an open repeat that ends with a turn of known ids: those ids; and whether the turn
        # under way has no others so far, may be a frame, and may be the last.
        self.until: tuple[int, ...] = ()
        self.ending = self.goes_on = self.may_end = False
        self.typed = ""  # of a size variable in digits
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
        self.fixed, self.forced, self.max_repeats = {}, {}, None
        stage = self.grammar.stages[self.stage]
        if self.until:
            self.goes_on = True
            self.may_end = self.may_end or self.repeats > 0
            self.ranges = self._turn_ranges()
        elif self.choice and isinstance(stage, OpenStage):
            self._open_repeat()
        elif self.choice and isinstance(stage, DigitsStage):
            self.ranges = self._digit_ranges(stage)
        elif self.choice:
            self._open_stage(self.stage)

    def begin_event(self) -> SpanBegin:
        sizes = {name: self.env[name] for name in self.grammar.size_variables}
        return SpanBegin(self.grammar.kind, sizes, self.grammar.grid(self.env))

    @property
    def expects_marker(self) -> bool:
        """Whether only one id, a marker, can come next."""
        if not self.choice:
            assert self.run is not None
            return self.run.leaves[self.at].level < 0
        if self.run is None or self.run.leaves[0].ranges[0] in self.ranges:
            return False
        return self.grammar.run(self.stage + 1, self.env).leaves[0].level < 0

    @property
    def depth(self) -> int:
        """See `State.depth`."""
        return 0 if self.choice or self.run is None else self.run.leaves[self.at].depth

    @property
    def level(self) -> int:
        """See `State.level`."""
        if self.run is None or (self.choice and self.expects_marker):
            return -1
        return self.run.leaves[self.at].level

    @property
    def period(self) -> int:
        """See `State.period`."""
        run = self.run
        if run is None:
            return 0
        if self.repeats >= 0:
            return run.length
        ends = list(islice(run.done, 2))
        return ends[1] - ends[0] if len(ends) == 2 else 0

    def settled(self, number: int) -> list[Ranges]:
        """See `State.settled`."""
        if self.choice or self.run is None:
            return []
        return self.run.settled(self.at, number, self.ranges)

    def rest_of_position(self) -> PositionRest:
        """See `State.rest_of_position`."""
        run = self.run
        ending = self.until and (not self.goes_on or (self.ending and not self.may_end))
        if run is None or ending or (self.choice and run.leaves[0].ranges[0] not in self.ranges):
            return PositionRest()
        rest = run.rest_of_position(self.at)
        if not rest.levels or self.stream_ids.keys() & rest.levels:
            return PositionRest()
        return rest._replace(ranges=(self.ranges, *rest.ranges[1:]))

    def advance(self, id: int) -> tuple[Event, ...] | None:
        """Read one id; the events it completes, or None (and no change) if it cannot come."""
        run = self.run
        opened: tuple[Event, ...] = ()
        if self.choice:
            for start, stop in self.ranges:
                if start <= id < stop:
                    break
            else:
                return None
            if run is None:
                stage = self.grammar.stages[self.stage]
                if isinstance(stage, SizeStage):
                    return self._set_size(id)
                assert isinstance(stage, DigitsStage)
                if id in stage.ids:
                    return self._type(stage, id)
                self.env[stage.name] = int(self.typed)
                opened = self._next_stage()
                run = self.run
            else:
                leaf = run.leaves[0]
                if not leaf.lo <= id < leaf.hi:
                    self._open_stage(self.stage + 1)
                    run = self.run
            self.choice = False
        assert run is not None
        at = self.at
        leaf = run.leaves[at]
        if not leaf.lo <= id < leaf.hi:
            return None
        if (self.until or leaf.rising) and not any(a <= id < b for a, b in self.ranges):
            return None
        if self.until:
            self.ending = self.ending and id == self.until[at]
            if self.ending and at + 1 == run.length:
                return self._last_turn(run)
        self.left -= 1
        if leaf.level >= 0:
            self.levels[leaf.level].append(id)
            if leaf.level in self.grammar.stream_ends:
                opened = (*opened, self._stream_progress(leaf.level))
        done = run.done.get(at)
        events = opened if done is None else (*opened, self._progress(done))
        at += 1
        if at < run.length:
            self.at = at
            self.ranges = self._turn_ranges() if self.until else run.leaves[at].ranges
            if (level := run.leaves[at].level) in self.stream_ids:
                settled = self.stream_ids[level][len(self.levels[level])]
                self.ranges = ((settled, settled + 1),)
            if rising := run.leaves[at].rising:
                self.ranges = ((self.levels[level][-rising], run.leaves[at].hi),)
            return events
        if self.repeats >= 0:
            self.repeats += 1
            self._open_repeat()
            return events
        return events + self._next_stage()

    def codes(self) -> np.ndarray:
        """The codes of the finished span, int64 (K, *grid)."""
        grid = [side for side in self.grammar.grid(self.env) if side is not None]
        from_ids = self.grammar.vocabulary.from_ids
        return np.stack(
            [
                from_ids(block.name, np.array(ids)).reshape(grid)
                for block, ids in zip(self.grammar.blocks, self.levels)
            ]
        )

    def describe(self) -> str:
        """How far the span has come, for error messages."""
        number = sum(len(ids) for ids in self.levels)
        sides = [side for side in self.grammar.grid(self.env) if side is not None]
        if self.repeats < 0 and len(sides) == len(self.grammar.axes):
            total = int(np.prod(sides)) * len(self.levels)
            shape = "x".join(str(side) for side in sides)
            levels = f", {len(self.levels)} levels" if len(self.levels) > 1 else ""
            return f"{number} codes of {total} ({shape}{levels})"
        if self.depth or (self.grammar.streams and not self.choice):
            leaf = self.run.leaves[self.at] if self.run is not None else None
            level = self.depth if leaf is None or leaf.level < 0 else leaf.level
            return f"{number} codes, and goes on in {level_in_words(self.grammar.streams, level)}"
        return f"{number} codes"

    def _next_stage(self) -> tuple[Event, ...]:
        stage = self.stage + 1
        if stage == len(self.grammar.stages):
            self.finished = True
            self.ranges = ()
            return ()
        self._open_stage(stage)
        return (self.begin_event(),) if stage == self.grammar.header_stages else ()

    def _open_stage(self, stage: int) -> None:
        opening = self.grammar.stages[stage]
        self.stage = stage
        self.at = 0
        self.repeats = -1
        self.choice = True
        self.until = ()
        if isinstance(opening, SizeStage):
            self.run = None
            self.ranges = self._size_ranges(opening)
            return
        if isinstance(opening, DigitsStage):
            self.run = None
            self.typed = ""
            self.ranges = self._digit_ranges(opening)
            return
        self.run = self.grammar.run(stage, self.env)
        if isinstance(opening, OpenStage):
            self.repeats = 0
            self.tail = self.grammar.affine(opening.variable, {**self.fixed, **self.env}, stage)
            self.until = self.grammar.last_turns.get(stage, ())
            self._open_repeat()
            return
        self.choice = False
        self.ranges = self.run.leaves[0].ranges

    def _size_ranges(self, stage: SizeStage) -> Ranges:
        """The values of a size variable with which everything that must follow still fits."""
        vocabulary, block = self.grammar.vocabulary, stage.block.name
        if stage.name in self.forced:
            id = vocabulary.to_ids(block, self.forced[stage.name] - 1)
            return ((id, id + 1),)
        start, stop = vocabulary.id_range(block)
        base, slope = self.grammar.affine(stage.name, {**self.fixed, **self.env}, self.stage)
        if slope > 0:
            most = (self.left - 1 - self.need - base) // slope
            stop = min(stop, start + most)
        return ((start, stop),)

    def _digit_ranges(self, stage: DigitsStage) -> Ranges:
        """The digits that may come next, so that the value can be written and what must follow
        still fits; and what follows them, once there is a value."""
        typed = self.typed
        following = self.grammar.run(self.stage + 1, _Ones(self.env)).leaves[0].lo
        if stage.name in self.forced:
            wanted = str(self.forced[stage.name])
            id = stage.ids[int(wanted[len(typed)])] if len(typed) < len(wanted) else following
            return ((id, id + 1),)
        base, slope = self.grammar.affine(stage.name, {**self.fixed, **self.env}, self.stage)
        ids = [following] if typed else []
        if len(typed) < stage.max_digits:
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

    def _set_size(self, id: int) -> tuple[Event, ...]:
        stage = self.grammar.stages[self.stage]
        assert isinstance(stage, SizeStage)
        # The sizes 1, 2, ... are the codes 0, 1, ... of their block.
        self.env[stage.name] = self.grammar.vocabulary.from_ids(stage.block.name, id) + 1
        self.left -= 1
        return self._next_stage()

    def _open_repeat(self) -> None:
        """Between two repeats of an open repeat: another one, or what follows."""
        stage = self.grammar.stages[self.stage]
        assert isinstance(stage, OpenStage)
        repeats = self.repeats
        if repeats <= stage.warmup:
            self.run = self.grammar.run(self.stage, self.env, repeats)
        run = self.run
        assert run is not None
        base, slope = self.tail
        self.choice = not self.until
        self.at = 0
        self.ending = True
        self.may_end = repeats >= self.fixed.get(stage.variable, 1)
        if not self.may_end:
            self.goes_on = True
            self.ranges = self._turn_ranges() if self.until else run.leaves[0].ranges
            return
        self.env[stage.variable] = repeats
        length = run.length + base + slope * (repeats + 1)
        again = self.max_repeats is None or repeats < self.max_repeats
        self.goes_on = again and self.left >= length + self.need
        if self.until:
            self.ranges = self._turn_ranges()
            return
        after = self.grammar.after_open(self.stage, self.env)
        if self.goes_on:
            self.ranges = tuple(sorted((*run.leaves[0].ranges, *after)))
        else:
            self.ranges = after

    def _turn_ranges(self) -> Ranges:
        """What may come next in a turn that ends an open repeat if it is `until`."""
        assert self.run is not None
        leaf, last = self.run.leaves[self.at], self.until[self.at]
        if not self.goes_on:
            return ((last, last + 1),)
        if self.may_end or not self.ending or self.at + 1 < self.run.length:
            return leaf.ranges
        sides = ((leaf.lo, last), (last + 1, leaf.hi))
        return tuple((start, stop) for start, stop in sides if start < stop)

    def _last_turn(self, run: LeafRun) -> tuple[Event, ...]:
        """An open repeat is over: the turn whose last id has come is no frame."""
        for leaf in run.leaves[:-1]:
            self.levels[leaf.level].pop()
        self.left -= 1
        self._open_stage(self.stage + 1)
        assert self.run is not None
        self.at = run.length  # what follows begins with that turn
        if self.at == self.run.length:
            return self._next_stage()
        self.ranges = self.run.leaves[self.at].ranges
        return ()

    def _stream_progress(self, level: int) -> StreamFrameDone:
        """The frame of a stream that is complete with an id of this level."""
        grammar = self.grammar
        stream, frame = grammar.stream_ends[level], len(self.levels[level]) - 1
        codes = [
            grammar.vocabulary.from_ids(grammar.blocks[k].name, self.levels[k][frame])
            for k in grammar.streams[stream]
        ]
        return StreamFrameDone(np.array(codes, dtype=np.int64), frame, grammar.kind, stream)

    def _progress(self, index: int) -> Event:
        """The row or frame that is complete now."""
        grammar = self.grammar
        from_ids = grammar.vocabulary.from_ids
        if len(grammar.axes) == 1:
            stage = grammar.stages[self.stage]
            if self.repeats >= 0:
                index = self.repeats - (stage.warmup if isinstance(stage, OpenStage) else 0)
            codes = [from_ids(b.name, ids[index]) for b, ids in zip(grammar.blocks, self.levels)]
            return FrameDone(np.array(codes, dtype=np.int64), index, grammar.kind)
        size = math.prod(inner := [n for n in grammar.grid(self.env)[1:] if n is not None])
        rows = [
            from_ids(b.name, np.array(ids[index * size : (index + 1) * size])).reshape(inner)
            for b, ids in zip(grammar.blocks, self.levels)
        ]
        return RowDone(grammar.kind, index, np.stack(rows))

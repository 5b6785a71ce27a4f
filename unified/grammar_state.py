"""The state of one sequence under a grammar: what may come next, and what an id means.

One state serves as constraint (`allowed`), validator and streaming parser (`advance`). It lies on
the sampling path, so the ranges allowed now are kept ready: `allowed` only returns them, and
`advance` does a fixed amount of work whatever the length of the sequence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from unified.coded import (
    CODED_MEDIA,
    CodedText,
    End,
    Event,
    FrameDone,
    GrammarError,
    RoleChange,
    RowDone,
    SpanBegin,
    SpanEnd,
    TextIds,
)
from unified.limits import FREE, UNLIMITED, Limits
from unified.span_program import OpenStage, Plan, Ranges, RegisterStage, SpanProgram

if TYPE_CHECKING:
    from unified.grammar import Grammar

# Where a state stands in the document.
_START, _ITEM, _AFTER_ROLE, _AFTER_SEPARATOR, _TEXT, _SPAN, _END = range(7)


class State:
    """One sequence so far. Made by `Grammar.start`.

    position: ids taken so far. finished: whether the document is complete. role: of the segments
    now. opened: segments begun since the limits were set.
    """

    __slots__ = (
        "_at",
        "_begun_at",
        "_choice",
        "_env",
        "_kind",
        "_left",
        "_levels",
        "_need",
        "_owed",
        "_owed_ids",
        "_plan",
        "_program",
        "_ranges",
        "_rules",
        "_stage",
        "_tail",
        "_text",
        "_text_ok",
        "_turns",
        "_where",
        "finished",
        "grammar",
        "opened",
        "position",
        "role",
    )

    def __init__(self, grammar: Grammar, limits: Limits | None):
        self.grammar = grammar
        self.position = 0
        self.finished = False
        self.role: str | None = None
        self.opened = 0
        self._where = _START
        self._text: list[int] = []
        self._begun_at = 0
        self._kind = ""
        self._program: SpanProgram | None = None
        self._stage = 0
        self._plan: Plan | None = None
        self._at = 0
        self._turns = -1  # turns done of the open repeat now, -1 outside one
        self._choice = False  # at a register, or between two turns of an open repeat
        self._tail = (0, 0)
        self._need = 0
        self._env: dict[str, int] = {}
        self._levels: list[list[int]] = []
        self._ranges: Ranges = ()
        self._text_ok = False
        self.restrict(limits)

    def copy(self) -> State:
        """An independent state at the same point."""
        other = object.__new__(State)
        for name in State.__slots__:
            setattr(other, name, getattr(self, name))
        other._text = self._text.copy()
        other._env = self._env.copy()
        other._levels = [level.copy() for level in self._levels]
        other._owed = self._owed.copy()
        return other

    def allowed(self) -> Ranges:
        """The ids that may come next, as sorted disjoint ranges [start, stop); () when finished."""
        return self._ranges

    @property
    def remaining(self) -> int | None:
        """Ids that may still come, or None without a budget."""
        return None if self._left > UNLIMITED // 2 else self._left

    @property
    def mode(self) -> str:
        """What is expected next: "text", "image", "audio", or "marker" where only markers are."""
        if self._where == _SPAN:
            if not self._choice:
                assert self._plan is not None
                return "marker" if self._plan.leaves[self._at].level < 0 else self._kind
            if len(self._ranges) == 1 and self._at_exit(self._ranges[0]):
                return "marker"
            return self._kind
        return "text" if self._text_ok else "marker"

    @property
    def kind(self) -> str | None:
        """The kind of segment that is open: "text", "image", "audio", or None between segments."""
        if self._where == _SPAN:
            return self._kind
        return "text" if self._where == _TEXT else None

    def restrict(self, limits: Limits | None) -> None:
        """Set new limits from this position on, or lift them (None).

        A slot in a document is sampled so: feed what stands before it, restrict, sample, lift,
        feed what follows. Not possible inside an image or audio span.

        Raises ValueError where the limits cannot be met: too small a budget, or nothing allowed.
        """
        if self._where == _SPAN and limits is not None:
            raise ValueError(
                f"limits cannot change inside the {self._kind} span begun at position "
                f"{self._begun_at}; set them before it begins"
            )
        rules = self.grammar.rules(limits if limits is not None else FREE)
        self._rules = rules
        self._left = rules.max_ids
        self._owed = dict(rules.exact)
        self._owed_ids = sum(n * rules.least[kind] for kind, n in rules.exact.items())
        self.opened = 0
        if self._where == _SPAN:
            self._need = 1
            if self._choice:
                self._open_stage(self._stage, keep_turns=True)
        elif self._where != _END:
            least = self._least()
            if least is None:
                raise ValueError(f"the limits allow nothing at position {self.position}: {limits}")
            if self._left < least:
                raise ValueError(
                    f"a budget of {self._left} ids is too small at position {self.position}: "
                    f"the limits need at least {least}, the end included; raise max_ids"
                )
            self._open_document()

    def lead_in(self, kind: str, role: str | None) -> tuple[int, ...]:
        """The markers that stand between here and a segment of this kind and role.

        kind may be "any" (a slot that takes any interleaving). ValueError inside a media span or
        where the role cannot be taken back to None.
        """
        if self._where not in (_ITEM, _TEXT):
            raise ValueError(f"no segment can begin at position {self.position}")
        before = "text" if self._where == _TEXT else None
        return self.grammar.lead_in(before, self.role, kind, role)

    def advance(self, id: int) -> tuple[Event, ...]:
        """Take one id; the events it completes.

        Raises GrammarError, leaving the state as it was, if `id` is not in `allowed()`.
        """
        where = self._where
        if where == _SPAN:
            return self._advance_span(id)
        grammar = self.grammar
        if self._text_ok and grammar.text_start <= id < grammar.text_stop_id:
            self.position += 1
            self._left -= 1
            self._text.append(id)
            if where == _TEXT:
                # Far from the end of the budget nothing changes from one text id to the next.
                if self._left <= self._need:
                    self._open_document()
                return (TextIds((grammar.vocabulary.from_ids("text", id),)),)
            self._begun_at = self.position - 1
            self._where = _TEXT
            self.opened += 1
            self._open_document()
            return (
                SpanBegin("text", {}, ()),
                TextIds((grammar.vocabulary.from_ids("text", id),)),
            )
        for start, stop in self._ranges:
            if start <= id < stop:
                return self._advance_marker(id)
        raise self._refuse(id)

    # At the level of the document.

    def _advance_marker(self, id: int) -> tuple[Event, ...]:
        grammar, rules = self.grammar, self._rules
        events: tuple[Event, ...] = ()
        if self._where == _TEXT:
            ids = grammar.vocabulary.from_ids("text", np.array(self._text)).tolist()
            events = (SpanEnd("text", CodedText(ids, self.role)),)
            self._text = []
        if id == rules.limits.stop and self.opened:
            self._rules = grammar.rules(FREE)
            self._left = self._rules.max_ids
            self._owed = {}
            self._owed_ids = 0
        action, name = grammar.document_markers[id]
        self.position += 1
        self._left -= 1
        if action == "begin":
            self._where = _ITEM
        elif action == "role":
            self.role = name
            self._where = _AFTER_ROLE
            events += (RoleChange(name),)
        elif action == "separator":
            self._where = _AFTER_SEPARATOR
        elif action == "end":
            self._where = _END
            self.finished = True
            self._ranges = ()
            self._text_ok = False
            return (*events, End())
        else:
            return events + self._begin_span(name)
        self._open_document()
        return events

    def _least(self) -> int | None:
        """Fewest ids from here to the end, both limits and format kept; None if there is no way."""
        rules, where = self._rules, self._where
        must = where in (_AFTER_ROLE, _AFTER_SEPARATOR) or rules.limits.single
        lengths = [rules.least[kind] for kind in rules.kinds if kind not in rules.exact]
        if where == _AFTER_SEPARATOR:
            # The text that has to come first stands before everything owed.
            return self._owed_ids + 2 if rules.text else None
        if rules.text:
            lengths.append(2 if where == _TEXT and rules.limits.single else 1)
        segment = 0
        if must and not self._owed_ids:
            if not lengths:
                return None
            segment = min(lengths)
        return self._owed_ids + segment + 1 + (where == _START)

    def _open_document(self) -> None:
        """Work out the ids allowed here, at the level of the document."""
        rules, where, left = self._rules, self._where, self._left
        grammar = self.grammar
        if where == _START:
            self._text_ok = False
            self._ranges = grammar.begin_ranges
            return
        limits = rules.limits
        need = self._owed_ids + 1  # what is owed, and the end
        # Of a single segment nothing but its own ids and the end remains once it has begun.
        new = not limits.single or self.opened == 0
        settled = where in (_ITEM, _TEXT)
        text = rules.text and left > need
        if where == _TEXT:
            text = text and (not limits.single or self.opened > 0)
        else:
            text = text and new
        markers: list[int] = []
        # Below this much left some marker is no longer affordable; text ids look again there.
        self._need = need + grammar.longest_choice
        if new:
            for kind in rules.kinds if where != _AFTER_SEPARATOR else ():
                least = rules.least[kind]
                owed = self._owed.get(kind)
                if owed is None:
                    fits = left >= least + need
                else:
                    fits = owed > 0 and left >= need
                if fits:
                    markers.append(grammar.programs[kind].begin)
                self._need = max(self._need, need + least)
            if settled and limits.roles:
                free = [rules.least[k] for k in rules.kinds if k not in rules.exact]
                segment = 1 if rules.text else min(free, default=UNLIMITED)
                after = need if self._owed_ids else need + segment
                if left > after:
                    markers += [i for role, i in grammar.roles.items() if role != self.role]
                self._need = max(self._need, after)
            if where == _TEXT and rules.text and left > need + 1:
                markers.append(grammar.separator)
        if settled and not self._owed_ids and not (limits.single and self.opened == 0):
            markers.append(rules.end)
        self._text_ok = text
        self._ranges = grammar.ranges(text, tuple(markers))

    # Inside a span.

    def _begin_span(self, kind: str) -> tuple[Event, ...]:
        grammar, rules = self.grammar, self._rules
        program = grammar.programs[kind]
        if kind in self._owed:
            self._owed[kind] -= 1
            self._owed_ids -= rules.least[kind]
        self.opened += 1
        self._where = _SPAN
        self._kind = kind
        self._program = program
        self._begun_at = self.position - 1
        self._text_ok = False
        self._need = self._owed_ids + 1
        self._env = {}
        self._levels = [[] for _ in program.blocks]
        self._open_stage(0)
        if program.header_stages == 0:
            return (SpanBegin(kind, {}, program.grid({})),)
        return ()

    def _open_stage(self, stage: int, keep_turns: bool = False) -> None:
        program = self._program
        assert program is not None
        found = program.stages[stage]
        self._stage = stage
        self._at = 0
        self._choice = True
        if isinstance(found, RegisterStage):
            self._plan = None
            self._turns = -1
            self._ranges = self._register_ranges(found)
            return
        self._plan = program.plan(stage, self._env)
        if isinstance(found, OpenStage):
            if not keep_turns:
                self._turns = 0
            env = {**self._fixed(), **self._env}
            self._tail = program.affine(found.register, env, stage)
            self._open_turn(found)
            return
        self._turns = -1
        self._choice = False
        self._ranges = self._plan.leaves[0].ranges

    def _fixed(self) -> dict[str, int]:
        return self._rules.fixed.get(self._kind, {})

    def _register_ranges(self, stage: RegisterStage) -> Ranges:
        """The values of a register with which everything that must follow still fits."""
        program = self._program
        assert program is not None
        forced = self._rules.image_env if self._kind == "image" else None
        if forced is not None and stage.name in forced:
            id = self.grammar.vocabulary.to_ids(stage.block.name, forced[stage.name] - 1)
            return ((id, id + 1),)
        start, stop = self.grammar.vocabulary.id_range(stage.block.name)
        base, slope = program.affine(stage.name, {**self._fixed(), **self._env}, self._stage)
        if slope > 0:
            most = (self._left - 1 - self._need - base) // slope
            stop = min(stop, start + most)
        return ((start, stop),)

    def _open_turn(self, stage: OpenStage) -> None:
        """Between two turns of an open repeat: another one, or what follows."""
        program, plan = self._program, self._plan
        assert program is not None
        assert plan is not None
        turns, rules = self._turns, self._rules
        base, slope = self._tail
        self._choice = True
        self._at = 0
        most = rules.limits.max_audio_frames if self._kind == "audio" else None
        again = (most is None or turns < most) and (
            self._left >= plan.length + base + slope * (turns + 1) + self._need
        )
        if turns < self._fixed().get(stage.register, 1):
            self._ranges = plan.leaves[0].ranges
            return
        self._env[stage.register] = turns
        after = program.plan(self._stage + 1, self._env).leaves[0].ranges
        self._ranges = tuple(sorted((*plan.leaves[0].ranges, *after))) if again else after

    def _at_exit(self, allowed: tuple[int, int]) -> bool:
        """Whether `allowed` is the marker that ends an open repeat."""
        if self._plan is None or allowed == self._plan.leaves[0].ranges[0]:
            return False
        assert self._program is not None
        return self._program.plan(self._stage + 1, self._env).leaves[0].level < 0

    def _advance_span(self, id: int) -> tuple[Event, ...]:
        plan = self._plan
        if self._choice:
            for start, stop in self._ranges:
                if start <= id < stop:
                    break
            else:
                raise self._refuse(id)
            if plan is None:
                return self._set_register(id)
            leaf = plan.leaves[0]
            if not leaf.lo <= id < leaf.hi:
                self._open_stage(self._stage + 1)
                plan = self._plan
                assert plan is not None
            self._choice = False
        assert plan is not None
        at = self._at
        leaf = plan.leaves[at]
        if not leaf.lo <= id < leaf.hi:
            raise self._refuse(id)
        self.position += 1
        self._left -= 1
        if leaf.level >= 0:
            self._levels[leaf.level].append(id)
        done = plan.done.get(at)
        events: tuple[Event, ...] = () if done is None else (self._progress(done),)
        at += 1
        if at < plan.length:
            self._at = at
            self._ranges = plan.leaves[at].ranges
            return events
        if self._turns >= 0:
            self._turns += 1
            assert self._program is not None
            stage = self._program.stages[self._stage]
            assert isinstance(stage, OpenStage)
            self._open_turn(stage)
            return events
        return events + self._next_stage()

    def _set_register(self, id: int) -> tuple[Event, ...]:
        program = self._program
        assert program is not None
        stage = program.stages[self._stage]
        assert isinstance(stage, RegisterStage)
        # The sizes 1, 2, ... are the codes 0, 1, ... of their block.
        self._env[stage.name] = self.grammar.vocabulary.from_ids(stage.block.name, id) + 1
        self.position += 1
        self._left -= 1
        return self._next_stage()

    def _next_stage(self) -> tuple[Event, ...]:
        program = self._program
        assert program is not None
        stage = self._stage + 1
        if stage < len(program.stages):
            self._open_stage(stage)
            if stage == program.header_stages:
                registers = {name: self._env[name] for name in program.registers}
                return (SpanBegin(self._kind, registers, program.grid(self._env)),)
            return ()
        grid = program.grid(self._env)
        codes = np.stack(
            [
                self.grammar.vocabulary.from_ids(block.name, np.array(ids)).reshape(grid)
                for block, ids in zip(program.blocks, self._levels)
            ]
        )
        segment = CODED_MEDIA[self._kind](codes, self.role)
        self._where = _ITEM
        self._program = self._plan = None
        self._choice = False
        self._levels = []
        self._open_document()
        return (SpanEnd(self._kind, segment),)

    def _progress(self, index: int) -> Event:
        """The row or frame that is complete now."""
        program = self._program
        assert program is not None
        from_ids = self.grammar.vocabulary.from_ids
        if len(program.axes) == 1:
            if self._turns >= 0:
                index = self._turns
            codes = [from_ids(b.name, ids[index]) for b, ids in zip(program.blocks, self._levels)]
            return FrameDone(np.array(codes, dtype=np.int64), index, self._kind)
        width = program.grid(self._env)[1]
        assert width is not None
        rows = [
            from_ids(b.name, np.array(ids[index * width : (index + 1) * width]))
            for b, ids in zip(program.blocks, self._levels)
        ]
        return RowDone(self._kind, index, np.stack(rows))

    # Words for errors.

    def unfinished(self) -> GrammarError:
        """Why the sequence may not stop here."""
        assert not self.finished
        if self._where == _SPAN:
            text = (
                f"the sequence ends inside the {self._here()}; was generation cut off? raise the "
            )
            return GrammarError(self.position, text + "budget (max_ids)")
        return GrammarError(
            self.position,
            f"the sequence ends where {self.grammar.describe(self._ranges)} should follow",
        )

    def _refuse(self, id: int) -> GrammarError:
        found = self.grammar.vocabulary.describe(id)
        if self.finished:
            return GrammarError(self.position, f"{found} follows the end of the document")
        expected = self.grammar.describe(self._ranges)
        where = f" in the {self._here()}" if self._where == _SPAN else self._budget()
        return GrammarError(self.position, f"expected {expected}, found {found}{where}")

    def _here(self) -> str:
        """The span at hand and how far it has come."""
        program = self._program
        assert program is not None
        grid = program.grid(self._env)
        text = f"{self._kind} span begun at position {self._begun_at}"
        number = sum(len(ids) for ids in self._levels)
        sides = [side for side in grid if side is not None]
        if self._turns < 0 and len(sides) == len(grid):
            total = int(np.prod(sides)) * len(self._levels)
            shape = "x".join(str(side) for side in sides)
            levels = f", {len(self._levels)} levels" if len(self._levels) > 1 else ""
            return f"{text}, which has {number} codes of {total} ({shape}{levels})"
        return f"{text}, which has {number} codes"

    def _budget(self) -> str:
        if self.remaining is None:
            return ""
        return f" (with {self._left} ids left under the limits)"

"""Where a sequence stands in its document: what may come next between segments, and in a text.

All lengths are in ids, and every `least` is the fewest that a way to the end of the document takes:
a budget opens only what can still be ended within it.
"""

from __future__ import annotations

from unified.formats.compiled import CompiledFormat
from unified.formats.limits import UNLIMITED, Limits
from unified.formats.rules import Rules
from unified.vocabulary.block import Ranges

__all__ = ["At", "DocumentState"]

_LONGEST_CHOICE = 2  # a text separator needs itself and one text id


class At:
    """Where a state stands; plain numbers, which are compared at every id.

    PATH: among ids that lead to another role or to the end.
    """

    START, ITEM, AFTER_ROLE, AFTER_SEPARATOR, TEXT, PATH, END = range(7)


class DocumentState:
    """The part of `State` that works out what may come at the level of the document.

    position: ids read so far. finished: whether the document is complete; in a format whose
    documents end as a role does, another role may still follow. role: of the segments now.
    n_started: segments begun since the limits were set.
    """

    __slots__ = (
        "_at",
        "_choosing",
        "_left",
        "_path",
        "_ranges",
        "_reads_spans",
        "_recheck",
        "_required",
        "_required_ids",
        "_rules",
        "_terminal",
        "_text_ok",
        "_text_over",
        "finished",
        "grammar",
        "n_started",
        "position",
        "role",
    )

    _required: dict[str, int]
    _required_ids: int
    _rules: Rules
    _left: int

    def __init__(self, grammar: CompiledFormat):
        self.grammar = grammar
        self.position = 0
        self.finished = False
        self.role = grammar.format.start
        self.n_started = 0
        self._at = At.START if grammar.begin else At.ITEM
        # Ids of the path under way that have been read; of the begin of the document, too.
        self._path: tuple[int, ...] = ()
        self._choosing = False  # a role, before anything else
        self._terminal = False  # after a span that nothing may follow
        self._recheck = 0  # a text id looks at the budget again when no more than this is left
        self._ranges: Ranges = ()
        self._text_ok = False
        self._text_over = False
        self._reads_spans = False  # whether a span that is never written may begin here

    def allowed(self) -> Ranges:
        """The ids that may come next, as sorted disjoint ranges [start, stop); () at the end."""
        return self._ranges

    @property
    def remaining(self) -> int | None:
        """Ids that may still come, or None without a budget."""
        return None if self._left > UNLIMITED // 2 else self._left

    def _set_rules(self, limits: Limits) -> None:
        """Begin to count under limits."""
        self._rules = rules = self.grammar.rules(limits)
        self._left = rules.max_ids
        self._required = dict(rules.exact)
        self._required_ids = sum(n * rules.least[kind] for kind, n in rules.exact.items())

    def _may_begin_role(self, role: str) -> bool:
        """Whether limits let a role begin here."""
        limits = self._rules.limits
        if limits.calls is None or self.role == limits.calls:
            return limits.roles
        return role == limits.calls or (self._choosing and role == self._own_role)

    @property
    def _own_role(self) -> str | None:
        """The role of what is asked for."""
        return self._rules.limits.role or self.grammar.format.start

    # The fewest ids that must still come.

    def _ahead(self) -> dict[tuple[int, ...], str | None]:
        """The paths from here, or that go on as the one under way began, with their roles."""
        at, paths = len(self._path), self.grammar.paths[self.role]
        return {path: role for path, role in paths.items() if path[:at] == self._path}

    def _least_on_path(self) -> int | None:
        """Fewest ids from here, among ids of a path, to the end; None where there is no way."""
        at, eos = len(self._path), self.grammar.eos(self.role)
        calls = self._rules.limits.calls is not None
        lengths = [
            len(path) - at + (0 if path == eos else self._least_after_role(str(role)))
            for path, role in self._ahead().items()
            if not calls or (not self._choosing if role is None else self._may_begin_role(role))
        ]
        return min(lengths, default=None)

    def _least_after_role(self, role: str) -> int:
        """Fewest ids after the ids that begin a role."""
        if role == self._rules.limits.calls:
            return 1 + len(self.grammar.eos(role))
        segment = 0 if self._required_ids else self._least_segment()
        return self._required_ids + segment + len(self.grammar.eos(role))

    def _least_segment(self) -> int:
        """Fewest ids of a segment of any kind that may begin and is not counted."""
        rules = self._rules
        free = [rules.least[kind] for kind in rules.kinds if kind not in rules.exact]
        return 1 if rules.text else min(free, default=UNLIMITED)

    def _least(self) -> int | None:
        """Fewest ids from here to the end, both limits and format kept; None if there is no way."""
        rules, at = self._rules, self._at
        if at == At.PATH or self._choosing:
            return self._least_on_path()
        eos = len(self.grammar.eos(self.role))
        if at == At.AFTER_SEPARATOR:
            # The text that has to come first stands before everything required.
            return self._required_ids + 1 + eos if rules.text else None
        lengths = [rules.least[kind] for kind in rules.kinds if kind not in rules.exact]
        if rules.text:
            lengths.append(2 if at == At.TEXT and rules.limits.single else 1)
        segment = 0
        needs_segment = at == At.AFTER_ROLE or (rules.limits.single and not self.n_started)
        if needs_segment and not self._required_ids:
            if not lengths:
                return None
            segment = min(lengths)
        begin = len(self.grammar.begin) - len(self._path) if at == At.START else 0
        return self._required_ids + segment + eos + begin

    # The ids that may come next.

    def _open_document(self) -> None:
        """Work out the ids allowed here, at the level of the document."""
        at, grammar = self._at, self.grammar
        self._reads_spans = False
        if at == At.START:
            self._text_ok = False
            id = grammar.begin[len(self._path)]
            self._ranges = ((id, id + 1),)
            return
        if at == At.PATH or self._choosing:
            self._text_ok = False
            self._ranges = grammar.ranges(False, self._next_on_paths())
            return
        limits = self._rules.limits
        need = self._required_ids + len(grammar.eos(self.role))
        # Of a single segment nothing but its own ids and the end remains once it has begun.
        may_begin = not self._terminal and (not limits.single or self.n_started == 0)
        calls = limits.calls is not None and self.role == limits.calls
        text = self._rules.text and self._left > need and not self._terminal and not self._text_over
        if at == At.TEXT:
            text = text and (not limits.single or self.n_started > 0)
        else:
            text = text and may_begin
        self._reads_spans = may_begin and at != At.AFTER_SEPARATOR
        # Below this much left some marker is no longer affordable; text ids look again there.
        self._recheck = need + _LONGEST_CHOICE
        markers: list[int] = []
        if may_begin and not calls:
            markers += self._spans_that_fit(need) if at != At.AFTER_SEPARATOR else ()
            two_texts = at == At.TEXT and self._rules.text and not self._text_over
            if two_texts and self._left > need + 1 and grammar.separator is not None:
                markers.append(grammar.separator)
        if at in (At.ITEM, At.TEXT):
            markers += self._next_on_paths()
        self._text_ok = text
        self._ranges = grammar.ranges(text, tuple(sorted(set(markers))))

    def _spans_that_fit(self, need: int) -> list[int]:
        """The markers that begin a span for which enough of the budget is left."""
        rules, left = self._rules, self._left
        markers = []
        for kind in rules.kinds:
            least = rules.least[kind]
            number = self._required.get(kind)
            if number is None:
                fits = left >= least + need
            else:
                fits = number > 0 and left >= need
            if fits and self.grammar.span_grammars[kind].terminal:
                fits = self._required_ids == (0 if number is None else least)
            if fits:
                markers.append(self.grammar.span_grammars[kind].begin)
            self._recheck = max(self._recheck, need + least)
        return markers

    def _next_on_paths(self) -> tuple[int, ...]:
        """The next ids of the paths to other roles and to the end that limits leave open."""
        limits, at = self._rules.limits, len(self._path)
        begun = not (limits.single and self.n_started == 0)
        ends = not self._required_ids and begun and not self._choosing
        roles = not self._terminal and (not limits.single or self.n_started == 0)
        eos = self.grammar.eos(self.role)
        ids = set()
        for path, role in self._ahead().items():
            if len(path) == at:
                continue  # complete as it is; others go on from here
            if path == eos and ends and limits.stop in (None, path[at]):
                # A single text ends with its stop, which may lead on to another role.
                ids.add(path[at])
            if role is None:
                continue
            rest = len(path) - at + self._least_after_role(role)
            self._recheck = max(self._recheck, rest)
            if roles and self._may_begin_role(role) and self._left >= rest:
                ids.add(path[at])
        if limits.stop is not None and ends and at == 0:
            ids.add(limits.stop)
        return tuple(sorted(ids))

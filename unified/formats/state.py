"""The state of one sequence under a grammar: what may come next, and what an id means.

One state serves as constraint (`allowed`), validator and streaming parser (`advance`). It lies on
the sampling path, so the ranges allowed now are kept ready: `allowed` only returns them, and
`advance` does a fixed amount of work whatever the length of the sequence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from unified.formats.coded import (
    CODED_MEDIA,
    CodedText,
    End,
    Event,
    GrammarError,
    RoleChange,
    SpanBegin,
    SpanEnd,
    TextIds,
)
from unified.formats.limits import FREE, UNLIMITED, Limits
from unified.formats.span_state import SpanState
from unified.vocabulary.block import Ranges

if TYPE_CHECKING:
    from unified.formats.grammar import Grammar

# Where a state stands in the document. _PATH: among ids that lead to another role or to the end.
_START, _ITEM, _AFTER_ROLE, _AFTER_SEPARATOR, _TEXT, _PATH, _END = range(7)


class State:
    """One sequence so far. Made by `Grammar.start`.

    position: ids taken so far. finished: whether the document is complete; in a format whose
    documents end as a role does, another role may still follow. role: of the segments now. opened:
    segments begun since the limits were set.
    """

    __slots__ = (
        "_begun_at",
        "_closes",
        "_left",
        "_owed",
        "_owed_ids",
        "_path",
        "_ranges",
        "_recheck",
        "_rules",
        "_span",
        "_text",
        "_text_ok",
        "_text_over",
        "_where",
        "finished",
        "grammar",
        "n_started",
        "position",
        "role",
    )

    def __init__(self, grammar: Grammar, limits: Limits | None):
        self.grammar = grammar
        self.position = 0
        self.finished = False
        self.role = grammar.format.start
        self.n_started = 0
        self._where = _START if grammar.begin else _ITEM
        # Ids of the path at hand that have been taken; of the begin of the document, too.
        self._path: tuple[int, ...] = ()
        self._closes = False
        self._text: list[int] = []
        self._begun_at = 0
        self._span: SpanState | None = None
        self._recheck = 0
        self._ranges: Ranges = ()
        self._text_ok = False
        self._text_over = False
        self.restrict(limits)

    def copy(self) -> State:
        """An independent state at the same point."""
        other = object.__new__(State)
        for name in State.__slots__:
            setattr(other, name, getattr(self, name))
        other._text = self._text.copy()
        other._span = self._span.copy() if self._span is not None else None
        other._owed = self._owed.copy()
        return other

    def allowed(self) -> Ranges:
        """The ids that may come next, as sorted disjoint ranges [start, stop); () at the end."""
        return self._ranges

    @property
    def remaining(self) -> int | None:
        """Ids that may still come, or None without a budget."""
        return None if self._left > UNLIMITED // 2 else self._left

    @property
    def required_begin(self) -> int | None:
        """The marker that begins a span which an exact number still asks for, where it may come
        now; None where nothing is owed."""
        for kind, number in self._owed.items() if self._span is None else ():
            begin = self.grammar.span_grammars[kind].begin
            if number and any(start <= begin < stop for start, stop in self._ranges):
                return begin
        return None

    @property
    def mode(self) -> str:
        """What is expected next: "text", "image", "audio", or "marker" where only markers are."""
        if self._span is not None:
            return "marker" if self._span.expects_marker else self._span.program.kind
        return "text" if self._text_ok else "marker"

    @property
    def kind(self) -> str | None:
        """The kind of segment that is open: "text", "image", "audio", or None between segments."""
        if self._span is not None:
            return self._span.program.kind
        return "text" if self._where == _TEXT else None

    def restrict(self, limits: Limits | None, goes_on: bool = False) -> None:
        """Set new limits from this position on, or lift them (None).

        A slot in a document is sampled so: feed what stands before it, restrict, sample, lift,
        feed what follows. Not possible inside an image or audio span. goes_on: the open text is
        the slot's, which may add nothing to it.

        Raises ValueError where the limits cannot be met: too small a budget, or nothing allowed.
        """
        if self._span is not None and limits is not None:
            raise ValueError(
                f"limits cannot change inside the {self.kind} span begun at position "
                f"{self._begun_at}; set them before it begins"
            )
        rules = self.grammar.rules(limits if limits is not None else FREE)
        stop = rules.limits.stop
        ways = [*self.grammar.document_markers, *(p[0] for p in self.grammar.paths[self.role])]
        if stop is not None and stop not in ways:
            raise ValueError(
                f"{self.grammar.vocabulary.describe(stop)} cannot be the stop of a text of role"
                f" {self.role}"
            )
        self._rules = rules
        self._left = rules.max_ids
        self._text_over = False
        if limits is not None and self._where != _END:
            self.finished = False  # what they ask for is still to come
        self._owed = dict(rules.exact)
        self._owed_ids = sum(n * rules.least[kind] for kind, n in rules.exact.items())
        self.n_started = int(goes_on and self._where == _TEXT)
        if self._span is not None:
            self._span.lift()
            self._ranges = self._span.ranges
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

    def end_text(self) -> None:
        """Let the open text go no further: what is owed follows, or another kind, or the end."""
        assert self._where == _TEXT
        self._text_over = True
        self._open_document()

    def segment_prefix(self, kind: str, role: str | None) -> tuple[int, ...]:
        """The markers that stand between here and a segment of this kind and role.

        kind may be "any" (a slot that takes any interleaving). ValueError inside a media span or
        where the role cannot be taken back to None.
        """
        if self._span is not None or self._closes or self._where not in (_ITEM, _TEXT):
            raise ValueError(f"no segment can begin at position {self.position}")
        before = "text" if self._where == _TEXT else None
        return self.grammar.segment_prefix(before, self.role, kind, role)

    def advance(self, id: int) -> tuple[Event, ...]:
        """Take one id; the events it completes.

        Raises GrammarError, leaving the state as it was, if `id` is not in `allowed()`.
        """
        span = self._span
        if span is not None:
            events = span.advance(id)
            if events is None:
                raise self._refuse(id)
            self.position += 1
            self._left -= 1
            if span.finished:
                return (*events, self._end_span(span))
            self._ranges = span.ranges
            return events
        where, grammar = self._where, self.grammar
        if self._text_ok and grammar.is_text(id):
            self.position += 1
            self._left -= 1
            self._text.append(id)
            if where == _TEXT:
                # Far from the end of the budget nothing changes from one text id to the next.
                if self._left <= self._recheck:
                    self._open_document()
                return (TextIds((grammar.vocabulary.from_ids("text", id),)),)
            self._begun_at = self.position - 1
            self._where = _TEXT
            self.finished = False
            self.n_started += 1
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
        if id == rules.limits.stop and self.n_started:
            self._rules = grammar.rules(FREE)
            self._left = self._rules.max_ids
            self._owed = {}
            self._owed_ids = 0
        self.position += 1
        self._left -= 1
        self.finished = False
        if self._where == _START:
            self._path += (id,)
            if self._path == grammar.begin:
                self._path, self._where = (), _ITEM
        elif self._where != _PATH and id in grammar.document_markers:
            action, name = grammar.document_markers[id]
            if action == "span":
                return events + self._begin_span(name)
            self._where = _AFTER_SEPARATOR
        else:
            self._path += (id,)
            self._where = _PATH
            paths = grammar.paths[self.role]
            if self._path in paths:
                role = paths[self._path]
                if self._path == grammar.eos(self.role):
                    self.finished = True
                    events += (End(),)
                if role is not None:
                    self.role = role
                    self._path = ()
                    self._where = _AFTER_ROLE
                    events += (RoleChange(role),)
                elif not any(len(path) > len(self._path) for path in self._ahead()):
                    return self._end(events)
        self._open_document()
        return events

    def _end(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        self._where = _END
        self._path = ()
        self._ranges = ()
        self._text_ok = False
        return events

    def _ahead(self) -> dict[tuple[int, ...], str | None]:
        """The paths from here, or that go on as the one under way began, with their roles."""
        at, paths = len(self._path), self.grammar.paths[self.role]
        return {path: role for path, role in paths.items() if path[:at] == self._path}

    def _shortest(self, wanted: bool | None = None) -> int | None:
        """Fewest ids from here, among ids of a path, to the end of the document.

        wanted: only by paths to a role (True) or to the end (False). None where there are none.
        """
        at, closing = len(self._path), self.grammar.eos(self.role)
        found = [
            len(path) - at + (0 if path == closing else self._after_role(str(role)))
            for path, role in self._ahead().items()
            if wanted in (None, role is not None)
        ]
        return min(found, default=None)

    def _after_role(self, role: str) -> int:
        """Fewest ids after the ids that begin a role."""
        return self._owed_ids + self._segment() + len(self.grammar.eos(role))

    def _segment(self) -> int:
        """Fewest ids of a segment that has to come, none where enough are owed."""
        if self._owed_ids:
            return 0
        rules = self._rules
        free = [rules.least[k] for k in rules.kinds if k not in rules.exact]
        return 1 if rules.text else min(free, default=UNLIMITED)

    def _least(self) -> int | None:
        """Fewest ids from here to the end, both limits and format kept; None if there is no way."""
        rules, where = self._rules, self._where
        if where == _PATH:
            return self._shortest()
        closing = len(self.grammar.eos(self.role))
        must = where in (_AFTER_ROLE, _AFTER_SEPARATOR) or (
            rules.limits.single and not self.n_started
        )
        lengths = [rules.least[kind] for kind in rules.kinds if kind not in rules.exact]
        if where == _AFTER_SEPARATOR:
            # The text that has to come first stands before everything owed.
            return self._owed_ids + 1 + closing if rules.text else None
        if rules.text:
            lengths.append(2 if where == _TEXT and rules.limits.single else 1)
        segment = 0
        if must and not self._owed_ids:
            if not lengths:
                return None
            segment = min(lengths)
        begin = len(self.grammar.begin) - len(self._path) if where == _START else 0
        return self._owed_ids + segment + closing + begin

    def _open_document(self) -> None:
        """Work out the ids allowed here, at the level of the document."""
        where, grammar = self._where, self.grammar
        if where == _START:
            self._text_ok = False
            id = grammar.begin[len(self._path)]
            self._ranges = ((id, id + 1),)
            return
        if where == _PATH:
            self._text_ok = False
            self._ranges = grammar.ranges(False, self._along())
            return
        rules, left = self._rules, self._left
        limits = rules.limits
        closing = len(grammar.eos(self.role))
        need = self._owed_ids + closing
        # Of a single segment nothing but its own ids and the end remains once it has begun.
        new = not self._closes and (not limits.single or self.n_started == 0)
        settled = where in (_ITEM, _TEXT)
        text = rules.text and left > need and not self._closes and not self._text_over
        if where == _TEXT:
            text = text and (not limits.single or self.n_started > 0)
        else:
            text = text and new
        markers: list[int] = []
        # Below this much left some marker is no longer affordable; text ids look again there.
        self._recheck = need + grammar.longest_choice
        if new:
            for kind in rules.kinds if where != _AFTER_SEPARATOR else ():
                least = rules.least[kind]
                owed = self._owed.get(kind)
                if owed is None:
                    fits = left >= least + need
                else:
                    fits = owed > 0 and left >= need
                if fits and grammar.span_grammars[kind].terminal:
                    fits = self._owed_ids == (0 if owed is None else least)
                if fits:
                    markers.append(grammar.span_grammars[kind].begin)
                self._recheck = max(self._recheck, need + least)
            two_texts = where == _TEXT and rules.text and not self._text_over
            if two_texts and left > need + 1 and grammar.separator is not None:
                markers.append(grammar.separator)
        if settled:
            markers += self._along()
        self._text_ok = text
        self._ranges = grammar.ranges(text, tuple(sorted(set(markers))))

    def _along(self) -> tuple[int, ...]:
        """The next ids of the paths to other roles and to the end that limits leave open."""
        rules, at = self._rules, len(self._path)
        limits, found = rules.limits, []
        ends = not self._owed_ids and not (limits.single and self.n_started == 0)
        roles = limits.roles and not self._closes and (not limits.single or self.n_started == 0)
        closing = self.grammar.eos(self.role)
        for path, role in self._ahead().items():
            if len(path) == at:
                continue  # complete as it is; others go on from here
            if path == closing and ends and limits.stop in (None, path[at]):
                # A single text ends with its stop, which may lead on to another role.
                found.append(path[at])
            if role is None:
                continue
            rest = len(path) - at + self._after_role(role)
            self._recheck = max(self._recheck, rest)
            if roles and self._left >= rest:
                found.append(path[at])
        if limits.stop is not None and ends and at == 0:
            found.append(limits.stop)
        return tuple(sorted(set(found)))

    # Inside a span.

    def _begin_span(self, kind: str) -> tuple[Event, ...]:
        rules = self._rules
        program = self.grammar.span_grammars[kind]
        if kind in self._owed:
            self._owed[kind] -= 1
            self._owed_ids -= rules.least[kind]
        self.n_started += 1
        self._begun_at = self.position - 1
        self._text_ok = self._text_over = False
        self._span = SpanState(
            program,
            left=self._left,
            need=self._owed_ids + len(self.grammar.eos(self.role)),
            fixed=rules.fixed[kind],
            forced=rules.forced[kind],
            most_turns=rules.limits.max_audio_frames if kind == "audio" else None,
        )
        self._ranges = self._span.ranges
        return (self._span.begin_event(),) if program.header_stages == 0 else ()

    def _end_span(self, span: SpanState) -> SpanEnd:
        kind = span.program.kind
        self._span = None
        self._where = _ITEM
        self._closes = span.program.terminal
        self._open_document()
        made = CODED_MEDIA[span.program.modality](span.codes(), self.role, kind=kind)
        return SpanEnd(kind, made)

    # Words for errors.

    def unfinished(self) -> GrammarError:
        """Why the sequence may not stop here."""
        assert not self.finished
        if self._span is not None:
            return GrammarError(
                self.position,
                f"the sequence ends in {self._here(self._span)}; was generation cut off? "
                "raise the budget (max_ids)",
            )
        return GrammarError(
            self.position,
            f"the sequence ends where {self.grammar.describe(self._ranges)} should follow",
        )

    def _refuse(self, id: int) -> GrammarError:
        found = self.grammar.vocabulary.describe(id)
        if self.finished:
            return GrammarError(self.position, f"{found} follows the end of the document")
        where = self._budget() if self._span is None else f", in {self._here(self._span)}"
        expected = self.grammar.describe(self._ranges)
        return GrammarError(self.position, f"expected {expected}, found {found}{where}")

    def _here(self, span: SpanState) -> str:
        at = f"the {span.program.kind} span begun at position {self._begun_at}"
        return f"{at}, which has {span.describe()}"

    def _budget(self) -> str:
        if self.remaining is None:
            return ""
        return f" (with {self._left} ids left under the limits)"

"""Drafts: ids guessed ahead, all of which go through the decoder in one pass.

What stands is what would have been chosen without drafts. The noise of a choice belongs to its
position (`unified.engine.noise`), so that a pass over drafts gives, at each position, the very id
that the decoder chooses behind the ids before it. Drafts stand up to the first one that is another
id than that; its position has the right one, too. The ids, and so their distribution, are those of
one id a pass, whatever is guessed. (Wiggers and Hoogeboom, "Predictive sampling with forecasting
autoregressive models", arXiv:2002.09928; for pictures, as Gumbel coupling in speculative Jacobi
decoding, So et al., arXiv:2510.24211.)

Guesses come from two sources. The same pass says what the decoder would choose at the positions
behind a wrong draft: with the same noise again, mostly what it chooses in the end (Jacobi
decoding). And what followed the same ids before, here or in another request (`DraftMemory`). Text
takes the second alone.

Shape legend: `V'` ids that the grammar allows at a position.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

from unified.engine.backends.base import Ranges
from unified.engine.draft_memory import LEVELS, DraftMemory
from unified.engine.draft_policy import MOST_DRAFTS, DraftPolicy
from unified.engine.text_scores import TextScore
from unified.formats.state import State

__all__ = ["DraftToken", "Drafter", "Drafting", "Pick", "ScoredId"]

# Margins of proposals are told apart by these, distances from the last wrong draft up to that.
_MARGINS = (1.0, 3.0, 6.0)
_FAR = 3
# A draft that would not be worth its cost if it were this many times as likely to stand is the last
# that is looked at: those behind it are less likely.
_HOPELESS = 4.0
_LEARNED_AT_ONCE = 2048  # ids of a long prompt; a millisecond for 500


class Drafting(NamedTuple):
    """What all requests of an engine share."""

    policy: DraftPolicy
    memory: DraftMemory


class ScoredId(NamedTuple):
    """What the decoder chooses at a position, and by which margin (see `choose_with_margins`).
    score: of a text id, where scores are wanted."""

    id: int
    margin: float
    score: TextScore | None = None


class Pick(NamedTuple):
    """What is chosen at a position, `offset` behind the last id: one of those in `ranges`."""

    offset: int
    id: int
    ranges: Ranges


class DraftToken(NamedTuple):
    """An id drafted for a position.

    ranges: ids that the grammar allows there; None for only one. cell: of drafts like this one.
    proposal, lookup: what either source says.
    """

    id: int
    ranges: Ranges | None = None
    cell: Hashable = None
    proposal: int | None = None
    lookup: int | None = None


class Drafter:
    """Drafts of one request, within one span or text at a time.

    Attributes:
        tokens: drafts that go through the decoder in this pass.
        next_ranges: ids allowed behind all of them; None where there is no choice.
    """

    def __init__(self) -> None:
        self.tokens: list[DraftToken] = []
        self.next_ranges: Ranges | None = None
        self._proposals: dict[int, ScoredId] = {}  # by position
        self._read: dict[int, int] = {}  # drafts of the last pass, by position
        self._learned = 0  # ids of the sequence that are in the memory

    def draft(
        self,
        state: State,
        ids: Sequence[int],
        number: int | None,
        shared: Drafting,
        likeness: Hashable,
        stop: int | None = None,
    ) -> list[int]:
        """Draft ids that may follow, within the open segment.

        Args:
            state: behind all ids.
            ids: of the sequence.
            number: of drafts at most; None: as many as are worth it.
            shared: of the engine.
            likeness: of requests whose drafts are as good as each other's.
            stop: an id that ends a text slot; it is not drafted.

        Returns:
            The drafts, none where there is nothing to go by.
        """
        self.tokens, self.next_ranges = [], None
        policy = shared.policy
        saving = policy.saving if number is None else 0.0
        most = (MOST_DRAFTS if saving else 0) if number is None else number
        kind = state.kind
        if not most or kind is None or state.required_begin is not None:
            return []
        line = _Line(state, ids)
        self._learn(line, shared.memory, len(ids))
        ahead, changed = _Ahead(state, most + 1), len(ids) - 1
        tokens: list[DraftToken] = []
        choices: list[Ranges | None] = []
        value = best = 0.0
        chance, best_number = 1.0, 0
        while True:
            ranges, inside = ahead.at(tokens)
            single = inside and _num_choices(ranges) == 1
            choices.append(ranges if inside and not single else None)
            if not inside or len(tokens) == most:
                break
            position = len(ids) + len(tokens)
            if single:
                token = DraftToken(ranges[0][0])
            else:
                guess, stands = self._guess(line, position, changed, ranges, shared, likeness)
                if guess is None or guess.id == stop:
                    break
                token = guess
                chance *= stands
            if number is None:
                cost = policy.cost(len(tokens))
                # An id without an alternative has to be read anyway, by the next pass if not now.
                value += chance * (cost if single else saving) - cost
                if not single and chance * saving * _HOPELESS < cost:
                    break
            tokens.append(token)
            line.ids.append(token.id)
            if self._read.get(position) != token.id:
                changed = position
            if number is not None or value > best:
                best, best_number = value, len(tokens)
        self.tokens, self.next_ranges = tokens[:best_number], choices[best_number]
        policy.add(best_number)
        return [token.id for token in self.tokens]

    def _learn(self, line: _Line, memory: DraftMemory, length: int) -> None:
        """Enter what has been chosen since the last time. length: of the sequence."""
        start = max(self._learned, line.start, length - _LEARNED_AT_ONCE)
        for at in range(start - line.start, length - line.start):
            memory.learn(line.ids, at, line.period)
        self._learned = length

    def _guess(
        self,
        line: _Line,
        position: int,
        changed: int,
        ranges: Ranges,
        shared: Drafting,
        likeness: Hashable,
    ) -> tuple[DraftToken | None, float]:
        """A draft for a position, and the chance that it stands if all before it do."""
        at = position - line.start
        proposal = self._proposals.get(position)
        if proposal is not None and not _within(proposal.id, ranges):
            proposal = None
        lookup = shared.memory.find(line.ids, at, line.period)
        if lookup is None or not _within(lookup[0], ranges):
            lookup = line.neighbour(at, ranges)
        if proposal is None and lookup is None:
            return None, 0.0
        by_lookup, level = (None, -1) if lookup is None else lookup
        by_decoder, margin = (None, -1) if proposal is None else (
            proposal.id, bisect(_MARGINS, proposal.margin)
        )  # fmt: skip
        distance = min(position - changed, _FAR) if proposal is not None else 0
        key = likeness, margin, distance, level, by_decoder == by_lookup
        cell = shared.policy.cell(key)
        chances = {
            by_decoder: cell.chance(cell.proposals),
            by_lookup: cell.chance(cell.lookups),
        }
        if by_decoder is None or (
            by_lookup is not None and chances[by_lookup] > chances[by_decoder]
        ):
            id = by_lookup
        else:
            id = by_decoder
        assert id is not None
        return DraftToken(id, ranges, key, by_decoder, by_lookup), chances[id]

    @property
    def choices(self) -> list[tuple[int, Ranges]]:
        """(index, ranges) of every position with a choice.

        Index 0 is the position of the first draft, the last one that behind all drafts.
        """
        choices = [
            (at, token.ranges) for at, token in enumerate(self.tokens) if token.ranges is not None
        ]
        if self.next_ranges is not None:
            choices.append((len(self.tokens), self.next_ranges))
        return choices

    def verify(
        self, position: int, chosen: Mapping[int, ScoredId], policy: DraftPolicy
    ) -> list[Pick]:
        """What stands of the choices of a pass: up to the first that is not its draft, that one
        included. The others are proposals for the next pass.

        Args:
            position: of the first draft.
            chosen: by index of `choices`, all of them.
            policy: is told how the drafts were.
        """
        picks: list[Pick] = []
        stands, last = True, position
        proposals: dict[int, ScoredId] = {}
        for index, ranges in self.choices:
            last = position + index
            if not stands:
                proposals[last] = chosen[index]
                continue
            id = chosen[index].id
            picks.append(Pick(index, id, ranges))
            if index < len(self.tokens):
                token = self.tokens[index]
                policy.count(token.cell, token.proposal == id, token.lookup == id)
                stands = token.id == id
        for at, before in self._proposals.items():
            if at > last:
                proposals[at] = before
        self._proposals = proposals
        self._read = {position + index: token.id for index, token in enumerate(self.tokens)}
        return picks


class _Line:
    """The ids of the open segment, for look-ups; of a text, those of the whole sequence.

    start: position of the first. period: see `DraftMemory.find`.
    """

    def __init__(self, state: State, ids: Sequence[int]) -> None:
        self.in_text = state.kind == "text"
        self.start = 0 if self.in_text else state.begun_at
        self.ids = list(ids[self.start :])
        self.period = state.period

    def neighbour(self, at: int, ranges: Ranges) -> tuple[int, int] | None:
        """The code before, or the one of the frame before, where nothing is known; media alone."""
        for back in () if self.in_text else (1, self.period):
            if 0 < back <= at and _within(self.ids[at - back], ranges):
                return self.ids[at - back], LEVELS
        return None


class _Ahead:
    """What is allowed at the positions of drafts."""

    def __init__(self, state: State, number: int) -> None:
        """number: of positions, at most."""
        self._settled = state.settled(number)
        self._before, self._state = state, state
        self._num_read = 0  # drafts that `_state` has read

    def at(self, tokens: Sequence[DraftToken]) -> tuple[Ranges, bool]:
        """The ids behind drafts, and whether they are of the open segment."""
        if len(tokens) < len(self._settled):
            return self._settled[len(tokens)], True
        # A copy of the state knows, for 40 us and 5 a draft: texts, and behind the last code.
        if self._state is self._before:
            self._state = self._before.copy()
        state = self._state
        for token in tokens[self._num_read :]:
            state.advance(token.id)
        self._num_read = len(tokens)
        inside = state.kind == self._before.kind and not state.finished
        return state.allowed(), inside and state.required_begin is None


def _num_choices(ranges: Ranges) -> int:
    number = 0
    for start, stop in ranges:
        number += stop - start
    return number


def _within(id: int, ranges: Ranges) -> bool:
    return any(start <= id < stop for start, stop in ranges)

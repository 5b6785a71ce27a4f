"""Several ids of a span in one step of the decoder: speculative Jacobi decoding.

Ids are guessed ahead, all are shown to the decoder at once, and each is kept with the probability
that makes the outcome distributed as if it had been drawn alone: the ratio of what the decoder
gives it now, with all before it settled, to what it was guessed by (Leviathan et al.,
arXiv:2211.17192). The first that is not kept is drawn again from what is left of its distribution.
Guesses for what follows come of the same step: drawn from what the decoder gave there, although
some of the ids before it were guesses (Teng et al., arXiv:2410.01699).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from unified.engine.backends.cpu.decoder import Ranges
from unified.engine.sampler import Array, draw
from unified.formats.state import State

__all__ = ["Draft", "Drafts", "id_at"]


@dataclass(frozen=True, eq=False)
class Draft:
    """An id guessed for a place. ranges: what is allowed there. by: the probabilities (V',) that it
    was drawn by; None for one without an alternative."""

    id: int
    ranges: Ranges
    by: Array | None


@dataclass(eq=False)
class Drafts:
    """Guesses for one span of one row.

    guessed: probabilities for the places ahead, drawn from what the last step gave for them.
    """

    ahead: list[Draft] = field(default_factory=list)
    following: Ranges | None = None
    guessed: list[tuple[Ranges, Array]] = field(default_factory=list)

    def propose(self, state: State, number: int, generator: np.random.Generator) -> list[int]:
        """Guess at most so many ids from here on, within the span. Nothing at its first choice."""
        state, kind, free = state.copy(), state.kind, 0
        made: list[Draft] = []
        last: tuple[Ranges, Array] | None = None
        while True:
            ranges = state.allowed()
            open_here = state.kind == kind and not state.finished
            self.following = ranges if open_here and _choices(ranges) > 1 else None
            if not open_here or len(made) == number:
                break
            if _choices(ranges) == 1:
                draft = Draft(ranges[0][0], ranges, None)
            else:
                if free < len(self.guessed):
                    last = self.guessed[free]
                if last is None or last[0] != ranges:
                    break
                free += 1
                draft = Draft(id_at(_draw(last[1], generator), ranges), ranges, last[1])
            made.append(draft)
            state.advance(draft.id)
        self.ahead = made
        return [draft.id for draft in made]

    @property
    def places(self) -> list[tuple[int, Ranges]]:
        """(line, what is allowed there) of every place that has a choice: line 0 is that of the
        first draft, the last that of the place after all drafts."""
        found = [(at, d.ranges) for at, d in enumerate(self.ahead) if d.by is not None]
        if self.following is not None:
            found.append((len(self.ahead), self.following))
        return found

    def judge(
        self, given: dict[int, Array], generator: np.random.Generator
    ) -> tuple[list[int], list[int]]:
        """What is settled by what the decoder gives: probabilities (V',) by line.

        Returns the ids that were chosen (those without an alternative left out), and all drafts
        that were kept. Guesses for the places that follow are ready then.
        """
        chosen: list[int] = []
        kept: list[int] = []
        at = 0
        for at, draft in enumerate(self.ahead):
            if draft.by is None:
                kept.append(draft.id)
                continue
            column = _column(draft.id, draft.ranges)
            now, before = given[at], draft.by
            if generator.random() * before[column] < now[column]:
                chosen.append(draft.id)
                kept.append(draft.id)
                continue
            rest = np.maximum(now - before, 0)
            # Nothing is left where rounding alone made the difference.
            chosen.append(id_at(_draw(rest if rest.sum() > 0 else now, generator), draft.ranges))
            break
        else:
            at = len(self.ahead)
            if self.following is not None:
                chosen.append(id_at(_draw(given[at], generator), self.following))
        places = dict(self.places)
        self.guessed = [(places[line], given[line]) for line in sorted(given) if line > at]
        if not self.guessed and given:
            # Nothing is known of what follows but what the place before it had.
            line = max(given)
            self.guessed = [(places[line], given[line])]
        return chosen, kept


def _choices(ranges: Ranges) -> int:
    return sum(stop - start for start, stop in ranges)


def id_at(column: int, ranges: Ranges) -> int:
    """The id of a column among those of the ranges."""
    for start, stop in ranges:
        if column < stop - start:
            return start + column
        column -= stop - start
    raise IndexError(column)


def _column(id: int, ranges: Ranges) -> int:
    before = 0
    for start, stop in ranges:
        if start <= id < stop:
            return before + id - start
        before += stop - start
    raise ValueError(f"id {id} is in none of {ranges}")


def _draw(weights: Array, generator: np.random.Generator) -> int:
    """A column by weights of any sum."""
    return draw(weights[None], [generator])[0]

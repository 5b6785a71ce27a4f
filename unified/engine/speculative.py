"""Speculative Jacobi decoding: several ids of a span in one pass of the decoder.

Ids are drafted ahead and all go through the decoder at once. Each is accepted with the probability
that makes the outcome distributed as if it had been drawn alone: the ratio of the decoder's
probability now, with all ids before it settled, to the probability that it was drafted with
(Leviathan et al., arXiv:2211.17192). The first draft that is rejected is drawn again from what is
left of its distribution. The distributions to draft from come of the same pass: those that the
decoder gave at the positions ahead, although some of the ids before them were drafts (Teng et al.,
arXiv:2410.01699).

Shape legend: `V'` ids that the grammar allows at a position.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from unified.engine.backends.base import Array, Ranges
from unified.engine.sampler import draw
from unified.formats.state import State

__all__ = ["DraftToken", "Drafter", "id_at"]


@dataclass(frozen=True, eq=False)
class DraftToken:
    """An id drafted for a position.

    ranges: ids that the grammar allows there. probabilities: float32 (V',) that it was drawn with;
    None where the grammar allows only one id.
    """

    id: int
    ranges: Ranges
    probabilities: Array | None


@dataclass(eq=False)
class Drafter:
    """Drafts of one span of one sequence.

    Attributes:
        tokens: drafts that go through the decoder in the next pass.
        next_ranges: ids allowed behind all drafts; None where there is no choice.
        proposals: (ranges, probabilities) for the positions ahead, from the last pass.
    """

    tokens: list[DraftToken] = field(default_factory=list)
    next_ranges: Ranges | None = None
    proposals: list[tuple[Ranges, Array]] = field(default_factory=list)

    def draft(self, state: State, number: int, generator: np.random.Generator) -> list[int]:
        """Draft at most `number` ids from a state on, within its span. Returns them.

        Nothing is drafted at the first choice of a span: no pass has been there yet.
        """
        state, kind, choices_drafted = state.copy(), state.kind, 0
        tokens: list[DraftToken] = []
        proposal: tuple[Ranges, Array] | None = None
        while True:
            ranges = state.allowed()
            in_span = state.kind == kind and not state.finished
            self.next_ranges = ranges if in_span and _num_choices(ranges) > 1 else None
            if not in_span or len(tokens) == number:
                break
            if _num_choices(ranges) == 1:
                token = DraftToken(ranges[0][0], ranges, None)
            else:
                # Past the last proposal, that one is drawn from again.
                if choices_drafted < len(self.proposals):
                    proposal = self.proposals[choices_drafted]
                if proposal is None or proposal[0] != ranges:
                    break
                choices_drafted += 1
                column = _draw(proposal[1], generator)
                token = DraftToken(id_at(column, ranges), ranges, proposal[1])
            tokens.append(token)
            state.advance(token.id)
        self.tokens = tokens
        return [token.id for token in tokens]

    @property
    def choices(self) -> list[tuple[int, Ranges]]:
        """(index, ranges) of every position with a choice.

        Index 0 is the position of the first draft, the last one that behind all drafts.
        """
        choices = [
            (at, token.ranges)
            for at, token in enumerate(self.tokens)
            if token.probabilities is not None
        ]
        if self.next_ranges is not None:
            choices.append((len(self.tokens), self.next_ranges))
        return choices

    def verify(
        self, actual: dict[int, Array], generator: np.random.Generator
    ) -> tuple[list[int], list[int]]:
        """Accept or reject the drafts, and propose for the positions that follow.

        actual: the decoder's probabilities float32 (V',) by index of `choices`.

        Returns the ids that were chosen (those without an alternative left out), and all drafts
        that were accepted.
        """
        chosen: list[int] = []
        accepted: list[int] = []
        at = 0
        for at, token in enumerate(self.tokens):
            if token.probabilities is None:
                accepted.append(token.id)
                continue
            column = _column_of(token.id, token.ranges)
            now, before = actual[at], token.probabilities
            if generator.random() * before[column] < now[column]:
                chosen.append(token.id)
                accepted.append(token.id)
                continue
            rest = np.maximum(now - before, 0)
            # Nothing is left where rounding alone made the difference.
            column = _draw(rest if rest.sum() > 0 else now, generator)
            chosen.append(id_at(column, token.ranges))
            break
        else:
            at = len(self.tokens)
            if self.next_ranges is not None:
                chosen.append(id_at(_draw(actual[at], generator), self.next_ranges))
        ranges = dict(self.choices)
        ahead = [index for index in sorted(actual) if index > at]
        if not ahead and actual:
            # Nothing is known of the positions ahead but what the last one had.
            ahead = [max(actual)]
        self.proposals = [(ranges[index], actual[index]) for index in ahead]
        return chosen, accepted


def _num_choices(ranges: Ranges) -> int:
    return sum(stop - start for start, stop in ranges)


def id_at(column: int, ranges: Ranges) -> int:
    """The id of a column of logits over `ranges`."""
    for start, stop in ranges:
        if column < stop - start:
            return start + column
        column -= stop - start
    raise IndexError(column)


def _column_of(id: int, ranges: Ranges) -> int:
    """The inverse of `id_at`."""
    before = 0
    for start, stop in ranges:
        if start <= id < stop:
            return before + id - start
        before += stop - start
    raise ValueError(f"id {id} is in none of {ranges}")


def _draw(weights: Array, generator: np.random.Generator) -> int:
    """A column by weights (V',) of any sum."""
    return draw(weights[None], [generator])[0]

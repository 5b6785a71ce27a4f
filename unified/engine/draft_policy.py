"""How far to guess ahead: decided from pass to pass by what guesses and passes turn out to be.

A draft that stands saves what an id costs; every draft makes its pass longer. Both are measured in
the running engine: how often drafts of each kind stand, what a pass takes by the number of drafts
in it, and what an id takes in all. Drafts are added to a pass while they are expected to save more
than they cost. Ids never depend on it, so that time may decide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field

from unified.engine.pass_costs import PassCosts

__all__ = ["MOST_DRAFTS", "Cell", "DraftPolicy"]

MOST_DRAFTS = 32  # of a request in one pass
# A draft that does not stand is not for nothing: its position is guessed better in the next pass.
_REFINING = 1.15
# Where not even a draft that is sure to stand saves this many times its cost, none is looked for:
# many rows that keep the processor busy anyway.
_CLEARLY = 1.3
_HOPE = 1.6  # of two trials that were not, so many stood
_COUNTED = 64.0  # trials that a cell remembers
_FADE = 1024  # passes without a trial, after which a cell is half forgotten
_WEIGHT = 1 / 32  # of the latest pass, in what an id takes
_MEASURED = 3  # passes without drafts, before the first one with
# Drafts rest once the passes with them have taken as much longer as two passes without any take.
# A quarter of a hundred passes count.
_LOSS = 2.0
_KEEP = 1 - 1 / 64
_REST, _LONGEST_REST = 64, 8192  # passes; longer each time


@dataclass
class Cell:
    """How often drafts that look alike have stood: by the decoder's proposal, and by look-up."""

    trials: float = 0.0
    proposals: float = 0.0
    lookups: float = 0.0
    last_pass: int = 0

    def chance(self, stood: float) -> float:
        """Of one that stood so often. Hopeful at first, so that each is tried."""
        return (stood + _HOPE) / (self.trials + 2)

    def count(self, proposal: bool, lookup: bool) -> None:
        """A draft was verified: which of the two stood, or would have."""
        if self.trials >= _COUNTED:
            self.scale(0.5)
        self.trials += 1
        self.proposals += proposal
        self.lookups += lookup

    def scale(self, factor: float) -> None:
        """Let what was counted weigh less."""
        self.trials *= factor
        self.proposals *= factor
        self.lookups *= factor


@dataclass
class _Batch:
    """Passes of about the same number of rows.

    seconds_per_id: of all ids that were chosen lately. gained: seconds that drafts saved lately.
    """

    costs: PassCosts = field(default_factory=PassCosts)
    seconds_per_id: float = 0.0
    gained: float = 0.0
    num_plain: int = 0
    rests_until: int = 0
    rest: int = _REST


class DraftPolicy:
    """Decides for all requests of one engine.

    Attributes:
        enabled: whether `draft_tokens="auto"` may draft at all.
        saving: seconds that a draft of this pass saves if it stands; 0 where there shall be none.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._cells: defaultdict[Hashable, Cell] = defaultdict(Cell)
        self._batches: defaultdict[int, _Batch] = defaultdict(_Batch)
        self._batch = self._batches[1]
        self._passes = 0
        self._planned = 0
        self.saving = 0.0

    def begin_pass(self, rows: int) -> None:
        """A pass of so many rows is planned."""
        self._batch = batch = self._batches[_size(rows)]
        self._passes += 1
        self._planned = 0
        self.saving = 0.0
        known = batch.num_plain >= _MEASURED and batch.costs.without_drafts is not None
        if self.enabled and known and self._passes >= batch.rests_until:
            # Settled here for all rows: where drafts do not pay, a row costs nothing.
            saving = batch.seconds_per_id
            if saving > batch.costs.of_another(0) * _CLEARLY:
                self.saving = saving * _REFINING

    def cost(self, drafts: int) -> float:
        """Seconds that another draft of a row costs, behind `drafts` of that row."""
        return self._batch.costs.of_another(self._planned + drafts)

    def add(self, drafts: int) -> None:
        """So many drafts more go into the pass."""
        self._planned += drafts

    def cell(self, key: Hashable) -> Cell:
        """The cell of drafts that look alike."""
        cell = self._cells[key]
        if self._passes - cell.last_pass > _FADE:
            cell.scale(0.5)
            cell.last_pass = self._passes
        return cell

    def count(self, key: Hashable, proposal: bool, lookup: bool) -> None:
        """A draft was verified, see `Cell.count`."""
        cell = self._cells[key]
        cell.last_pass = self._passes
        cell.count(proposal, lookup)

    def observe(self, seconds: float, rows: int, chosen: int) -> None:
        """The pass that was planned took so long, and its rows chose so many ids in all."""
        batch, drafts = self._batches[_size(rows)], self._planned
        batch.costs.observe(drafts, seconds)
        before = batch.seconds_per_id
        per_id = min(seconds / chosen, 4 * before) if before else seconds / chosen
        batch.seconds_per_id = before + _WEIGHT * (per_id - before) if before else per_id
        if not drafts:
            batch.num_plain += 1
            return
        plain = batch.costs.without_drafts
        if plain is None:
            return
        batch.gained = batch.gained * _KEEP + chosen / rows * plain - seconds
        if batch.gained < -_LOSS * plain:
            batch.rests_until = self._passes + batch.rest
            batch.rest = min(2 * batch.rest, _LONGEST_REST)
            batch.gained = 0.0
        elif batch.gained > _LOSS * plain:
            batch.rest = _REST


def _size(rows: int) -> int:
    """Rows that are measured together: exactly so many of a few, about so many of more."""
    return rows if rows <= 8 else 8 + rows // 4

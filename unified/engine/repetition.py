"""What a sequence has already: columns of a penalty, and repetition-aware draws.

Repetition-aware sampling (VALL-E 2, arXiv:2406.05370; Higgs Audio v2): a code that was drawn, and
that stands too often among the latest codes of its level, is drawn anew from the decoder's own
distribution, without temperature or cuts. What it is then, it stays. The second draw has noise of
its own at the same position, so that ids depend on seed and position alone, as all do.

Shape legend: see `sampler`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from unified.engine.backends.base import Array, Ranges, id_at
from unified.engine.noise import Noise
from unified.engine.race import RowNoise, draw
from unified.formats.state import State

__all__ = ["Redraw", "Writing", "columns_of", "redraw", "stands_too_often"]


class Writing(Protocol):
    """What is known of a request that chooses: `ActiveRequest`."""

    state: State
    noise: Noise
    ids: list[int]


class Redraw(NamedTuple):
    """How choices that repeat are made anew.

    logits: (N, V'), guided and nothing more. noise: of the second draws. too_often: whether a
    column repeats, for each row.
    """

    logits: Array
    noise: Sequence[RowNoise]
    too_often: Sequence[Callable[[int], bool]]

    @classmethod
    def of(
        cls,
        logits: Array,
        window: int,
        repeats: int,
        ranges: Ranges,
        requests: Sequence[Writing],
    ) -> Redraw:
        """For the next id of each of some requests, one of those in `ranges`.

        window, repeats: `repetition_window` and `window_repeats` of `SpanSampling`.
        """

        def too_often(request: Writing, column: int) -> bool:
            return stands_too_often(request.state, window, repeats, id_at(column, ranges))

        return cls(
            logits,
            [partial(request.noise.again, len(request.ids)) for request in requests],
            [partial(too_often, request) for request in requests],
        )

    def of_row(self, row: int) -> Redraw:
        """The same for one row alone."""
        rows = slice(row, row + 1)
        return Redraw(self.logits[rows], self.noise[rows], self.too_often[rows])


def redraw(columns: Sequence[int], again: Redraw) -> list[int]:
    """The columns that were drawn, those that repeat too often drawn anew."""
    result = list(columns)
    rows = [row for row, column in enumerate(columns) if again.too_often[row](column)]
    if rows:
        logits = again.logits[rows]
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        for row, column in zip(rows, draw(weights, [again.noise[row] for row in rows])):
            result[row] = column
    return result


def stands_too_often(state: State, window: int, repeats: int, id: int) -> bool:
    """Whether an id that is next stands `repeats` times among the latest codes of its level."""
    return state.level >= 0 and state.latest_codes(state.level, window).count(id) >= repeats


def columns_of(ids: Collection[int], ranges: Ranges) -> NDArray[np.int64]:
    """Columns of logits over `ranges` of those ids that are in them, int64 (n,)."""
    every = np.fromiter(ids, np.int64, len(ids))
    columns, before = [], 0
    for start, stop in ranges:
        columns.append(every[(every >= start) & (every < stop)] + (before - start))
        before += stop - start
    return np.concatenate(columns)

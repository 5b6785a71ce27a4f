"""Figures of a report: a value, its 95% interval, and the number of cases it rests on.

Shares have Wilson's interval; means and ratios of sums have a percentile bootstrap over cases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "Difference",
    "MeasuredFigure",
    "bootstrap",
    "difference",
    "mean",
    "rate",
    "share",
    "wilson",
]

_Z = 1.959964
"""Two-sided 95% quantile of the normal distribution."""
_RESAMPLES = 1000


@dataclass(frozen=True)
class MeasuredFigure:
    """One number of a report.

    name: inside its part. value, low, high: with the ends of the 95% interval. cases: that it was
    counted over. unit: "share", "error rate", "score" or "count" (a plain number). better:
    "higher" or "lower". interval: "wilson" or "bootstrap". chance: what guessing gives, None where
    nothing is to be gained by it.
    """

    name: str
    value: float
    low: float
    high: float
    cases: int
    unit: str = "share"
    better: str = "higher"
    interval: str = "wilson"
    chance: float | None = None


def wilson(right: int, cases: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share: `right` of `cases`, at least one case."""
    share = right / cases
    scale = 1 + _Z**2 / cases
    centre = (share + _Z**2 / (2 * cases)) / scale
    half = _Z * math.sqrt(share * (1 - share) / cases + _Z**2 / (4 * cases**2)) / scale
    # At the ends rounding may leave the value outside by 1e-17.
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))


def share(
    name: str, outcomes: Sequence[bool], chance: float | None = None, better: str = "higher"
) -> MeasuredFigure:
    """The share of cases that came out true, at least one case."""
    right, cases = sum(map(bool, outcomes)), len(outcomes)
    return MeasuredFigure(
        name, right / cases, *wilson(right, cases), cases, better=better, chance=chance
    )


def bootstrap(
    cases: int, statistic: Callable[[np.ndarray], float], seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap's 95% interval. statistic: of indices of cases, int64 (cases,)."""
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(cases, size=cases)) for _ in range(_RESAMPLES)]
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def mean(
    name: str, values: Sequence[float], unit: str = "score", better: str = "higher"
) -> MeasuredFigure:
    """The mean of a value per case, at least one case."""
    array = np.asarray(values, np.float64)
    interval = bootstrap(len(array), lambda rows: float(array[rows].mean()))
    return MeasuredFigure(
        name, float(array.mean()), *interval, len(array), unit, better, "bootstrap"
    )


def rate(
    name: str,
    errors: Sequence[int],
    sizes: Sequence[int],
    unit: str = "error rate",
    better: str = "lower",
) -> MeasuredFigure:
    """Errors of all cases over their sizes, as a word error rate is; it may pass 1. 0 of 0 is 0."""
    counts, over = np.asarray(errors, np.float64), np.asarray(sizes, np.float64)

    def ratio(rows: np.ndarray) -> float:
        return float(counts[rows].sum() / max(over[rows].sum(), 1e-9))

    low, high = bootstrap(len(counts), ratio)
    value = ratio(np.arange(len(counts)))
    return MeasuredFigure(
        name, value, min(low, value), max(high, value), len(counts), unit, better, "bootstrap"
    )


@dataclass(frozen=True)
class Difference:
    """What a figure gained over an earlier one, with its 95% interval; above 0 is more."""

    value: float
    low: float
    high: float

    @property
    def sure(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def difference(now: MeasuredFigure, before: MeasuredFigure) -> Difference:
    """Newcombe's interval of a difference, from the two figures' own intervals.

    It takes the figures as independent; on the same cases it is wider than need be.
    """
    gain = now.value - before.value
    down = math.hypot(now.value - now.low, before.high - before.value)
    up = math.hypot(now.high - now.value, before.value - before.low)
    return Difference(gain, gain - down, gain + up)

"""The draw: columns as likely as their weights, for all rows of a pass together.

Shape legend: `N` rows, `V'` allowed ids, of which a column is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "RowNoise", "clip_noise", "draw", "draw_groups", "noise_numbers", "others"]

Array = NDArray[np.float32]
RowNoise = Callable[[int], NDArray[np.float64]]
"""Gives so many numbers for one choice (see `draw`)."""

BLOCK = 256
"""Columns that are drawn among at once."""
# Below the least that float64 noise has besides 0, and above the largest: 0 means "less than that".
_NOISE = 2.0**-60, 2.0**10
_NOTHING = np.zeros(0, np.float32)


def noise_numbers(columns: int) -> int:
    """Numbers of noise that a choice among so many columns takes: see `draw`."""
    return columns if columns <= BLOCK else -(-columns // BLOCK) + BLOCK


def clip_noise(noise: NDArray[np.float64]) -> None:
    """Noise as races take it, in place."""
    np.clip(noise, *_NOISE, out=noise)


def draw(weights: Array, noise: Sequence[RowNoise]) -> list[int]:
    """One column for each row of `weights` (N, V'), as likely as its share of the row's sum.

    weights: finite, 0 or more, not all of a row 0. A column of weight 0 is never drawn, whatever
    the noise. noise: gives so many independent float64 numbers, exponential with mean 1.

    First a block of columns is drawn by the sums of the blocks, then a column of it: two races of
    few runners in place of one of 300,000. In a race each runner's weight is divided by its own
    exponential noise, and the largest wins (the Gumbel-max trick, without the logarithms): unlike a
    search in the cumulated weights it turns on the two best alone, so that rounding elsewhere
    cannot tip it. The noise is float64: float32's is exactly 0 once in 10^7 times, which makes any
    column whatever the winner.
    """
    ((columns, _),) = draw_groups([weights], [noise], margins=False)
    return columns


def draw_groups(
    weights: Sequence[Array], noise: Sequence[Sequence[RowNoise]], margins: bool
) -> list[tuple[list[int], Array]]:
    """Columns, and by which factor they won as a logarithm, for each of some (N, V').

    The rows of all run two races together, of the most blocks that any has, `B`, and of BLOCK
    columns. What a row has fewer of runs with weight 0.
    """
    sizes = [part.shape for part in weights]
    blocks = [-(-V // BLOCK) if V > BLOCK else 0 for _, V in sizes]
    N, B = sum(n for n, _ in sizes), max(blocks)
    every = np.ones((N, B + BLOCK))  # noise: of the blocks, at their end, then of the columns
    sums, runners = np.zeros((N, B)), np.zeros((N, BLOCK))
    first = 0
    for part, of_rows, count, (n, V) in zip(weights, noise, blocks, sizes):
        numbers = count + BLOCK if count else V
        start = B - count
        for row, of_row in enumerate(of_rows, first):
            every[row, start : start + numbers] = of_row(numbers)
        if count:
            edges = np.arange(0, V, BLOCK)
            sums[first : first + n, start:] = np.add.reduceat(part, edges, axis=1, dtype=np.float64)
        first += n
    clip_noise(every)
    lead = _NOTHING
    winners = [0] * N
    if B:
        indices, lead = _race(sums, every[:, :B], margins)
        winners = indices.tolist()
    starts: list[int] = []
    for part, count, (_, V) in zip(weights, blocks, sizes):
        for weights_V in part:
            row = len(starts)
            start = (winners[row] - B + count) * BLOCK if count else 0
            starts.append(start)
            stop = min(start + BLOCK, V)
            runners[row, : stop - start] = weights_V[start:stop]
    indices, column_lead = _race(runners, every[:, B:], margins)
    columns = (indices + starts).tolist()
    results, first = [], 0
    for count, (n, _) in zip(blocks, sizes):
        rows = slice(first, first + n)
        own = np.minimum(lead[rows], column_lead[rows]) if count and margins else column_lead[rows]
        results.append((columns[rows], own))
        first += n
    return results


def _race(
    weights: NDArray[np.float64], noise: NDArray[np.float64], margins: bool
) -> tuple[NDArray[np.int64], Array]:
    """The winners (N,), and by which factor they won, as a logarithm, if that is asked for."""
    places = weights / noise
    winners: NDArray[np.int64] = places.argmax(axis=1)
    if not margins:
        return winners, _no_lead(winners)
    best = places[np.arange(len(places)), winners]
    with np.errstate(divide="ignore", invalid="ignore"):
        lead: Array = np.log(best / others(places, winners, 0)).astype(np.float32)
    return winners, lead


def _no_lead(winners: NDArray[np.int64]) -> Array:
    return np.zeros(len(winners), np.float32)


def others(
    places: NDArray[np.floating], winners: NDArray[np.int64], least: float
) -> NDArray[np.floating]:
    """The largest number of each row (N, V') but the winner's (N,)."""
    places = places.copy()
    places[np.arange(len(places)), winners] = least
    second: NDArray[np.floating] = places.max(axis=1)
    return second

"""The choice of an id in compiled loops, which says whether it is sure.

`unified.engine.sampler` and `unified.engine.race` say what is chosen. Their exponentials and sums
are numpy's, whose last bits differ from these, and from one processor to another. So a choice is
made by the same steps, and is sure where it would stay the same if every weight were off by a
factor of 1 +- _DOUBT: what turns on comparisons of logits alone always is. The few that are not,
one of some ten thousand, are made again by the sampler (a floating-point filter, as of geometric
predicates: Shewchuk, "Adaptive precision floating-point arithmetic", 1997).

Shape legend: `V'` allowed ids, of which a column is one.
"""

from __future__ import annotations

import numpy as np

from unified.engine.backends.cpu.intrinsics import (
    compiled,
    entry,
    largest,
    total,
    wide_vectors,
    word,
)
from unified.engine.backends.cpu.vectors import exp

__all__ = ["choose_column"]

# Exponentials here and in numpy are right to 3 units in the last place, 4e-7 of them, float32 sums
# of 256 to as much again; a quotient of two has twice that.
_DOUBT = 1e-5
# Weights below exp(-80) count as 0: they change sums of at most a million by less than 1e-28.
_FAINT = np.float32(-80)
# A race that is won with less may have been decided by those, over the least noise (2^-60).
_LEAST_WIN = 1e-5
_NO_NUMBER = np.uint32(0x7F800000)  # the magnitude of -inf
_DIGITS = 256


@entry
def choose_column(
    logits: np.ndarray, settings: np.ndarray, noise: np.ndarray, block: int, scores: np.ndarray,
    weights: np.ndarray,
) -> tuple[int, bool]:  # fmt: skip
    """The column that `sampler.choose` takes, and whether that is sure.

    Args:
        logits: float32 (V',).
        settings: float64 (4,): temperature, a float32 number, 0 for the likeliest column; top-k, V'
            or more for none; top-p, 1 for none; the least score by min-p, a float32 number, -inf
            for none.
        noise: float64 (numbers,), of the columns; or of the blocks, and then of the columns of one,
            where there are more than `block` columns. Not read with temperature 0.
        block: columns in a block.
        scores, weights: float32 (V', or more), workspaces.

    Damaged logits are never sure: the sampler says what is wrong with them.
    """
    wide_vectors()
    V = logits.shape[0]
    damaged = 0
    for v in range(V):
        damaged += logits[v] != logits[v]
    top = largest(logits, V)
    if damaged or not np.isfinite(top):
        return 0, False
    if settings[0] == 0:
        for v in range(V):
            if logits[v] == top:
                return v, True
    temperature = np.float32(settings[0])
    for v in range(V):
        score = (logits[v] - top) / temperature
        scores[v] = score
        weights[v] = exp(score) if score > _FAINT else np.float32(0)
    sure = True
    if settings[1] < V:
        _keep_nearest(scores, weights, V, np.int64(settings[1]))
    if settings[2] < 1:
        sure = _keep_nucleus(scores, weights, V, settings[2])
    least = np.float32(settings[3])
    if least > -np.inf:
        for v in range(V):
            if scores[v] < least:
                weights[v] = 0
    start, stop, first = 0, V, 0
    if block < V:
        blocks = -(-V // block)
        winner, won = _race(weights, 0, blocks, noise, block, V)
        sure = sure and won
        start, first = winner * block, blocks
        stop = min(V, start + block)
    winner, won = _race(weights, start, stop, noise[first:], 0, V)
    return start + winner, sure and won


@compiled
def _race(
    weights: np.ndarray, start: int, stop: int, noise: np.ndarray, block: int, V: int
) -> tuple[int, bool]:
    """The winner among columns [start, stop), from `start` on, or among blocks where `block` is
    not 0; and whether it is sure."""
    best = second = 0.0
    winner = 0
    for at in range(start, stop):
        if block:
            first = at * block
            weight = np.float64(total(weights[first:], min(block, V - first)))
        else:
            weight = np.float64(weights[at])
        arrival = weight / noise[at - start]
        if arrival > best:
            best, second, winner = arrival, best, at - start
        elif arrival > second:
            second = arrival
    return winner, best > _LEAST_WIN and best > second * (1 + _DOUBT)


@compiled
def _magnitude(score: np.float32) -> np.uint32:
    """Scores are 0 and less: a larger magnitude is a smaller score."""
    return word(score) & np.uint32(0x7FFFFFFF)


@compiled
def _keep_nearest(scores: np.ndarray, weights: np.ndarray, V: int, k: int) -> None:
    """Weight 0 for all but the k largest scores, and their equals: a radix select."""
    counts = np.empty(_DIGITS, np.int64)
    prefix, left = np.uint32(0), k
    for digit in range(4):
        shift = np.uint32(24 - 8 * digit)
        counts[:] = 0
        for v in range(V):
            magnitude = _magnitude(scores[v])
            if digit == 0 or (magnitude ^ prefix) >> (shift + np.uint32(8)) == 0:
                counts[(magnitude >> shift) & np.uint32(0xFF)] += 1
        at = 0
        while left > counts[at]:
            left -= counts[at]
            at += 1
        prefix |= np.uint32(at) << shift
    for v in range(V):
        if _magnitude(scores[v]) > prefix:
            scores[v] = -np.inf
            weights[v] = 0


@compiled
def _keep_nucleus(scores: np.ndarray, weights: np.ndarray, V: int, top_p: float) -> bool:
    """Weight 0 for all but the largest scores that hold `top_p` of the weights; whether that is
    sure. A radix select by the sums of weights."""
    sums = np.empty(_DIGITS, np.float64)
    whole = 0.0
    for v in range(V):
        whole += np.float64(weights[v])
    enough = top_p * whole
    prefix, before = np.uint32(0), 0.0
    for digit in range(4):
        shift = np.uint32(24 - 8 * digit)
        sums[:] = 0
        for v in range(V):
            magnitude = _magnitude(scores[v])
            if weights[v] > 0 and (
                digit == 0 or (magnitude ^ prefix) >> (shift + np.uint32(8)) == 0
            ):
                sums[(magnitude >> shift) & np.uint32(0xFF)] += np.float64(weights[v])
        at = 0
        while at < _DIGITS and before + sums[at] < enough:
            before += sums[at]
            at += 1
        if at == _DIGITS:  # by rounding alone
            return False
        prefix |= np.uint32(at) << shift
    held = before + sums[at]
    for v in range(V):
        if _magnitude(scores[v]) > prefix:
            weights[v] = 0
    return before < enough * (1 - _DOUBT) and held > enough * (1 + _DOUBT)

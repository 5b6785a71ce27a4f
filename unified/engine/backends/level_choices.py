"""What a backend is asked for that chooses the ids of all levels of a position in one call.

An id that it is not sure of is chosen by the engine, as is all that settings of this kind do not
say: guidance, penalties, drafts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from unified.engine.backends.base import HiddenStates, Ranges
from unified.engine.race import noise_numbers
from unified.engine.sampler import SpanSampling

__all__ = ["NO_CUT", "LevelChoices", "PositionWriter", "level_settings", "noise_ends"]

NO_CUT = 2.0**53
"""Top-k of settings without one."""
# Nearer to 1, rounding decides what is left out.
_MOST_TOP_P = 0.9999


class LevelChoices(NamedTuple):
    """The ids of J levels that are to be chosen, of N positions.

    ids: int64 (N, K), those that the positions hold; without any, the first level is that of their
    first ids. ranges: of each level the ids that are allowed, the same for all positions; of the
    first those, too, that begin no position of several.
    settings: float64 (N, J, 4), of `level_settings`.
    noise: float64 (N, numbers), clipped: those of each level one behind another (`noise_ends`);
    nothing is meant by those of settings that draw nothing.
    """

    ids: NDArray[np.int64]
    ranges: tuple[Ranges, ...]
    settings: NDArray[np.float64]
    noise: NDArray[np.float64]


class PositionWriter(Protocol):
    """The method of a `CodesDecoder` that writes all levels of a position in one call.

    writes_positions: False where a class cannot although the one it is made of can.
    """

    writes_positions: bool

    def write_positions(
        self, hidden_states: HiddenStates, choices: LevelChoices
    ) -> list[list[int]]:
        """The next ids of positions behind hidden states (N, D): the very ids that
        `sampler.choose` chooses level by level, as far as that is sure. Ids behind a first one that
        begins no position of several mean nothing."""


def noise_ends(ranges: Sequence[Ranges]) -> list[int]:
    """Where the noise of each level begins, and where that of the last one ends."""
    ends = [0]
    for own in ranges:
        columns = sum(stop - start for start, stop in own)
        ends.append(ends[-1] + noise_numbers(columns))
    return ends


def level_settings(sampling: SpanSampling) -> tuple[float, float, float, float] | None:
    """Temperature, top-k, top-p and the least score (see `choice_kernels`); None where more than
    these is asked for."""
    if (
        sampling.guidance.conditions
        or sampling.repetition_penalty != 1
        or sampling.repetition_window is not None
        or _MOST_TOP_P < sampling.top_p < 1
    ):
        return None
    least = np.float32(np.log(sampling.min_p)) if sampling.min_p > 0 else -np.inf
    top_k = NO_CUT if sampling.top_k is None else float(min(sampling.top_k, int(NO_CUT)))
    return float(np.float32(sampling.temperature)), top_k, sampling.top_p, float(least)

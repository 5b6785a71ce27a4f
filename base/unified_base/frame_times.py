"""Which frames of a video to take: chosen by their times alone, before any is decoded.

Choices are deterministic: the same times and the same wish give the same frames. `T` frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from unified_base.arguments import whole_or_none
from unified_base.text import quoted

__all__ = ["FrameChoice", "at_rate", "uniform_frames"]

MAX_RATE = 1_000.0
"""Most frames a second that can be asked for."""


def uniform_frames(num_frames: int, budget: int) -> np.ndarray:
    """Indices, int64, of `budget` frames spread evenly over `num_frames`; all where they fit.

    The first is frame 0, and others follow at equal steps, rounded down, as the processors of
    published video models choose them (transformers' `BaseVideoProcessor.sample_frames`).
    """
    if budget >= num_frames:
        return np.arange(num_frames)
    return np.arange(budget) * num_frames // budget


def at_rate(times: np.ndarray, rate: float) -> np.ndarray:
    """Indices int64 of the frames that are shown at every 1/rate seconds from the first one on, as
    often as they are shown then. times: seconds (T,), ascending."""
    number = int((times[-1] - times[0]) * rate + 1e-6) + 1
    moments = times[0] + np.arange(number) / rate + 1e-6 / rate
    return np.searchsorted(times, moments, side="right") - 1


@dataclass(frozen=True)
class FrameChoice:
    """Which frames are wanted; all of them where nothing is said.

    rate: frames a second at most: at every 1/rate seconds from 0 on, the frame that is shown then,
        once each. at: seconds, ascending: the frame that is shown at each. budget: frames at most,
        spread evenly over those that rate or at leave.

    Raises ValueError for both rate and at, and values that cannot be.
    """

    budget: int | None = None
    rate: float | None = None
    at: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        whole_or_none("frames", self.budget, 1)
        if self.rate is not None and self.at is not None:
            raise ValueError("rate and at both say which frames to take; give one of the two")
        rate = self.rate
        if rate is not None and not (
            isinstance(rate, int | float) and not isinstance(rate, bool) and 0 < rate <= MAX_RATE
        ):
            raise ValueError(
                f"rate is {quoted(rate)}, expected more than 0 and at most {MAX_RATE:,.0f} frames a"
                " second"
            )
        if self.at is not None:
            object.__setattr__(self, "at", _ascending(self.at))

    def of(self, times: np.ndarray) -> np.ndarray:
        """Indices, int64 ascending, of the frames to take. times: seconds (T,), ascending.

        Raises ValueError where a time lies before the first frame or far behind the last.
        """
        chosen = np.arange(len(times))
        if self.at is not None:
            last = times[-1] + max(1.0, float(times[-1] - times[0]))
            if outside := [t for t in self.at if not times[0] <= t <= last]:
                raise ValueError(
                    f"at has {outside[0]:g} s, expected times from {times[0]:g} to"
                    f" {times[-1]:g} s, of the video's first and last frame"
                )
            chosen = _shown(times, np.array(self.at))
        elif self.rate is not None:
            number = math.floor((times[-1] - times[0]) * self.rate + 1e-6) + 1
            # At most one of each frame: no wish makes more frames than there are.
            if number < 4 * len(times):
                chosen = _shown(times, times[0] + np.arange(number) / self.rate + 1e-6 / self.rate)
        if self.budget is not None:
            chosen = chosen[uniform_frames(len(chosen), self.budget)]
        return chosen


def _shown(times: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The frames that are shown at some seconds: the last that has begun, once each."""
    return np.unique(np.searchsorted(times, at, side="right") - 1)


def _ascending(at: Sequence[float]) -> tuple[float, ...]:
    values = tuple(at) if isinstance(at, list | tuple) else ()
    numbers = [t for t in values if isinstance(t, int | float) and not isinstance(t, bool)]
    if not values or len(numbers) != len(values) or not all(map(math.isfinite, numbers)):
        raise ValueError(f"at is {quoted(at)}, expected times in seconds")
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        raise ValueError(f"at is {quoted(at)}, expected times that ascend")
    return tuple(float(t) for t in numbers)

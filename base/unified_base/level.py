"""The level of speech: the root mean square of those parts of a waveform in which there is sound.

Pauses must not count, or a sentence would be louder for having more of them. ITU-T P.56 takes what
lies at most 15.9 dB below the level so measured as active; so does this, on frames of 20 ms instead
of an envelope: the largest number of the loudest frames of which the faintest is at most so far
below their mean. No threshold is absolute, so a waveform at half the volume has exactly half the
level. https://www.itu.int/rec/T-REC-P.56
"""

from __future__ import annotations

import numpy as np

__all__ = ["MAX_GAIN", "active_level", "level_gain"]

MAX_GAIN = 1_000.0
"""60 dB. What would need more is silence for 16-bit samples, and stays so."""

_FRAME = 0.02  # seconds
_MARGIN = 10**-1.59  # 15.9 dB, of powers


def active_level(waveform: np.ndarray, rate: int) -> np.ndarray:
    """The levels of waveforms, float64 (...), of float (..., S) at `rate` Hz; of zeros 0.

    Of a full-scale sine 0.71, -3 dB. The last frame may be shorter. Raises ValueError for waveforms
    without samples.
    """
    *shape, length = waveform.shape
    if not length:
        raise ValueError(f"a waveform has shape {waveform.shape}, expected samples to measure")
    frame = max(1, round(rate * _FRAME))
    whole = length - length % frame
    squares = np.square(waveform, dtype=np.float64)
    powers = squares[..., :whole].reshape(*shape, -1, frame).mean(-1)
    if whole < length:
        powers = np.concatenate([powers, squares[..., whole:].mean(-1, keepdims=True)], -1)
    loudest = -np.sort(-powers, axis=-1)
    means = np.cumsum(loudest, -1) / np.arange(1, loudest.shape[-1] + 1)
    active = np.where(loudest >= means * _MARGIN, np.arange(loudest.shape[-1]), 0).max(-1)
    return np.sqrt(np.take_along_axis(means, active[..., None], -1)[..., 0])


def level_gain(waveform: np.ndarray, rate: int, decibels: float) -> np.ndarray:
    """What brings waveforms to a level: float64 (...), to be multiplied with float (..., S).

    decibels: below full scale, such as -26, P.56's usual one. The gain is 1 for what would need
    more than `MAX_GAIN`: it holds nothing to hear.
    """
    levels = active_level(waveform, rate)
    target = 10 ** (decibels / 20)
    with np.errstate(divide="ignore"):
        gains = target / levels
    return np.where(gains <= MAX_GAIN, gains, 1.0)

"""Changing the sample rate of a waveform, by libsoxr; bounded before anything is allocated."""

from __future__ import annotations

import numpy as np

__all__ = ["MAX_RATE", "MAX_RATIO", "MAX_RESAMPLED", "resample"]

MAX_RATE = 768_000
"""Hz; no recorder goes beyond."""
MAX_RESAMPLED = 1 << 27
"""Numbers that a resampled waveform may hold, channels together."""
MAX_RATIO = 256
"""Of two rates, either way: libsoxr's filter grows with it, to minutes of work beyond thousands."""

_MARGIN = 64
"""Samples of silence after the waveform: libsoxr rounds lengths, this function rounds them up."""


def resample(waveform: np.ndarray, rate: int, target: int) -> np.ndarray:
    """The waveform at another sample rate: a linear-phase filter, 20 bits exact ("HQ" of libsoxr).

    waveform: float (channels, S); rate, target: whole Hz. Returns float32
    (channels, ceil(S * target / rate)). Samples outside the waveform count as zero. What the lower
    rate cannot hold is removed; the pass band ends at 0.91 of its half. Peaks may overshoot the
    input's by a little; nothing is clipped. At target == rate the waveform itself.

    Raises ValueError for a waveform of another shape, a rate below 1 or beyond `MAX_RATE`, rates
    further apart than `MAX_RATIO`, and a result of more than `MAX_RESAMPLED` numbers.
    """
    if waveform.ndim != 2 or 0 in waveform.shape:
        raise ValueError(f"waveform has shape {waveform.shape}, expected (channels, S)")
    for value in (rate, target):
        if not 1 <= value <= MAX_RATE:
            raise ValueError(
                f"sample rates are {rate} and {target} Hz, expected at least 1 and at most "
                f"{MAX_RATE:,}"
            )
    if rate == target:
        return waveform.astype(np.float32, copy=False)
    if max(rate, target) > MAX_RATIO * min(rate, target):
        raise ValueError(
            f"cannot resample {rate:,} Hz to {target:,} Hz, expected rates at most {MAX_RATIO} "
            "times each other"
        )
    length = -(-waveform.shape[1] * target // rate)
    if length * waveform.shape[0] > MAX_RESAMPLED:
        raise ValueError(
            f"{waveform.shape[1]:,} samples at {rate:,} Hz are {length:,} at {target:,} Hz, "
            f"expected at most {MAX_RESAMPLED:,}, channels together; cut the sound first"
        )
    # Only here: not every command that reads sounds changes their rate.
    import soxr

    margin = _MARGIN + 2 * rate // target
    out = np.empty((waveform.shape[0], length), np.float32)
    for channel, samples in zip(out, waveform):
        padded = np.pad(samples.astype(np.float32, copy=False), (0, margin))
        channel[:] = soxr.resample(padded, rate, target, "HQ")[:length]
    return out

"""Decoding by libsndfile, of streams that have been walked before: block by block, never beyond a
limit, whatever length the library or the file claims."""

from __future__ import annotations

import io

import numpy as np
import soundfile

__all__ = ["MAX_SAMPLES", "check_size", "read_blocks"]

MAX_SAMPLES = 1 << 27
"""Numbers that a sound may hold, channels together: a header may claim any rate and count."""

_BLOCK = 1 << 16


def check_size(frames: int, channels: int, rate: int, max_seconds: float) -> None:
    """Raises ValueError for a sound that is empty, too long, or of impossible channels or rate.

    frames: samples of each channel; rate: Hz.
    """
    from unified_base.resample import MAX_RATE

    if not 1 <= rate <= MAX_RATE:
        raise ValueError(f"has {rate:,} samples a second, expected 1 to {MAX_RATE:,}")
    if not 1 <= channels <= 256:
        raise ValueError(f"has {channels} channels, expected 1 to 256")
    if frames <= 0:
        raise ValueError("is empty, expected at least one sample")
    if frames > max_seconds * rate:
        raise ValueError(
            f"is {frames / rate:,.0f} s long, expected at most {max_seconds:g} s; cut it first"
        )
    if frames * channels > MAX_SAMPLES:
        raise ValueError(
            f"has {frames:,} samples of {channels} channels, expected at most {MAX_SAMPLES:,} in "
            "all; cut it or resample it first"
        )


def read_blocks(
    data: bytes, dtype: str, max_seconds: float, expected: int | None = None
) -> tuple[np.ndarray, int]:
    """The samples (S, channels) of a file's bytes, and the rate in Hz.

    dtype: "float32", "int16" or "int32" (aligned to the top bits). expected: how many samples of
    each channel the stream has, as far as it says.

    Raises ValueError, to be put behind the sound's name, where the library cannot read them all.
    """
    blocks: list[np.ndarray] = []
    total = 0
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            rate, channels = sound.samplerate, sound.channels
            check_size(1 if expected is None else expected, channels, rate, max_seconds)
            # One call a block: what the file claims is not asked for, only what is there.
            while len(block := sound.read(_BLOCK, dtype=dtype, always_2d=True)):
                blocks.append(block)
                total += len(block)
                check_size(total, channels, rate, max_seconds)
    except (soundfile.SoundFileError, RuntimeError) as error:
        # Its whole text would quote the object it read from, with an address in memory.
        reason = str(getattr(error, "error_string", "it is damaged")).strip().rstrip(".")
        raise ValueError(f"cannot be read: {reason}") from None
    if expected is not None and total != expected:
        raise ValueError(f"is cut off or damaged: {total:,} of its {expected:,} samples are there")
    check_size(total, channels, rate, max_seconds)
    return np.concatenate(blocks), rate

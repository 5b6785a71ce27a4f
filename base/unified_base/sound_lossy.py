"""Sounds as MP3, which every reader of books and every browser plays. It is not exact."""

from __future__ import annotations

import io

import numpy as np
import soundfile

from unified_base.resample import resample

__all__ = ["encode_mp3"]

_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Sample rates that MPEG-1, -2 and -2.5 have, in Hz."""


def encode_mp3(waveform: np.ndarray, rate: int) -> bytes:
    """The bytes of an MP3 file, whose samples are close to the waveform's, not the same.

    waveform: float32 (channels, S) in [-1, 1]; more than two channels are mixed down to one. A
    rate that MP3 does not have becomes the next higher, or 48,000 Hz. Raises ValueError where the
    installed libsndfile cannot write MP3 (it is older than 1.1), and as `resample` does.
    """
    if waveform.shape[0] > 2:
        waveform = waveform.mean(axis=0, keepdims=True)
    target = next((each for each in _RATES if each >= rate), _RATES[-1])
    samples = np.clip(resample(waveform, rate, target), -1.0, 1.0).T  # (S, channels)
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, samples, target, format="MP3", subtype="MPEG_LAYER_III")
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"cannot write MP3 with libsndfile {soundfile.__libsndfile_version__}: {error}; update "
            "soundfile"
        ) from None
    return buffer.getvalue()

"""Which of several utterances a sound is: dynamic time warping over log-mel features.

Legend: S samples, T frames, F mel bands.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch

from unified_base.sounds import conform
from unified_data.document import Audio
from unified_data.pocket.speech import SAMPLE_RATE
from unified_tokenizers.spectral import LogMel

__all__ = ["Features", "features", "rank", "warped_distance"]

Features = np.ndarray[Any, np.dtype[np.float32]]
_HOP = 160
_BANDS = 40
_QUIET = 0.03  # of the loudest frame: less is silence, which all utterances have in common


@cache
def _front() -> LogMel:
    return LogMel(SAMPLE_RATE, 512, _HOP, _BANDS).fill()


def features(sound: Audio) -> Features:
    """Log-mel frames, 100 a second, silent ones left out: float32 (T, F), T at least 1.

    Every frame is centred, so that neither loudness nor the slope of a filter counts for much.
    """
    wave = conform(sound.waveform, sound.sample_rate, SAMPLE_RATE, 1)[0].astype(np.float32)
    whole = max(1, -(-len(wave) // _HOP)) * _HOP
    wave = np.pad(wave, (0, whole - len(wave)))
    with torch.no_grad():
        frames = _front()(torch.from_numpy(wave)[None])[0].numpy()
    power = np.sqrt((wave.reshape(-1, _HOP) ** 2).mean(axis=1))
    loud = frames[power > _QUIET * max(float(power.max()), 1e-6)]
    loud = loud if len(loud) else frames[:1]
    centred: Features = loud - loud.mean(axis=1, keepdims=True)
    return centred


def warped_distance(reference: Features, sound: Features, anywhere: bool = False) -> float:
    """The mean distance of a reference's frames from those that a sound has for them, in order.

    Each frame of the reference is met by one of the sound, which stays or goes on by one or two.
    The whole sound has to be gone through as far as that allows; anywhere: any stretch of it.
    inf where the sound is too long or too short for this.
    """
    squares = (reference**2).sum(axis=1)[:, None] + (sound**2).sum(axis=1)
    squares -= 2 * reference @ sound.T
    cost = np.sqrt(np.maximum(squares, 0) / reference.shape[1])  # (T, T of the sound)
    total = cost[0].copy()
    if not anywhere:
        total[1:] = np.inf
    for row in cost[1:]:
        by_one = np.concatenate([[np.inf], total[:-1]])
        by_two = np.concatenate([[np.inf, np.inf], total])[: len(total)]
        total = row + np.minimum(total, np.minimum(by_one, by_two))
    return float((total.min() if anywhere else total[-1]) / len(cost))


def rank(sound: Features, true: Features, rivals: Sequence[Features], anywhere: bool) -> int:
    """How many of the rivals are at least as near to a sound as the true utterance; 0 is right."""
    own = warped_distance(true, sound, anywhere)
    return sum(warped_distance(rival, sound, anywhere) <= own for rival in rivals)

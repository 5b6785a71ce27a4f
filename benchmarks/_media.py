"""Pictures and speech of the pocket world, made in the process: no shards are needed.

Speech needs espeak-ng.
"""

from __future__ import annotations

import numpy as np

from unified_data.pocket.planning import plan_documents
from unified_data.pocket.scenes import Scene, render
from unified_data.pocket.speech import SAMPLE_RATE, connected, speak, word_by_word

__all__ = ["SAMPLE_RATE", "crops", "pictures", "scenes", "speech", "voices"]


def _chosen(kind: str, split: str, number: int) -> list:
    plans = plan_documents(kind, split)
    return [plans[i] for i in np.random.default_rng(0).permutation(len(plans))[:number]]


def scenes(split: str, number: int) -> list[Scene]:
    """What `pictures` shows."""
    return _chosen("draw", split, number)


def pictures(split: str, number: int, half: bool = True) -> np.ndarray:
    """Whole scenes, 96 x 96 pixels or halved to 48 x 48, uint8 (N, H, W, 3)."""
    pictures = np.stack([render(scene) for scene in scenes(split, number)])
    if not half:
        return pictures
    squares = pictures.reshape(len(pictures), 48, 2, 48, 2, 3)
    return squares.mean((2, 4)).round().astype(np.uint8)


def speech(split: str, number: int) -> list[np.ndarray]:
    """Sentences in the world's three voices, each float32 (S,) at 16 kHz."""
    return [speak(*pair)[0] for pair in _chosen("speak", split, number)]


def voices(number: int) -> list[np.ndarray]:
    """Held-out sentences in voices that are in no training data, each float32 (S,) at 16 kHz."""
    return [
        (word_by_word if apart else connected)(sentence, speaker)[0]
        for sentence, speaker, apart in _chosen("voices", "heldout", number)
    ]


def crops(sounds: list[np.ndarray], number: int, length: int, seed: int) -> np.ndarray:
    """Random crops of random sounds, float32 (`number`, `length`); silence follows short ones."""
    rng = np.random.default_rng(seed)
    batch = np.zeros((number, length), np.float32)
    for row in batch:
        sound = sounds[int(rng.integers(len(sounds)))]
        start = int(rng.integers(max(1, len(sound) - length + 1)))
        part = sound[start : start + length]
        row[: len(part)] = part
    return batch

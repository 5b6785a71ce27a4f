"""Whether media divide into the codes of a tokenizer as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from unified_tokenizers.base import AudioTokenizer, ImageTokenizer, VideoTokenizer

__all__ = ["check_picture", "check_sound", "check_video"]


def check_picture(tokenizer: ImageTokenizer | VideoTokenizer, height: int, width: int) -> None:
    """Raises ValueError for a picture of so many pixels that does not divide into codes."""
    stride = tokenizer.stride
    if height < 1 or width < 1 or height % stride or width % stride:
        raise ValueError(
            f"a picture of {width}x{height} pixels does not divide into codes: both sides "
            f"must be multiples of {stride}; resize or crop it first"
        )


def check_sound(tokenizer: AudioTokenizer, channels: int, sample_rate: int) -> None:
    """Raises ValueError for a sound that is not mono at the tokenizer's sample rate (Hz)."""
    if channels != 1 or sample_rate != tokenizer.sample_rate:
        raise ValueError(
            f"the sound has {channels} channels at {sample_rate} Hz, expected 1 "
            f"channel at {tokenizer.sample_rate} Hz; convert it first"
        )


def check_video(tokenizer: VideoTokenizer, frames: np.ndarray, times: np.ndarray) -> None:
    """Raises ValueError for a video (T, H, W, 3) that does not divide into codes, or whose frames
    do not follow one another at the tokenizer's rate. times: seconds (T,)."""
    number, height, width = frames.shape[:3]
    check_picture(tokenizer, height, width)
    rate, group = tokenizer.frame_rate, tokenizer.group
    if number > 1 and not np.abs(np.diff(times) * rate - 1).max() < 0.05:
        mean = (number - 1) / (times[-1] - times[0])
        raise ValueError(
            f"the video has {mean:.3g} frames a second"
            f"{' at unequal steps' if np.ptp(np.diff(times)) * rate > 0.05 else ''}, expected"
            f" {rate:g} at equal ones; sample it at that rate first (FrameChoice(rate={rate:g}))"
        )
    if (number - 1) % group:
        raise ValueError(
            f"a video of {number} frames does not divide into codes: the first frame has its own,"
            f" and every {group} behind it share theirs; leave {(number - 1) % group} frames out"
        )

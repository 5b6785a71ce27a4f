"""Making pictures, videos and sounds fit what a model takes, and saying what was changed."""

from __future__ import annotations

import numpy as np
from PIL import Image as PillowImage

from unified_base.frame_times import at_rate
from unified_base.sounds import conform

__all__ = [
    "crop_picture", "crop_video", "fit_picture", "fit_sound", "fit_video", "fitted_area", "is_cut",
    "whole_groups",
]  # fmt: skip


def fit_picture(pixels: np.ndarray, height: int, width: int) -> tuple[np.ndarray, str | None]:
    """A picture of height x width: scaled with its proportions kept, in the middle, on white.

    pixels: uint8 (H, W, 3). Returns the picture and a note, which is None where nothing changed.
    """
    found_height, found_width = pixels.shape[:2]
    if (found_height, found_width) == (height, width):
        return pixels, None
    top, left, inner_height, inner_width = fitted_area(found_height, found_width, height, width)
    picture = PillowImage.fromarray(pixels)
    # Lanczos scales by area where it shrinks, so fine patterns do not turn into others.
    scaled = picture.resize((inner_width, inner_height), PillowImage.Resampling.LANCZOS)
    fitted = np.full((height, width, 3), 255, np.uint8)
    fitted[top : top + inner_height, left : left + inner_width] = np.asarray(scaled)
    note = f"the picture of {found_width}x{found_height} was fitted into {width}x{height} pixels"
    if (inner_height, inner_width) != (height, width):
        note += " with white margins"
    return fitted, note


def fitted_area(
    from_height: int, from_width: int, height: int, width: int
) -> tuple[int, int, int, int]:
    """Where `fit_picture` puts a picture of from_height x from_width: (top, left, height, width) in
    pixels of height x width; the rest is margin."""
    scale = min(height / from_height, width / from_width)
    inner_height = max(1, round(from_height * scale))
    inner_width = max(1, round(from_width * scale))
    return (height - inner_height) // 2, (width - inner_width) // 2, inner_height, inner_width


def crop_picture(pixels: np.ndarray, side: int, stride: int) -> np.ndarray:
    """A picture no side of which is longer than `side`, both multiples of `stride`.

    It is scaled down with its proportions kept where it is larger, never up; what a multiple leaves
    over is cut off at the edges, evenly.

    pixels: uint8 (H, W, 3). Raises ValueError for a picture that has no multiple left.
    """
    height, width = pixels.shape[:2]
    inner = _scaled_down(height, width, side)
    cropped = [length // stride * stride for length in inner]
    if 0 in cropped:
        raise ValueError(
            f"a picture of {width}x{height} pixels, at most {side} to a side, holds no {stride}x"
            f"{stride} pixels"
        )
    if inner != (height, width):
        picture = PillowImage.fromarray(pixels)
        # Lanczos scales by area where it shrinks, so fine patterns do not turn into others.
        scaled = picture.resize((inner[1], inner[0]), PillowImage.Resampling.LANCZOS)
        pixels = np.asarray(scaled)
    top, left = ((whole - part) // 2 for whole, part in zip(inner, cropped))
    return np.ascontiguousarray(pixels[top : top + cropped[0], left : left + cropped[1]])


def _scaled_down(height: int, width: int, side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(height, width))
    return round(height * scale), round(width * scale)


def is_cut(height: int, width: int, side: int, stride: int) -> bool:
    """Whether `crop_picture` cuts something off a picture of height x width."""
    return any(length % stride for length in _scaled_down(height, width, side))


def fit_sound(waveform: np.ndarray, rate: int, target: int) -> tuple[np.ndarray, list[str]]:
    """A mono sound at the target rate in Hz.

    waveform: float32 (channels, S) in [-1, 1]. Returns float32 (1, S') in [-1, 1] and notes, none
    where nothing changed. The rules are those of `unified_base.sounds.conform`: two channels are
    averaged, more are refused.

    Raises ValueError as `conform` does.
    """
    notes = []
    fitted = conform(waveform, rate, target, 1)
    if waveform.shape[0] != 1:
        notes.append(f"the sound's {waveform.shape[0]} channels were mixed down to one")
    if rate != target:
        notes.append(f"the sound was resampled from {rate:,} to {target:,} Hz")
        peak = float(np.abs(fitted).max())
        if peak > 1:
            fitted = fitted / np.float32(peak)  # overshoot of the filter
    return fitted, notes


def whole_groups(frames: np.ndarray, group: int) -> np.ndarray:
    """The frames (T, ...) that fill groups behind the first frame: the last `(T - 1) % group` are
    left out."""
    return frames[: 1 + (len(frames) - 1) // group * group]


def crop_video(frames: np.ndarray, side: int, stride: int) -> np.ndarray:
    """Every frame, uint8 (T, H, W, 3), as `crop_picture` makes it."""
    return np.stack([crop_picture(frame, side, stride) for frame in frames])


def fit_video(
    frames: np.ndarray,
    times: np.ndarray,
    rate: float,
    group: int,
    height: int,
    width: int,
    most: int | None = None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """A video at `rate` frames a second, of 1 + n * group frames of height x width.

    frames: uint8 (T, H, W, 3). times: seconds (T,). most: frames that a model takes. Returns frames
    and notes, none where nothing changed. Frames are made to fit as `fit_picture` makes a picture;
    at another rate the frame that is shown at each moment is taken.

    Raises ValueError for a video of more frames than `most`, before one of them is made to fit.
    """
    notes: list[str] = []
    chosen = at_rate(times, rate)
    kept_frames = whole_groups(chosen, group)
    if most is not None and len(kept_frames) > most:
        raise ValueError(
            f"the video has {len(kept_frames):,} frames at {rate:g} a second, expected {most:,} at"
            f" most, {most / rate:.1f} s; take a part of it, or give a number of frames to spread"
            " over it (frames)"
        )
    if not np.array_equal(kept_frames, np.arange(len(frames))):
        notes.append(
            f"the video's {len(frames)} frames in {times[-1] - times[0]:.2f} s became"
            f" {len(kept_frames)} at {rate:g} a second"
        )
    fitted = []
    note: str | None = None
    for frame in frames[kept_frames]:
        picture, note = fit_picture(frame, height, width)
        fitted.append(picture)
    if note is not None:
        notes.append(note.replace("the picture", "every frame"))
    return np.stack(fitted), tuple(notes)

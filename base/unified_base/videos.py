"""Videos: reading what strangers give, bounded before it is decoded; writing MP4, GIF and WebP.

MP4, QuickTime, WebM and Matroska are decoded by PyAV (extra `video`), GIF, WebP and animated PNG by
Pillow. What a file claims of itself is compared with what it has: the times of its frames come from
its packets, so that a wrong duration or a variable frame rate changes nothing, and a file that ends
long before it says is refused. Sound is passed over.

`T` frames, `H W` pixels.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from unified_base.apng import decode_apng, has_times
from unified_base.atomic import atomic_write
from unified_base.files import read_bytes
from unified_base.frame_times import FrameChoice
from unified_base.video_boxes import check_boxes
from unified_base.video_limits import MAX_BYTES, MAX_FRAMES, MAX_VIDEO_FILE, MAX_VIDEO_SIDE
from unified_base.video_stills import decode_animation, encode_animation
from unified_base.video_streams import decode_stream, encode_mp4

__all__ = [
    "VIDEO_WRITTEN", "decode_video", "encode_video", "frame_ends", "load_video", "save_video",
]  # fmt: skip

VIDEO_WRITTEN = (".mp4", ".gif", ".webp")
"""Endings of the files that `save_video` writes."""


def load_video(
    path: str | Path, choice: FrameChoice | None = None, max_bytes: int = MAX_BYTES
) -> tuple[np.ndarray, np.ndarray]:
    """The frames of a file, uint8 (T, H, W, 3), and when each begins, float64 seconds (T,).

    choice: which frames; None: all. max_bytes: that the frames may take together.

    Raises ValueError when the file cannot be read, is of another kind, cut off or damaged, has
    sides or frames beyond `video_limits`, or frames that would take more than max_bytes; all but
    damage inside a frame is seen before anything is decoded.
    """
    return decode_video(read_bytes(path, "video", MAX_VIDEO_FILE), str(path), choice, max_bytes)


def decode_video(
    data: bytes, name: str, choice: FrameChoice | None = None, max_bytes: int = MAX_BYTES
) -> tuple[np.ndarray, np.ndarray]:
    """As `load_video`, from the file's bytes; `name` is for errors."""
    choice = choice or FrameChoice()
    try:
        if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            check_boxes(data, MAX_FRAMES, MAX_VIDEO_SIDE)
            return decode_stream(data, "mov", choice, max_bytes)
        if data[:4] == b"\x1aE\xdf\xa3":
            return decode_stream(data, "matroska", choice, max_bytes)
        if has_times(data):
            frames, times = decode_apng(data, max_bytes)
            chosen = choice.of(times)
            return frames[chosen], times[chosen]
        return decode_animation(data, choice, max_bytes)
    except (ValueError, MemoryError) as error:
        raise ValueError(f"video {name} {error or 'needs more memory than there is'}") from None


def save_video(path: str | Path, frames: np.ndarray, times: np.ndarray) -> None:
    """Write an MP4, GIF or WebP file, by the path's ending. Raises ValueError as `encode_video` and
    `atomic_path` do."""
    atomic_write(path, encode_video(Path(path).suffix, frames, times))


def encode_video(ending: str, frames: np.ndarray, times: np.ndarray) -> bytes:
    """The bytes of a file: ".mp4", ".gif" or ".webp", none of which keeps pixels exactly.

    frames: uint8 (T, H, W, 3). times: float64 seconds (T,), ascending; the last frame is shown as
    long as the one before it, and one alone for a tenth of a second.

    Raises ValueError for another ending, and frames or times of other shapes.
    """
    ending = ending.lower()
    if ending not in VIDEO_WRITTEN:
        raise ValueError(
            f"cannot write a video as {ending or 'a file without an ending'!r}, expected"
            f" {', '.join(VIDEO_WRITTEN)}"
        )
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise ValueError(
            f"frames are {frames.dtype} {frames.shape}, expected uint8 (T, H, W, 3), none of them 0"
        )
    if times.shape != (len(frames),):
        raise ValueError(f"times have shape {times.shape}, expected ({len(frames)},)")
    data = io.BytesIO()
    ends = frame_ends(times)
    if ending == ".mp4":
        encode_mp4(data, frames, times, ends)
    else:
        encode_animation(data, ending[1:], frames, ends - times)
    return data.getvalue()


def frame_ends(times: np.ndarray) -> np.ndarray:
    """When each frame ends, float64 seconds (T,): with the next; the last as long as the one
    before, one alone after a tenth of a second."""
    last = times[-1] - times[-2] if len(times) > 1 else 0.1
    return np.append(times[1:], times[-1] + last)

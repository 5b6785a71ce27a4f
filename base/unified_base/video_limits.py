"""How large a video may be, whatever its kind."""

from __future__ import annotations

__all__ = ["MAX_BYTES", "MAX_FRAMES", "MAX_VIDEO_FILE", "MAX_VIDEO_SIDE", "check_memory"]

MAX_VIDEO_FILE = 1 << 30
"""Bytes of a video's file."""
MAX_FRAMES = 1_000_000
"""Frames of a file: nine hours at 30 a second."""
MAX_VIDEO_SIDE = 8_192
"""Pixels of a side: 8K."""
MAX_BYTES = 1 << 30
"""Bytes that the frames which are read may take together."""


def check_memory(frames: int, width: int, height: int, max_bytes: int) -> None:
    """Raises ValueError, to be put behind the video's name, for sides that no video has, and for
    frames that would take more than max_bytes."""
    if not width or not height:
        raise ValueError(f"is damaged: it has {width}x{height} pixels")
    if max(width, height) > MAX_VIDEO_SIDE:
        raise ValueError(
            f"has {width:,}x{height:,} pixels, expected sides of {MAX_VIDEO_SIDE:,} at most"
        )
    size = frames * width * height * 3
    if size > max_bytes:
        raise ValueError(
            f"has {frames:,} frames of {width}x{height} pixels, {size:,} bytes decoded, expected"
            f" {max_bytes:,} at most; take fewer of them (frames, rate or at), or make it smaller"
        )

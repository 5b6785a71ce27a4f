"""How large a picture may be, whatever its kind."""

from __future__ import annotations

__all__ = ["MAX_PIXELS", "check_pixels"]

MAX_PIXELS = 64_000_000


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raises ValueError, to be put behind the picture's name, for too many pixels or none."""
    if not width or not height:
        raise ValueError(f"is damaged: it has {width}x{height} pixels")
    if width * height > max_pixels:
        raise ValueError(
            f"has {width}x{height} pixels, expected at most {max_pixels:,} in all; make it smaller "
            "first"
        )

"""The orientation in EXIF data, by a parser that cannot fail: strangers' tags hold anything."""

from __future__ import annotations

import numpy as np

__all__ = ["orientation", "turned"]

_ORIENTATION = 0x0112
_SIZES = {1: 1, 3: 2, 4: 4}
"""Bytes of the whole-number types: BYTE, SHORT, LONG."""


def orientation(exif: bytes) -> int:
    """1 to 8, as TIFF counts them; 1 (as it is) where the data say nothing usable.

    exif: a TIFF structure, with or without "Exif\\0\\0" before it.
    """
    data = exif[6:] if exif[:6] in (b"Exif\0\0", b"Exif\0\xff") else exif
    order = {b"II": "little", b"MM": "big"}.get(data[:2])
    if order is None:
        return 1

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little" if order == "little" else "big")

    at = number(4, 4)
    for entry in range(at + 2, min(at + 2 + 12 * number(at, 2), len(data) - 11), 12):
        if number(entry, 2) != _ORIENTATION:
            continue
        size = _SIZES.get(number(entry + 2, 2))
        value = number(entry + 8, size) if size and number(entry + 4, 4) == 1 else 1
        return value if 1 <= value <= 8 else 1
    return 1


def turned(pixels: np.ndarray, code: int) -> np.ndarray:
    """Pixels (H, W, ...) as they are to be looked at; code: of `orientation`."""
    if code >= 5:
        pixels = pixels.swapaxes(0, 1)
    # What is left is a mirroring of one axis or of both.
    down = -1 if code in (3, 4, 7, 8) else 1
    across = -1 if code in (2, 3, 6, 7) else 1
    return pixels[::down, ::across]

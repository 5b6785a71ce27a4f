"""Letters and digits of five by seven squares, so that writing looks the same on every machine."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

__all__ = ["LETTERS", "MAX_LETTERS", "check_writing", "writing_mask", "writing_width"]

MAX_LETTERS = 6
# Rows from top to bottom, five bits each, the leftmost highest.
_ROWS = {
    "0": "0e11131519110e", "1": "040c040404040e", "2": "0e11010204081f", "3": "1f02040201110e",
    "4": "02060a121f0202", "5": "1f101e0101110e", "6": "0608101e11110e", "7": "1f010204080808",
    "8": "0e11110e11110e", "9": "0e11110f01020c", "A": "0e11111f111111", "B": "1e11111e11111e",
    "C": "0e11101010110e", "D": "1c12111111121c", "E": "1f10101e10101f", "F": "1f10101e101010",
    "G": "0e11101711110f", "H": "1111111f111111", "I": "0e04040404040e", "J": "0702020202120c",
    "K": "11121418141211", "L": "1010101010101f", "M": "111b1515111111", "N": "11191513111111",
    "O": "0e11111111110e", "P": "1e11111e101010", "Q": "0e11111115120d", "R": "1e11111e141211",
    "S": "0f10100e01011e", "T": "1f040404040404", "U": "1111111111110e", "V": "11111111110a04",
    "W": "1111111515150a", "X": "11110a040a1111", "Y": "11110a04040404", "Z": "1f01020408101f",
}  # fmt: skip
LETTERS = frozenset(_ROWS)
"""What can be written: digits and capital letters."""
_ADVANCE, _WIDE, _HIGH = 6, 5, 7


def check_writing(text: str) -> None:
    """Raises ValueError where a text cannot be written into a picture."""
    if not 1 <= len(text) <= MAX_LETTERS or not set(text) <= LETTERS:
        raise ValueError(
            f"{text!r} cannot be written, expected 1 to {MAX_LETTERS} digits or capital letters"
        )


def writing_width(text: str) -> float:
    """How wide a text is, in heights of a letter."""
    return (len(text) * _ADVANCE - (_ADVANCE - _WIDE)) / _HIGH


@cache
def writing_mask(text: str) -> Image.Image:
    """A text of one unit a square, as an image of mode L: 255 where it is written.

    Raises ValueError as `check_writing` does.
    """
    check_writing(text)
    mask = np.zeros((_HIGH, len(text) * _ADVANCE - (_ADVANCE - _WIDE)), np.uint8)
    for position, letter in enumerate(text):
        rows = bytes.fromhex(_ROWS[letter])
        for y, row in enumerate(rows):
            for x in range(_WIDE):
                if row >> (_WIDE - 1 - x) & 1:
                    mask[y, position * _ADVANCE + x] = 255
    return Image.fromarray(mask)

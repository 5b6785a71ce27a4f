"""How long an article is, and which wishes for a length it fulfils."""

from __future__ import annotations

import re

from unified_data.world.wishes import Length
from unified_data.world.wordings import Language

__all__ = ["ABOUT", "ROUND_NUMBERS", "SHORT_AND_LONG", "fitting_length", "fulfils_length",
           "text_length"]  # fmt: skip

ROUND_NUMBERS: dict[Language, tuple[int, ...]] = {
    "en": (100, 150, 200, 300, 400, 500, 600, 800, 1000, 1200, 1500),
    "zh": (50, 80, 100, 150, 200, 250, 300, 400, 500, 600, 800, 1000, 1200),
}
"""Numbers of characters that prompts ask for."""
SHORT_AND_LONG: dict[Language, tuple[int, int]] = {"en": (500, 800), "zh": (180, 280)}
"""A short article has at most so many characters, a long one at least so many."""
ABOUT = 0.15
"""`About 300 characters`: so much less or more, as a share."""
_DRAWN = 0.12
_SLACK = 0.6  # an article is at least this share of what it may have at most, and so on

_PICTURE = re.compile(r"!\[[^\]]*\]")
_VOICE = re.compile(r"^> \(\w+\) ", re.MULTILINE)
_MARKS = re.compile(r"^(?:#+|-|>) ?", re.MULTILINE)
_IPA = re.compile(r"^/.*/$", re.MULTILINE)


def text_length(markdown: str) -> int:
    """Characters of a text's title, headings, sentences and blanks inside lines.

    Left out are captions of pictures, phonemes, marks of Markdown and ends of lines.
    """
    text = _PICTURE.sub("", _VOICE.sub("", _IPA.sub("", markdown)))
    return sum(len(line.strip()) for line in _MARKS.sub("", text).splitlines())


def fitting_length(kind: str, length: int, language: Language) -> Length | None:
    """A wish of a kind, of a round number, that a text of `length` fulfils; None where none is
    near."""
    numbers = ROUND_NUMBERS[language]
    if kind == "about":
        nearest = min(numbers, key=lambda number: abs(number - length))
        return Length(kind, nearest) if abs(nearest - length) <= _DRAWN * nearest else None
    if kind == "least":
        below = [number for number in numbers if _SLACK * length <= number <= length]
        return Length(kind, max(below)) if below else None
    above = [number for number in numbers if length <= number and _SLACK * number <= length]
    return Length(kind, min(above)) if above else None


def fulfils_length(length: Length, characters: int, language: Language) -> bool:
    """Whether a text of so many characters is as long as was wished."""
    if length.number is None:
        short, long = SHORT_AND_LONG[language]
        return characters <= short if length.kind == "short" else characters >= long
    if length.kind == "about":
        return abs(characters - length.number) <= ABOUT * length.number
    return characters >= length.number if length.kind == "least" else characters <= length.number

"""Whole numbers in words, English and Chinese: `three`, `300`, `三百`."""

from __future__ import annotations

import re

from unified_data.world.wordings import Language

__all__ = ["NUMBER_PATTERN", "number_of", "number_words"]

_ENGLISH = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
            "eleven", "twelve")  # fmt: skip
_DIGITS = "零一二三四五六七八九"
_UNITS = {"千": 1000, "百": 100, "十": 10}

NUMBER_PATTERN: dict[Language, str] = {
    "en": rf"\d+|{'|'.join(sorted(_ENGLISH, key=len, reverse=True))}",
    "zh": rf"\d+|[{_DIGITS}两{''.join(_UNITS)}]+",
}
"""A regular expression of numbers as `number_of` reads them."""


def number_words(number: int, language: Language, counted: bool = False) -> str:
    """`three`, `300`; `三百`. counted: whether a measure word follows, before which two is 两.

    English has words up to twelve, Chinese up to 9,999; beyond them digits stand.
    """
    if language == "en":
        return _ENGLISH[number] if number < len(_ENGLISH) else str(number)
    if number > 9_999:
        return str(number)
    if number < 10:
        return "两" if counted and number == 2 else _DIGITS[number]
    text, rest, gap = "", number, False
    for unit, size in _UNITS.items():
        count, rest = divmod(rest, size)
        if count:
            text += ("零" if gap and text else "") + _DIGITS[count] + unit
        gap = not count
    if rest:
        text += ("零" if gap else "") + _DIGITS[rest]
    return text.removeprefix("一") if 10 <= number < 20 else text


def number_of(text: str) -> int:
    """The number of a word or of digits: of `three`, `3`, `三`, `两百`, `一千二百`.

    Raises ValueError for anything else.
    """
    text = text.strip().lower()
    if re.fullmatch(r"\d+", text):
        return int(text)
    if text in _ENGLISH:
        return _ENGLISH.index(text)
    if text == _DIGITS[0]:
        return 0
    digits = "|".join((*_DIGITS[1:], "两"))
    part = re.compile(rf"(?:(?<=.)零)?({digits})?([{''.join(_UNITS)}])?")
    total, at, before = 0, 0, 10_000
    while at < len(text):
        match = part.match(text, at)
        if match is None or not match[0] or (match[1] is None and match[2] != "十"):
            break
        count = 1 if match[1] is None else 2 if match[1] == "两" else _DIGITS.index(match[1])
        size = 1 if match[2] is None else _UNITS[match[2]]
        if size >= before:
            break
        total, at, before = total + count * size, match.end(), size
    if at < len(text) or not text:
        raise ValueError(f"{text!r} is no number from 0 to 9,999 in digits or words")
    return total

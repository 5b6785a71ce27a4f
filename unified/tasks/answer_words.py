"""What an answer says, in English or Chinese: yes or no, a number, a colour."""

from __future__ import annotations

import re

__all__ = ["colour_in", "number_in", "yes_or_no"]

_YES = re.compile(r"\b(?:yes|yeah|there is|there are|it is|they are)\b|^(?:有|是|对)")
_NO = re.compile(r"\b(?:no|not|none|isn't|aren't|nothing|never|neither)\b|没有|不是|没|无|不对")
_NUMBER_WORDS = "zero one two three four five six seven eight nine ten eleven twelve"
_NUMBERS = {word: n for n, word in enumerate(_NUMBER_WORDS.split())} | {"none": 0, "no": 0}
_NUMBERS_ZH = {word: n for n, word in enumerate("零一二三四五六七八九十")} | {"两": 2}
_COLOURS = {
    "white": "白", "grey": "灰", "black": "黑", "red": "红", "orange": "橙", "yellow": "黄",
    "green": "绿", "blue": "蓝", "purple": "紫", "pink": "粉", "brown": "棕", "striped": "条纹",
    "checked": "格子", "dotted": "圆点",
}  # fmt: skip
_SAME = {"gray": "grey", "violet": "purple", "golden": "yellow"}


def yes_or_no(answer: str) -> bool | None:
    """Whether an answer says yes; None where it says neither, or both."""
    text = answer.strip().lower()
    if _NO.search(text):
        return False
    return True if _YES.search(text) else None


def number_in(answer: str) -> int | None:
    """The number that an answer gives: its first, in digits or words; None where there is none."""
    text = answer.strip().lower()
    for match in re.finditer(r"\d{1,6}|[a-z]+", text):
        if match[0].isdigit():
            return int(match[0])
        if match[0] in _NUMBERS:
            return _NUMBERS[match[0]]
    if "没有" in text:
        return 0
    return next((_NUMBERS_ZH[letter] for letter in text if letter in _NUMBERS_ZH), None)


def colour_in(answer: str) -> str | None:
    """The English name of the colour or pattern that an answer names; None where not just one."""
    words = [_SAME.get(word, word) for word in re.findall(r"[a-z]+", answer.lower())]
    named = {name for name, zh in _COLOURS.items() if name in words or zh in answer}
    return named.pop() if len(named) == 1 else None

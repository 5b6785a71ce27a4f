"""Answers to questions, read as people mean them: yes or no, a number, how one thing stands to
another, and that something is not known.

An answer may begin with what is seen: `a fox and a car: no`. What stands behind the last colon is
the answer then; where nothing can be read from that, the whole is read. English and Chinese.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from unified.evaluation.judges import words
from unified.evaluation.names import named_subjects
from unified_data.pocket.subjects import Subject

__all__ = [
    "answer_behind",
    "number_in",
    "relation_in",
    "says_not_known",
    "says_nothing_was_said",
    "yes_or_no",
]

_Value = TypeVar("_Value")
_NUMBERS = {
    "zero": 0, "no": 0, "none": 0, "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4,
    "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
}  # fmt: skip
_HAN_NUMBERS = {"零": 0, "没": 0, "一": 1, "二": 2, "两": 2, "三": 3, "四": 4, "五": 5, "六": 6}
_DENIALS = frozenset(["no", "not", "none", "isnt", "arent"])
_HAN_DENIAL = re.compile("不|没|否")
_HAN_YES = re.compile("是|有|对")
_RELATIONS = {
    "to the left of": r"\bleft\b|左",
    "to the right of": r"\bright\b|右",
    "above": r"\b(?:above|over|on top of|atop)\b|上",
    "below": r"\b(?:below|under|underneath|beneath)\b|下",
}
_OPPOSITE = dict(
    zip(_RELATIONS, ("to the right of", "to the left of", "below", "above"), strict=True)
)
_NOT_KNOWN = re.compile(
    r"\b(?:do not|dont|does not|cannot|cant|could not|couldnt) "
    r"(?:really |exactly )?(?:know|tell|recogni[sz]e|say|identify|name)\b"
    r"|\b(?:unknown|unrecogni[sz]able|not known|no idea|nothing i know|unclear|unsure|not sure)\b"
    r"|不知道|不认识|认不出"
)
_NOTHING_SAID = re.compile(
    r"\b(?:nothing|no one|nobody|no words?|no speech|silence)\b|没有人?说|没有声音"
)


def answer_behind(text: str, read: Callable[[str], _Value | None]) -> _Value | None:
    """What is read behind the last colon, or, where that says nothing, from the whole answer."""
    _, colon, last = text.replace("：", ":").rpartition(":")
    value = read(last) if colon else None
    return read(text) if value is None else value


def yes_or_no(text: str) -> bool | None:
    """What an answer says: its first yes, or its first denial; None where it says neither."""
    return answer_behind(text, _yes_or_no)


def _yes_or_no(text: str) -> bool | None:
    for word in words(text):
        if word == "yes":
            return True
        if word in _DENIALS:
            return False
    # 没有 and 不是 hold the words that would say yes alone.
    if _HAN_DENIAL.search(text):
        return False
    return True if _HAN_YES.search(text) else None


def number_in(text: str) -> int | None:
    """The number that an answer gives: its first digits or number word, an article only where there
    is no other; None where there is none."""
    return answer_behind(text, _number_in)


def _number_in(text: str) -> int | None:
    spoken = words(text)
    for word in spoken:
        if word.isascii() and word.isdigit():
            return int(word[:6])
        if word in _NUMBERS and word not in ("a", "an"):
            return _NUMBERS[word]
    for character in text:
        if character in _HAN_NUMBERS:
            return _HAN_NUMBERS[character]
    return 1 if {"a", "an"} & set(spoken) else None


def relation_in(text: str, asked: Subject) -> str | None:
    """Where an answer says the asked thing stands to the other one: a relation of the world.

    "to the left of the cat" is said of the thing asked for. "The cat is to its right" names the
    other thing first and the asked one not before it, so that the relation is turned about.
    None where no relation is named.
    """

    def read(part: str) -> str | None:
        places = {name: re.search(pattern, part.lower()) for name, pattern in _RELATIONS.items()}
        first = min(
            (match.start(), name) for name, match in places.items() if match is not None
        ) if any(places.values()) else None  # fmt: skip
        if first is None:
            return None
        before, behind = named_subjects(part[: first[0]], True), named_subjects(part[first[0] :])
        turned = bool(before) and asked.name not in before
        turned |= asked.name in behind and asked.name not in before
        return _OPPOSITE[first[1]] if turned else first[1]

    return answer_behind(text, read)


def says_not_known(text: str) -> bool:
    """Whether an answer says that what is seen or asked for is not known."""
    return bool(_NOT_KNOWN.search(" ".join(words(text))))


def says_nothing_was_said(text: str) -> bool:
    """Whether a transcript says that nobody speaks: it has no words, or says so."""
    spoken = " ".join(words(text))
    return not spoken or bool(_NOTHING_SAID.search(spoken))

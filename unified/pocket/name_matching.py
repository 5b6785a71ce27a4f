"""Names that surely mean a known one: misspelt ("saxaphone"), or narrower ("bald eagle").

Sure means that no second name comes as near, that the first letter is right, and that the change is
one that people make in spelling. Short words are taken for misspelt only where letters are doubled,
left single or swapped: a stork is no misspelt store.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["edit_distance", "is_kind_adjective", "misspelt"]

_LEAST = 5
_LONG = 7  # letters from which any one change is taken for a slip, and from _LONGER on any two
_LONGER = 9
_KIND_WORDS = """
    adult arctic asian baby bald bengal big black blue brown common cream crested dark
    domestic domesticated dwarf eastern female giant golden gray great greater green grey large
    lesser little male miniature modern northern old ordinary orange pink purple red royal silver
    small southern spotted striped tame tiny traditional vintage western white wild yellow young"""
_KIND_ADJECTIVES = frozenset(_KIND_WORDS.split())
_PEOPLES = re.compile(r"[a-z]{2,}(?:ian|ean|ese|ish|ican)")


def is_kind_adjective(word: str) -> bool:
    """Whether a word before a name narrows it down and leaves it the same kind of thing.

    A bald eagle is an eagle; of a hot dog, a fire drill or a sea horse that cannot be said.
    """
    return word in _KIND_ADJECTIVES or _PEOPLES.fullmatch(word) is not None


def misspelt(text: str, names: Iterable[str]) -> list[str]:
    """The names, all equally near, that a lower-case text may be a misspelling of."""
    if len(text) < _LEAST:
        return []
    limit = 2 if len(text) >= _LONGER else 1
    nearest: list[str] = []
    for name in names:
        if name[0] != text[0] or abs(len(name) - len(text)) > limit or _has_suffix(text, name):
            continue
        # "ph" and "f" are one sound: one change apart at most.
        heard = edit_distance(_as_heard(text), _as_heard(name)) + 1
        distance = min(edit_distance(text, name), heard)
        if distance > limit or (len(text) < _LONG and not _is_slip(text, name)):
            continue
        if distance < limit:
            limit, nearest = distance, []
        nearest.append(name)
    return nearest


def edit_distance(first: str, second: str) -> int:
    """Letters to insert, delete, replace or swap with the next one (Damerau, restricted)."""
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        earlier, before, row = before, row, [i]
        for j, b in enumerate(second, start=1):
            cost = min(before[j] + 1, row[-1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == second[j - 2] and b == first[i - 2]:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
    return row[-1]


def _has_suffix(text: str, name: str) -> bool:
    """Whether one word is the other with an ending: a trumpeter is no misspelt trumpet."""
    shorter, longer = sorted((text.removesuffix("s"), name.removesuffix("s")), key=len)
    return len(longer) - len(shorter) > 1 and longer.startswith(shorter)


def _as_heard(word: str) -> str:
    return word.replace("ph", "f")


def _is_slip(text: str, name: str) -> bool:
    """Whether two words differ in doubled letters, or in two neighbours that changed places."""
    return _single(text) == _single(name) or sorted(text) == sorted(name)


def _single(word: str) -> str:
    return re.sub(r"(.)\1", r"\1", word)

"""The subjects that a text names, read word by word."""

from __future__ import annotations

import re
from functools import cache

from unified.evaluation.judges import words
from unified_data.pocket.subjects import load_subjects
from unified_data.world.chinese import chinese_names

__all__ = ["named_in_chinese", "named_subjects", "subjects_in_view"]

# A colour of the ground is no thing, though "rose" is a flower, too.
_GROUND = re.compile(
    r"\b(?:on|against) an? (?:(?:dark|light|pale|bright|plain) )?\w+ (?:back)?ground\b"
)


@cache
def _pattern(aliases: bool) -> tuple[re.Pattern[str], dict[str, str]]:
    table: dict[str, str] = {}
    for subject in load_subjects():
        for alias in subject.aliases if aliases else ():
            table.setdefault(" ".join(words(alias)), subject.name)
    for subject in load_subjects():
        for name in (subject.plural, subject.name):
            table[" ".join(words(name))] = subject.name
    # The longest first: a hot dog is no dog.
    ordered = sorted(table, key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, ordered))})\b"), table


def named_subjects(text: str, aliases: bool = False) -> list[str]:
    """Names of the subjects that a text names, in its order. aliases: under those as well."""
    pattern, table = _pattern(aliases)
    return [table[match[0]] for match in pattern.finditer(" ".join(words(text)))]


def subjects_in_view(text: str) -> set[str]:
    """Names of the subjects that a description says are seen; colours of grounds are none."""
    return set(named_subjects(_GROUND.sub(" ", " ".join(words(text))), aliases=True))


def named_in_chinese(text: str) -> set[str]:
    """English names of the subjects that a Chinese text names; the longest name counts."""
    table = {
        name: english
        for english, chinese in chinese_names().items()
        for name in (*chinese.aliases, chinese.name)
    }
    ordered = sorted(table, key=len, reverse=True)
    return {table[match[0]] for match in re.finditer("|".join(map(re.escape, ordered)), text)}

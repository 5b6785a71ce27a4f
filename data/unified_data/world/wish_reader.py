"""Reading prompts for articles: the phrases of `wish_words` as regular expressions."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple, cast

from unified_base.text import quoted
from unified_data.pocket.subjects import find_subject, load_subjects
from unified_data.world.chinese import chinese_names, find_chinese
from unified_data.world.numerals import NUMBER_PATTERN, number_of
from unified_data.world.wish_words import FILLERS, OPENERS, SECTION_WORDS, WISHES
from unified_data.world.wishes import DEFAULT_PICTURES, LENGTH_KINDS, NO_VOICE, Form, Length, Wishes
from unified_data.world.wordings import LANGUAGES, Language, name_in, subject_named

__all__ = ["find_wishes", "read_wishes"]

_MARK = "\0"
_SEVERAL = re.compile(r"\b(picture|image|illustration|item|fact|point|character)s\b")
_SLOT = re.compile(r"\\\{(\w+)\\\}")


class _Pattern(NamedTuple):
    """A phrase as a regular expression. key: the form or wish that it says."""

    key: str
    regex: re.Pattern[str]


def read_wishes(prompt: str) -> Wishes:
    """The wishes of a prompt in English or Chinese, canonical or in other words of the table.

    Raises ValueError for a prompt that names no known subject, for words that are no wish, for two
    wishes that contradict each other, and as `Wishes` does.
    """
    text = " ".join(prompt.split())
    for language in LANGUAGES:
        opened = _opened(text, language)
        if opened is not None:
            form, names, subtitle, rest = opened
            subjects, called = _subjects(names, language)
            values: dict[str, Any] = _values(rest, language, prompt)
            return Wishes(language, form, subjects, called, subtitle, **values)
    raise ValueError(
        f"no article is asked for in {quoted(prompt)}; expected a known subject, as in"
        " 'Write: The fox.'"
    )


def _opened(text: str, language: Language) -> tuple[Form, tuple[str, ...], str, str] | None:
    """Form, names, subtitle, and the rest of a prompt behind its opener."""
    for key, regex in _opener_patterns(language):
        match = regex.match(text)
        if match is None:
            continue
        groups = match.groupdict()
        names = tuple(groups[name] for name in ("first", "second") if groups.get(name))
        subtitle = (groups["subtitle"] or "").strip()
        return cast(Form, key), names, subtitle, text[match.end() :]
    return None


def _subjects(
    names: tuple[str, ...], language: Language
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`Wishes.subjects` and `Wishes.called` of the names in a prompt."""
    subjects, called = [], []
    for name in names:
        english = find_chinese(name) if language == "zh" else name
        subject = find_subject(english or "")
        assert subject is not None  # the expression holds known names alone
        own = name_in(subject, language)
        plain = name.lower() in (own.lower(), subject.plural.lower())
        subjects.append(subject.name)
        called.append(own if plain else name.lower())
    if all(name == name_in(subject_named(s), language) for s, name in zip(subjects, called)):
        called = []
    return tuple(subjects), tuple(called)


def find_wishes(text: str, language: Language) -> tuple[list[tuple[str, Any]], str]:
    """The wishes in a text, as (field of `Wishes`, value), and the words that are none.

    Raises ValueError for a number that no length may have.
    """
    pairs = []
    for key, regex in _wish_patterns(language):
        pairs += [_field(key, match, language) for match in regex.finditer(text)]
        text = regex.sub(lambda match: _MARK * len(match[0]), text)
    fillers = "|".join(map(re.escape, FILLERS[language]))
    edge = r"\b" if language == "en" else ""
    left = re.sub(
        rf"{edge}(?:{fillers}){edge}|[\s,.;:!?，。；：！？、{_MARK}]", " ", text, flags=re.I
    )
    return pairs, " ".join(left.split())


def _values(rest: str, language: Language, prompt: str) -> dict[str, Any]:
    """The fields of `Wishes` that a prompt's rest sets."""
    values: dict[str, Any] = {}
    pairs, left = find_wishes(rest, language)
    for field, value in pairs:
        if values.setdefault(field, value) != value:
            raise ValueError(f"{quoted(prompt)} asks for two {field}: {values[field]} and {value}")
    if left:
        raise ValueError(f"{quoted(left)} is no wish of {quoted(prompt)}")
    return values


def _field(key: str, match: re.Match[str], language: Language) -> tuple[str, Any]:
    if key in ("sections", "only"):
        return "sections", _headings(match["sections"], language)
    if key == "without":
        return "without", _headings(match["sections"], language)
    if key in LENGTH_KINDS:
        numbered = key in LENGTH_KINDS[2:]
        return "length", Length(key, number_of(match["n"]) if numbered else None)
    if key in ("items", "pictures"):
        return key, number_of(match["n"])
    if key == "narration":
        return "narration", match["voice"].lower()
    return {
        "children": ("children", True),
        "pictured": ("pictures", DEFAULT_PICTURES),
        "no pictures": ("pictures", 0),
        "silent": ("narration", NO_VOICE),
    }[key]


def _headings(text: str, language: Language) -> tuple[str, ...]:
    names = re.finditer(_section_pattern(language), text, re.IGNORECASE)
    return tuple(_sections_by_word(language)[match[0].lower()] for match in names)


@cache
def _sections_by_word(language: Language) -> dict[str, str]:
    return {word: heading for heading, words in SECTION_WORDS.items() for word in words[language]}


def _either(words: Any) -> str:
    """An expression of any of the words, the longest first."""
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


@cache
def _section_pattern(language: Language) -> str:
    return _either(_sections_by_word(language))


@cache
def _subject_pattern(language: Language) -> str:
    if language == "zh":
        names = [name for each in chinese_names().values() for name in (each.name, *each.aliases)]
        return _either(names)
    names = [n for s in load_subjects() for n in (s.name, s.plural, *s.aliases)]
    return _either(names)


def _slots(language: Language) -> dict[str, str]:
    """What may stand in each slot of a phrase."""
    subject = _subject_pattern(language)
    determiner = r"(?:the |an? )?" if language == "en" else ""
    section = _section_pattern(language)
    if language == "en":
        between, own = r",? and then |, then |, last |,? and |, ", r"(?:the |its )?"
    else:
        between, own = "、|和|，再写|，然后写|，最后写", ""
    sections = rf"(?P<sections>{own}(?:{section})(?:(?:{between}){own}(?:{section}))*)"
    slots = {"sections": sections, "sequence": sections, "voice": r"(?P<voice>[A-Za-z]+)",
             "n": rf"(?P<n>{NUMBER_PATTERN[language]})"}  # fmt: skip
    for suffix, group in (("", "first"), ("2", "second")):
        for slot in ("the", "The", "a", "many"):
            slots[slot + suffix] = rf"{determiner}(?P<{group}>{subject})"
    return slots


def _expression(phrase: str, language: Language) -> str:
    slots = _slots(language)
    text = re.escape(phrase).replace(r"\ ", " ")
    if "{n}" in phrase:
        text = _SEVERAL.sub(r"\1s?", text)
    return _SLOT.sub(lambda match: slots[match[1]], text)


def _literal(phrase: str) -> int:
    """How many characters a phrase has outside its slots."""
    return len(re.sub(r"\{\w+\}", "", phrase))


@cache
def _opener_patterns(language: Language) -> tuple[_Pattern, ...]:
    ends = r"(?=$|[.,;?!])" if language == "en" else r"(?=$|[。，；？！.,;?!])"
    subtitle = r"(?::\s*(?P<subtitle>[^.。?!？！\n]+))?" if language == "en" else (
        r"(?:[：:]\s*(?P<subtitle>[^.。?!？！\n]+))?"
    )  # fmt: skip
    phrases = [(key, p) for key, table in OPENERS.items() for p in table[language]]
    # Those of two subjects first: `Write: {The}` begins `Write: {The} and {the2}`.
    phrases.sort(key=lambda pair: (-("2}" in pair[1]), -_literal(pair[1])))
    return tuple(
        _Pattern(key, re.compile(_expression(p, language) + subtitle + ends, re.IGNORECASE))
        for key, p in phrases
    )


@cache
def _wish_patterns(language: Language) -> tuple[_Pattern, ...]:
    edges = (r"(?<![\w-])", r"(?![\w-])") if language == "en" else ("", "")
    phrases = [(key, p) for key, table in WISHES.items() for p in table[language]]
    phrases.sort(key=lambda pair: -_literal(pair[1]))
    return tuple(
        _Pattern(key, re.compile(edges[0] + _expression(p, language) + edges[1], re.IGNORECASE))
        for key, p in phrases
    )

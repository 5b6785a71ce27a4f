"""What somebody wants of an article, and the prompt that says so: canonical, or in free words.

    Write: The giant panda. Sections: food, home. About 300 characters. Pictures: 2.
    写一篇关于大熊猫的文章，先写食物，再写家园，大约三百字，配两张图。

`wish_reader.read_wishes` reads either back to the same `Wishes`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unified_data.pocket.subjects import Subject, find_subject
from unified_data.world.chinese import chinese_name, find_chinese
from unified_data.world.numerals import number_words
from unified_data.world.wish_words import OPENERS, SECTION_WORDS, WISHES
from unified_data.world.wordings import Language, name_in, subject_named

__all__ = [
    "DEFAULT_PICTURES", "FORMS", "LENGTH_KINDS", "MAX_PICTURES", "NO_VOICE", "Form", "Length",
    "Wishes", "aliases_of", "canonical", "phrased", "title",
]  # fmt: skip

Form = Literal["article", "paragraph", "list", "comparison"]
FORMS: tuple[Form, ...] = ("article", "paragraph", "list", "comparison")
LENGTH_KINDS = ("short", "long", "about", "least", "most")
MAX_PICTURES = 4
DEFAULT_PICTURES = 2
"""Pictures of an article that is to be illustrated, by a prompt that does not say with how many."""
NO_VOICE = "none"
"""The narration of an article that shall have none."""


# "one pictures"
_ONE_OF_SEVERAL = re.compile(r"((?:\b1|\bone) (?:picture|image|illustration|item|fact|point))s\b")


@dataclass(frozen=True)
class Length:
    """kind: `short`, `long`, or `about`, `least`, `most` a number of characters."""

    kind: str
    number: int | None = None

    def __post_init__(self) -> None:
        numbered = self.kind in LENGTH_KINDS[2:]
        if self.kind not in LENGTH_KINDS or numbered != (self.number is not None):
            raise ValueError(f"length is {self.kind!r} of {self.number}, expected {LENGTH_KINDS}")
        if self.number is not None and not 1 <= self.number <= 9_999:
            raise ValueError(f"{self.number} characters are asked for, expected 1 to 9,999")


@dataclass(frozen=True)
class Wishes:
    """What an article shall be like; what is None or empty goes unsaid.

    subjects: names, two of a comparison. called: what the title calls them where that is another
    of their names (`panda`), empty where it is not. subtitle: stands behind the title. sections:
    headings in order. without: headings left out. items: of a list. pictures: their number.
    narration: the voice that reads the first paragraph, `NO_VOICE` for none.

    Unsaid, an article has all sections of its subject in their order, with two facts each, and
    neither pictures nor narration.
    """

    language: Language
    form: Form
    subjects: tuple[str, ...]
    called: tuple[str, ...] = ()
    subtitle: str = ""
    sections: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    items: int | None = None
    length: Length | None = None
    children: bool = False
    pictures: int | None = None
    narration: str | None = None

    def __post_init__(self) -> None:
        number = 2 if self.form == "comparison" else 1
        if self.form not in FORMS or len(set(self.subjects)) != len(self.subjects) or (
            len(self.subjects) != number
        ):  # fmt: skip
            raise ValueError(f"{self.form} of {self.subjects}, expected {number} of different name")
        for name in self.subjects:
            subject_named(name)
        if self.called and len(self.called) != number:
            raise ValueError(f"{self.subjects} are called {self.called}, expected a name for each")
        headings = (*self.sections, *self.without)
        if len(set(headings)) != len(headings) or not set(headings) <= set(SECTION_WORDS):
            raise ValueError(f"sections are {headings}, expected headings, each once")
        if self.items is not None and (self.form != "list" or not 1 <= self.items <= 12):
            raise ValueError(f"{self.items} items are asked of a {self.form}, expected 1 to 12")
        if self.pictures is not None and not 0 <= self.pictures <= MAX_PICTURES:
            raise ValueError(f"{self.pictures} pictures asked for, expected 0 to {MAX_PICTURES}")

    @property
    def first(self) -> Subject:
        """The subject, the first one of a comparison."""
        return subject_named(self.subjects[0])

    @property
    def names(self) -> tuple[str, ...]:
        """What the title calls the subjects."""
        return self.called or tuple(
            name_in(subject_named(name), self.language) for name in self.subjects
        )


def title(wishes: Wishes) -> str:
    """`The giant panda: a quiet friend`, `The fox and the wolf`, `大熊猫：自然界的温柔使者`."""
    if wishes.language == "zh":
        return "和".join(wishes.names) + (f"：{wishes.subtitle}" if wishes.subtitle else "")
    text = "The " + " and the ".join(wishes.names)
    return f"{text}: {wishes.subtitle}" if wishes.subtitle else text


def aliases_of(subject: Subject, language: Language) -> tuple[str, ...]:
    """Other names of a subject that no other subject has."""
    if language == "en":
        return tuple(name for name in subject.aliases if find_subject(name) is subject)
    names = chinese_name(subject.name).aliases
    return tuple(name for name in names if find_chinese(name) == subject.name)


def canonical(wishes: Wishes) -> str:
    """The one prompt of these wishes, each in a sentence of its own."""
    return _prompt(wishes, None)


def phrased(wishes: Wishes, rng: np.random.Generator) -> str:
    """A prompt of these wishes in random words and order."""
    return _prompt(wishes, rng)


def _prompt(wishes: Wishes, rng: np.random.Generator | None) -> str:
    chinese = wishes.language == "zh"
    openers = OPENERS[wishes.form][wishes.language]
    if wishes.called:  # whose plurals are not known
        openers = tuple(opener for opener in openers if "{many" not in opener)
    opener = _fill(_choice(openers, rng), wishes, rng)
    if wishes.subtitle:
        opener += f"：{wishes.subtitle}" if chinese else f": {wishes.subtitle}"
    parts = [
        _fill(_choice(WISHES[key][wishes.language], rng), wishes, rng) for key in _keys(wishes, rng)
    ]
    if rng is not None:
        parts = [parts[i] for i in rng.permutation(len(parts))]
    stop, comma = ("。", "，") if chinese else (". ", ", ")
    text = opener
    for number, part in enumerate(parts):
        # A subtitle goes on to the full stop.
        runs_on = rng is not None and (number or not wishes.subtitle) and rng.random() < 0.5
        text += (comma if runs_on else stop) + (part if runs_on or chinese else _capital(part))
    question = _is_question(opener) and not parts
    return text + (("？" if chinese else "?") if question else stop.strip())


def _is_question(opener: str) -> bool:
    return opener.startswith("How do ") or opener.endswith("有什么不同")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _choice(phrases: Sequence[str], rng: np.random.Generator | None) -> str:
    return phrases[0] if rng is None else phrases[int(rng.integers(len(phrases)))]


def _keys(wishes: Wishes, rng: np.random.Generator | None) -> list[str]:
    """The wishes that are said, as keys of `WISHES`."""
    keys = []
    if wishes.sections:
        single = len(wishes.sections) == 1
        keys.append("only" if single and (rng is None or rng.random() < 0.7) else "sections")
    keys += ["without"] * bool(wishes.without) + ["items"] * (wishes.items is not None)
    if wishes.length is not None:
        keys.append(wishes.length.kind)
    keys += ["children"] * wishes.children
    if wishes.pictures is not None:
        plain = rng is not None and wishes.pictures == DEFAULT_PICTURES and rng.random() < 0.3
        keys.append("pictured" if plain else "pictures" if wishes.pictures else "no pictures")
    if wishes.narration is not None:
        keys.append("silent" if wishes.narration == NO_VOICE else "narration")
    return keys


def _fill(phrase: str, wishes: Wishes, rng: np.random.Generator | None) -> str:
    """A phrase with its slots filled; those that it lacks are not asked for."""
    values: dict[str, str] = {}
    for name, name_shown, suffix in zip(wishes.subjects, wishes.names, ("", "2")):
        values[f"the{suffix}"] = name_shown if wishes.language == "zh" else f"the {name_shown}"
        values[f"The{suffix}"] = f"The {name_shown}"
        values[f"many{suffix}"] = subject_named(name).plural
    headings = wishes.without if _denies(phrase, wishes.language) else wishes.sections
    words = [_choice(SECTION_WORDS[heading][wishes.language], rng) for heading in headings]
    values["sections"] = _listed(words, wishes.language)
    values["sequence"] = _sequence(words, wishes.language)
    values["voice"] = wishes.narration or ""
    values["n"] = _number(phrase, wishes, rng)
    text = phrase.format(**values)
    return text if wishes.language == "zh" else _ONE_OF_SEVERAL.sub(r"\1", text)


def _denies(phrase: str, language: Language) -> bool:
    return phrase in WISHES["without"][language]


def _number(phrase: str, wishes: Wishes, rng: np.random.Generator | None) -> str:
    if phrase in WISHES["pictures"][wishes.language]:
        number, counted = wishes.pictures, True
    elif phrase in WISHES["items"][wishes.language]:
        number, counted = wishes.items, True
    else:
        number, counted = wishes.length.number if wishes.length else None, False
    if number is None:
        return ""
    if rng is not None and rng.random() < 0.5:
        return str(number)
    return number_words(number, wishes.language, counted)


def _listed(words: Sequence[str], language: Language) -> str:
    """`food, home and threats`, `食物、家园和威胁`."""
    if len(words) < 2:
        return "".join(words)
    between, last = (", ", " and ") if language == "en" else ("、", "和")
    return between.join(words[:-1]) + last + words[-1]


def _sequence(words: Sequence[str], language: Language) -> str:
    """`food, then home, then threats`, `食物，再写家园，最后写威胁`."""
    if language == "en":
        return ", then ".join(words)
    ends = ["", *["，再写"] * (len(words) - 2), "，最后写"][: len(words)]
    if len(words) == 2:
        ends[1] = "，再写"
    return "".join(end + word for end, word in zip(ends, words))

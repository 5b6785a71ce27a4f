"""Facts of the world, and whose fact a sentence is: by retrieval over every wording of each.

A sentence is a fact of the subject whose wording it shares most words with (of Chinese: characters
and pairs of them). Names of subjects are left out: a name put into another subject's sentence does
not make it true. It says the same only where its numbers are those of that wording.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml

from unified.evaluation.judges import words
from unified_data.pocket.subjects import Subject, load_subjects
from unified_data.world.chinese import chinese_names

__all__ = ["FactBook", "Language", "Retrieved", "fact_book", "sentences_of"]

Language = Literal["en", "zh"]
_LEAST: dict[Language, float] = {"en": 0.45, "zh": 0.25}
"""Likeness below which a sentence is nowhere in the world."""
_NUMBER_TEXT = """
    two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty
    seventy eighty ninety hundred thousand million half no not never"""
_NUMBER_WORDS = frozenset(_NUMBER_TEXT.split())
_HAN_NUMBERS = "二两三四五六七八九十百千万亿不没无未"
_HAN = re.compile("[\u4e00-\u9fff]")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Retrieved:
    """What a sentence comes nearest to.

    likeness: in [0, 1]. subjects: names of those that have that wording. least: likeness below
    which it is no fact. verbatim: it is that wording, character for character. numbers: it has the
    numbers and denials of that wording.
    """

    likeness: float
    subjects: frozenset[str]
    least: float
    verbatim: bool = False
    numbers: bool = True

    def is_of(self, subject: Subject) -> bool:
        """Whether it says a fact of a subject."""
        return self.likeness >= self.least and self.numbers and subject.name in self.subjects

    @property
    def nowhere(self) -> bool:
        """Whether nothing in the world comes near it."""
        return self.likeness < self.least


def sentences_of(text: str) -> list[str]:
    """The sentences of a text, English or Chinese."""
    parts = re.split(r"(?<=[.!?])\s+|(?<=[。！？])|\n+", text)
    return [part.strip() for part in parts if re.search(r"\w", part)]


def _tokens(sentence: str, language: Language, names: frozenset[str]) -> frozenset[str]:
    if language == "zh":
        for name in sorted(names, key=len, reverse=True):
            sentence = sentence.replace(name, "")
        han = "".join(_HAN.findall(sentence))
        return frozenset(han) | {han[i : i + 2] for i in range(len(han) - 1)}
    return frozenset(word for word in words(sentence) if word not in names)


def _numbers(sentence: str, language: Language) -> Counter[str]:
    """The numbers and denials of a sentence."""
    if language == "zh":
        return Counter(c for c in sentence if c in _HAN_NUMBERS or c.isdigit())
    return Counter(w for w in words(sentence) if w in _NUMBER_WORDS or w.isdigit())


class FactBook:
    """Every wording of every fact in a language."""

    def __init__(self, entries: Iterable[tuple[str, str]], language: Language) -> None:
        """entries: (subject's name, sentence)."""
        self.language = language
        self._owners: defaultdict[str, set[str]] = defaultdict(set)
        for name, sentence in entries:
            self._owners[sentence.strip()].add(name)
        if not self._owners:
            raise ValueError(f"there are no facts in language {language!r}")
        self._sentences = list(self._owners)
        self._names = _all_names(language)
        self._sets = [_tokens(sentence, language, self._names) for sentence in self._sentences]
        self._holders: defaultdict[str, list[int]] = defaultdict(list)
        for number, tokens in enumerate(self._sets):
            for token in tokens:
                self._holders[token].append(number)
        total = len(self._sets)
        self._weights = {t: math.log(1 + total / len(h)) for t, h in self._holders.items()}
        self._sizes = [self._weight(tokens) for tokens in self._sets]

    def _weight(self, tokens: Iterable[str]) -> float:
        rare = math.log(1 + len(self._sets))
        return sum(self._weights.get(token, rare) for token in tokens)

    def owners(self, sentence: str) -> set[str]:
        """Names of the subjects that have a sentence word for word."""
        return set(self._owners.get(sentence.strip(), ()))

    def retrieve(self, sentence: str, without: str | None = None) -> Retrieved:
        """What a sentence comes nearest to: shared words over all words, rare ones counting more.

        without: a wording that is taken to be unknown.
        """
        least = _LEAST[self.language]
        if sentence.strip() != without and (owners := self.owners(sentence)):
            return Retrieved(1.0, frozenset(owners), least, verbatim=True)
        tokens = _tokens(sentence, self.language, self._names)
        shared: defaultdict[int, float] = defaultdict(float)
        for token in tokens:
            for number in self._holders.get(token, ()):
                shared[number] += self._weights[token]
        size = self._weight(tokens)
        scores = {
            number: weight / (size + self._sizes[number] - weight)
            for number, weight in shared.items()
            if self._sentences[number] != without
        }
        if not scores:
            return Retrieved(0.0, frozenset(), least)
        best = max(scores, key=lambda number: scores[number])
        true = self._sentences[best]
        alike = _numbers(sentence, self.language) == _numbers(true, self.language)
        return Retrieved(scores[best], frozenset(self._owners[true]), least, numbers=alike)


def _all_names(language: Language) -> frozenset[str]:
    """Every word that names a subject: they tell nothing of what is said of it."""
    if language == "zh":
        return frozenset(
            name for each in chinese_names().values() for name in (each.name, *each.aliases)
        )
    names = (name for each in load_subjects() for name in (each.name, each.plural, *each.aliases))
    return frozenset(word for name in names for word in words(name))


@cache
def _wordings() -> tuple[tuple[str, dict[str, Any]], ...]:
    """(subject's name, entry) of the world's files of wordings."""
    folder = resources.files("unified_data.world") / "wordings"
    entries = []
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.endswith(".yaml"):
            entries += yaml.load(path.read_text("utf-8"), Loader=_Loader)
    return tuple((entry["name"], entry) for entry in entries)


@cache
def fact_book(language: Language) -> FactBook:
    """The facts of the world in a language, with every wording, and those of the long articles."""
    entries: list[tuple[str, str]] = []
    if language == "en":
        entries += [(each.name, text) for each in load_subjects() for text in each.sentences]
    for name, entry in _wordings():
        for fact in (entry["lead"], *entry["facts"]):
            entries += [(name, text) for text in fact[language]]
    folder = resources.files("unified_data.world") / "long"
    for path in folder.iterdir():
        name = path.name.removesuffix(".yaml").replace("_", " ")
        if path.name.endswith(".yaml"):
            for section in yaml.load(path.read_text("utf-8"), Loader=_Loader):
                entries += [(name, text) for fact in section[language] for text in fact]
    return FactBook(entries, language)

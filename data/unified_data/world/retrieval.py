"""Which facts a text states: a judge by retrieval among all wordings of all facts of the world.

A text is cut into statements: its sentences, and where one joins two facts its parts. A statement
is held against every wording in its language by the share of words (in Chinese: of characters) that
both have, rare ones weighing more; single words that are names of subjects do not count. The
likest wording says which fact it is, if it is like enough, has no other numbers and does not deny
what no wording of it denies. `retrieval_error` states how often that is wrong, of wordings that the
judge does not have.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from unified_data.pocket.subjects import Subject, load_subjects
from unified_data.world.fulfilment import plain_lines
from unified_data.world.long_articles import long_facts
from unified_data.world.prose import JOINTS, OPENERS, split_sentences
from unified_data.world.wordings import Language, facts_of_subject

__all__ = ["LEAST_LIKENESS", "FactIndex", "Judgement", "Statement", "fact_index", "facts_of",
           "judge_sentences", "judge_text", "retrieval_error"]  # fmt: skip

LEAST_LIKENESS: dict[Language, float] = {"en": 0.36, "zh": 0.3}
"""A statement that is less like every wording states none of them."""
_MARGIN = 0.1
"""A fact of the subject counts where no other subject's fact is more like by this."""

_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_NUMBER = re.compile(
    r"(?i)\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen(?:th)?"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)t(?:y|ies|ieth)|hundreds?|thousands?|millions?)\b"
)
_CHINESE_NUMBER = re.compile(r"[\d二两三四五六七八九十百千万亿]")
_DENIAL = {
    "en": re.compile(r"(?i)\b(?:no|not|never|cannot|neither|nor)\b|n't\b"),
    "zh": re.compile("[不没无未]"),
}
_ENDINGS = ("ing", "ed", "es", "s", "ly", "e")


class Statement(NamedTuple):
    """A part of a text. fact: (subject, number) of what it states, None where it is nothing known;
    likeness: to the likest wording, 0 to 1; verbatim: it is a wording, but for its first letter and
    the full stop."""

    text: str
    fact: tuple[str, int] | None
    likeness: float
    verbatim: bool = False

    def is_of(self, subject: Subject) -> bool:
        """Whether it is a fact of a subject."""
        return self.fact is not None and self.fact[0] == subject.name

    def is_nowhere(self, language: Language) -> bool:
        """Whether nothing in the world comes near it."""
        return self.fact is None and self.likeness < LEAST_LIKENESS[language]


@dataclass(frozen=True)
class Judgement:
    """What a text states of a subject."""

    subject: str
    statements: tuple[Statement, ...]

    @property
    def own(self) -> frozenset[int]:
        """Numbers of the subject's facts that are stated."""
        return frozenset(s.fact[1] for s in self.statements if s.fact and s.fact[0] == self.subject)

    @property
    def true_share(self) -> float:
        """The share of statements that are facts of the subject; 0 of a text without any."""
        true = sum(s.fact is not None and s.fact[0] == self.subject for s in self.statements)
        return true / max(1, len(self.statements))


class FactIndex:
    """Every wording of every fact in a language.

    Facts are numbered as `facts_of_subject` has them, those of long articles on from there.
    """

    def __init__(self, language: Language) -> None:
        self.language = language
        self.wordings: list[tuple[tuple[str, int], int, str]] = []
        for subject in load_subjects():
            facts = [fact.wordings(language) for fact in facts_of_subject(subject)]
            for number, wordings in enumerate([*facts, *long_facts(subject.name, language)]):
                for position, text in enumerate(wordings):
                    self.wordings.append(((subject.name, number), position, text))
        tokens_of = [self._tokens_of(text) for _, _, text in self.wordings]
        counts = Counter(token for tokens in tokens_of for token in tokens)
        total = len(tokens_of)
        self._rarity = {token: math.log(total / count) for token, count in counts.items()}
        self._unseen = math.log(total)
        self._weights = np.array([self._weight(tokens) for tokens in tokens_of])
        where: defaultdict[str, list[int]] = defaultdict(list)
        for position, tokens in enumerate(tokens_of):
            for token in tokens:
                where[token].append(position)
        self._where = {token: np.array(positions) for token, positions in where.items()}
        self.positions: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
        numbers: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        denials: defaultdict[tuple[str, int], set[bool]] = defaultdict(set)
        for position, (fact, _, text) in enumerate(self.wordings):
            self.positions[fact].append(position)
            numbers[fact] |= _numbers(text, language)
            denials[fact].add(_denies(text, language))
        self._numbers, self._denials = dict(numbers), dict(denials)
        self._texts = frozenset(_bare(text) for _, _, text in self.wordings)

    def _tokens_of(self, text: str) -> frozenset[str]:
        return _tokens(text, self.language) - _name_tokens(self.language)

    def _weight(self, tokens: Iterable[str]) -> float:
        return sum(self._rarity.get(token, self._unseen) for token in tokens)

    def likeness(self, text: str, without: Sequence[int] = ()) -> list[tuple[int, float]]:
        """(position in `wordings`, likeness) of the 20 likest, the likest first.

        Likeness is the weight of what both hold over that of what either holds. without: positions
        that are left out.
        """
        tokens = self._tokens_of(text)
        shared = np.zeros(len(self.wordings))
        for token in tokens & self._where.keys():
            shared[self._where[token]] += self._rarity[token]
        shared[list(without)] = 0
        likeness = shared / (self._weight(tokens) + self._weights - shared)
        likest = np.argsort(-likeness, kind="stable")[:20]
        return [(int(i), float(likeness[i])) for i in likest if likeness[i] > 0]

    def statement(self, text: str, subject: str, without: Sequence[int] = ()) -> Statement:
        """Which fact a text states; one of `subject` in doubt.

        A statement with a number that no wording of the fact has states another thing, and so does
        one that denies something where none of them does, or denies nothing where all of them do.
        """
        numbers, denies = _numbers(text, self.language), _denies(text, self.language)
        verbatim = _bare(text) in self._texts
        likest = [
            (self.wordings[position][0], likeness)
            for position, likeness in self.likeness(text, without)
        ]
        known = [
            (fact, likeness)
            for fact, likeness in likest
            if likeness >= LEAST_LIKENESS[self.language]
            and numbers <= self._numbers[fact]
            and denies in self._denials[fact]
        ]
        if not known:
            return Statement(text, None, likest[0][1] if likest else 0.0)
        for fact, likeness in known:
            if fact[0] == subject and likeness >= known[0][1] - _MARGIN:
                return Statement(text, fact, likeness, verbatim)
        return Statement(text, *known[0], verbatim)


@cache
def fact_index(language: Language) -> FactIndex:
    """The index of a language; it is made once."""
    return FactIndex(language)


def facts_of(text: str, subject: Subject, language: Language) -> frozenset[int]:
    """The numbers of the facts of a subject that a text states, 0 for the lead."""
    return judge_text(text, subject, language).own


def judge_text(text: str, subject: Subject, language: Language) -> Judgement:
    """What each statement of a text is: plain, or an article in Markdown.

    Questions and sentences without a word of the language are statements too: they state nothing.
    """
    sentences = [sentence for line in plain_lines(text) for sentence in split_sentences(line)]
    return judge_sentences(sentences, subject, language)


def judge_sentences(sentences: Iterable[str], subject: Subject, language: Language) -> Judgement:
    """What each statement of some sentences is."""
    index = fact_index(language)
    statements = [s for text in sentences for s in _statements(text, subject.name, index)]
    return Judgement(subject.name, tuple(statements))


def _statements(sentence: str, subject: str, index: FactIndex) -> list[Statement]:
    """A sentence as one statement, or cut in two where its parts are liker to what is known."""
    for opener in OPENERS[index.language]:
        sentence = sentence.removeprefix(opener)
    best = [index.statement(sentence, subject)]
    score = best[0].likeness
    if score > 0.95:
        return best
    for first, second in _cuts(sentence, index.language):
        parts = [index.statement(first, subject), index.statement(second, subject)]
        mean = (parts[0].likeness * len(first) + parts[1].likeness * len(second)) / (
            len(first) + len(second)
        )
        if mean > score and all(part.fact is not None for part in parts):
            best, score = parts, mean
    return best


def _cuts(sentence: str, language: Language) -> list[tuple[str, str]]:
    """Every way to cut a sentence in two at what joins facts."""
    cuts: dict[int, tuple[str, str]] = {}
    for joint in sorted(JOINTS[language], key=len, reverse=True):
        for match in re.finditer(re.escape(joint), sentence):
            cuts.setdefault(match.start(), (sentence[: match.start()], sentence[match.end() :]))
    return list(cuts.values())


def _tokens(text: str, language: Language) -> frozenset[str]:
    if language == "en":
        return frozenset(_stem(word) for word in _WORD.findall(text.lower()))
    return frozenset(_CHINESE.findall(text))


def _numbers(text: str, language: Language) -> set[str]:
    """The words for numbers in an English text, the characters in a Chinese one."""
    pattern = _NUMBER if language == "en" else _CHINESE_NUMBER
    return {match[0].lower() for match in pattern.finditer(text)}


def _bare(text: str) -> str:
    """A sentence as it may stand inside another one."""
    text = text.strip(" .。")
    return text[:1].lower() + text[1:]


def _denies(text: str, language: Language) -> bool:
    return _DENIAL[language].search(text) is not None


def _stem(word: str) -> str:
    """A word without one of a few endings: `hunts`, `hunted` and `hunting` are one."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word


@cache
def _name_tokens(language: Language) -> frozenset[str]:
    """The tokens of whole names; in Chinese none, where they are parts of other words."""
    if language == "zh":
        return frozenset()
    names = (name for s in load_subjects() for name in (s.name, s.plural))
    return frozenset(_stem(name.lower()) for name in names if " " not in name)


class RetrievalError(NamedTuple):
    """How wrong the judge is, of `cases` wordings that it does not have.

    recognised: it takes a wording for its own fact. mixed_up: where it does not have the fact at
    all, it takes the wording for another fact of the same subject. misattributed: in the same way,
    for a fact of another subject of the same kind whose article it judges.
    """

    recognised: int
    mixed_up: int
    misattributed: int
    cases: int


def retrieval_error(language: Language, every: int = 1) -> RetrievalError:
    """The judge's error on wordings that are left out of its index one by one.

    every: only each so-many-th wording.
    """
    index = fact_index(language)
    subjects = load_subjects()
    others = {s.name: _next_of_kind(subjects, number) for number, s in enumerate(subjects)}
    recognised = mixed_up = misattributed = cases = 0
    for position in range(0, len(index.wordings), every):
        fact, _, text = index.wordings[position]
        recognised += index.statement(text, fact[0], [position]).fact == fact
        whole = index.positions[fact]
        mixed_up += _subject_of(index.statement(text, fact[0], whole)) == fact[0]
        other = others[fact[0]]
        misattributed += _subject_of(index.statement(text, other, whole)) == other
        cases += 1
    return RetrievalError(recognised, mixed_up, misattributed, cases)


def _subject_of(statement: Statement) -> str | None:
    return None if statement.fact is None else statement.fact[0]


def _next_of_kind(subjects: Sequence[Subject], number: int) -> str:
    """The subject that follows, of the same kind."""
    alike = [s.name for s in subjects if s.kind == subjects[number].kind]
    return alike[(alike.index(subjects[number].name) + 1) % len(alike)]

"""Sentences from facts: worded at random, joined, and opened by a word or two.

A joined sentence is a combination (which facts, in which wordings and order, joined how) that is
held out one time in ten by hash, half of those for steering: what an article of the training says
of a subject is true of it, and how it says it can still be new.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from unified_data.pocket.subjects import load_subjects
from unified_data.world.free_scene import split_of_keys
from unified_data.world.wordings import Language, facts_of_subject

__all__ = ["JOINTS", "OPENERS", "Manner", "Prose", "lowered", "shortest", "split_sentences"]

Manner = Literal["flowing", "plain", "simple"]
"""`flowing`: facts are joined; `plain`: one by one; `simple`: one by one, the shortest wording."""

JOINTS: dict[Language, tuple[str, ...]] = {
    "en": (", and ", "; ", ", while ", "; also, ", "; besides, ", "; in addition, ",
           "; what is more, ", "; at the same time, "),
    "zh": ("，", "；", "，同时", "，而且", "；另外，", "；此外，", "；还有，", "，并且"),
}  # fmt: skip
"""What stands between two facts in one sentence."""
OPENERS: dict[Language, tuple[str, ...]] = {
    "en": ("In fact, ", "Also, ", "Besides, ", "What is more, ", "Moreover, ", "Indeed, "),
    "zh": ("其实，", "另外，", "而且，", "此外，", "要知道，", "还有，"),
}
"""What may stand before a sentence that is not the first."""
_JOINED, _OPENED = 0.95, 0.3
_PATIENCE = 200

_WORD = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*")
_ENDS = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")


@dataclass(frozen=True)
class Prose:
    """Writes what facts say. split: which combinations may be written, those of `train` always."""

    language: Language
    split: str
    manner: Manner

    def sentence(self, wordings: Sequence[str], rng: np.random.Generator) -> str:
        """One fact in one sentence, given its wordings."""
        if self.manner == "simple":
            return shortest(wordings)
        return wordings[int(rng.integers(len(wordings)))]

    def paragraph(self, facts: Sequence[Sequence[str]], rng: np.random.Generator) -> str:
        """All of the facts, each given by its wordings, in this order."""
        sentences: list[str] = []
        rest = list(facts)
        while rest:
            joins = self.manner == "flowing" and len(rest) > 1 and rng.random() < _JOINED
            number = 2 if joins else 1
            text = self._joined(rest[:2], rng) if joins else None
            if text is None:
                number, text = 1, self.sentence(rest[0], rng)
            del rest[:number]
            if sentences and self.manner != "simple":
                text = self._opened(text, rng)
            sentences.append(text)
        return (" " if self.language == "en" else "").join(sentences)

    def _joined(self, pair: Sequence[Sequence[str]], rng: np.random.Generator) -> str | None:
        """Two facts in one sentence; None where no wording of the second fits behind another."""
        joints = JOINTS[self.language]
        for _ in range(_PATIENCE):
            first, second = (self.sentence(wordings, rng) for wordings in pair)
            joint = joints[int(rng.integers(len(joints)))]
            if joint == ", while " and " while " in f" {first} {second}".lower():
                continue
            tail = second if self.language == "zh" else lowered(second)
            text = f"{first[:-1]}{joint}{tail}"
            if tail is not None and split_of_keys((f"joined|{text}",)) in ("train", self.split):
                return text
        return None

    def _opened(self, text: str, rng: np.random.Generator) -> str:
        if any(joint in text for joint in JOINTS[self.language][3:]):
            return text  # "Besides, ...; also, ..."
        openers = OPENERS[self.language]
        opener = openers[int(rng.integers(len(openers)))]
        tail = text if self.language == "zh" else lowered(text)
        return text if tail is None or rng.random() >= _OPENED else opener + tail


def shortest(wordings: Sequence[str]) -> str:
    """The shortest one; of equally short ones the first."""
    return min(wordings, key=len)


def split_sentences(text: str) -> list[str]:
    """The sentences of a text in English or Chinese, without the blanks between them."""
    return [sentence.strip() for sentence in _ENDS.split(text) if sentence.strip()]


def lowered(sentence: str) -> str | None:
    """A sentence as it goes on behind others: `it is a cat.`

    None where its first word is a name, or in no other sentence: nobody knows whether it is one.
    """
    match = _WORD.match(sentence)
    if match is None or match[0].lower() not in _common_words():
        return None
    return sentence[0].lower() + sentence[1:]


@cache
def _common_words() -> frozenset[str]:
    """The words that are written small inside English sentences, and capitalised seldom if ever."""
    small: Counter[str] = Counter()
    capital: Counter[str] = Counter()
    for subject in load_subjects():
        for fact in facts_of_subject(subject):
            for wording in fact.en:
                for word in _WORD.findall(wording)[1:]:
                    (capital if word[0].isupper() else small)[word.lower()] += 1
    return frozenset(word for word in small if 10 * capital[word] < small[word])

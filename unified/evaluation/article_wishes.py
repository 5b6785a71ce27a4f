"""Wishes about an article, and whether one honours them, or the model says that it cannot."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unified.evaluation.judges import words
from unified.evaluation.names import named_subjects
from unified.evaluation.written_article import WrittenArticle
from unified_data.pocket.subjects import Subject, load_subjects

__all__ = ["WISHED", "ArticleWish"]


@dataclass(frozen=True)
class ArticleWish:
    """A wish in plain words.

    honoured: told an article with it and one of the same subject without any wish. naming: a
    pattern of what a note that names it holds.
    """

    prompt: str
    subject: Subject
    honoured: Callable[[WrittenArticle, WrittenArticle | None], bool]
    naming: str

    def is_named(self, notes: str) -> bool:
        return re.search(self.naming, notes.lower()) is not None


def _length(article: WrittenArticle | None) -> int:
    return 0 if article is None else article.characters


def _words_a_sentence(article: WrittenArticle) -> float:
    lengths = [len(words(sentence)) for sentence in article.sentences]
    return float(np.mean(lengths)) if lengths else 0.0


def _short(subject: Subject, rng: np.random.Generator) -> ArticleWish:
    return ArticleWish(
        f"The {subject.name}. Short.", subject,
        lambda own, plain: 0 < own.characters <= 0.7 * _length(plain), "short",
    )  # fmt: skip


def _long(subject: Subject, rng: np.random.Generator) -> ArticleWish:
    return ArticleWish(
        f"The {subject.name}. Long and detailed.", subject,
        lambda own, plain: own.characters >= 1.3 * _length(plain) > 0, "long|detail",
    )  # fmt: skip


def _children(subject: Subject, rng: np.random.Generator) -> ArticleWish:
    """Said in shorter sentences."""
    return ArticleWish(
        f"The {subject.name}, for children.", subject,
        lambda own, plain: plain is not None
        and 0 < _words_a_sentence(own) <= 0.85 * _words_a_sentence(plain), "children",
    )  # fmt: skip


def _listed(subject: Subject, rng: np.random.Generator) -> ArticleWish:
    return ArticleWish(
        f"The {subject.name}. As a list.", subject, lambda own, plain: own.has_list, "list"
    )


def _compared(subject: Subject, rng: np.random.Generator) -> ArticleWish:
    """Both are named in its sentences, the other one at least twice."""
    kin = [each for each in load_subjects() if each.kind == subject.kind and each != subject]
    other = kin[int(rng.integers(len(kin)))] if kin else load_subjects()[0]
    return ArticleWish(
        f"The {subject.name}. Compare it with the {other.name}.", subject,
        lambda own, plain: named_subjects(" ".join(own.sentences), True).count(other.name) >= 2,
        f"compar|{other.name.lower()}",
    )  # fmt: skip


def _without(subject: Subject, rng: np.random.Generator) -> ArticleWish:
    """Neither the section's heading nor a sentence of it."""
    section = subject.sections[int(rng.integers(len(subject.sections)))]

    def honoured(own: WrittenArticle, plain: WrittenArticle | None) -> bool:
        repeated = set(own.sentences) & set(section.sentences)
        return bool(own.sentences) and section.heading not in own.headings and not repeated

    name = section.heading.lower()
    return ArticleWish(f"The {subject.name}, without {name}.", subject, honoured, name)


def _pictures(subject: Subject, rng: np.random.Generator) -> ArticleWish:
    number = int(rng.integers(1, 5))
    text = ("one picture", "two pictures", "three pictures", "four pictures")[number - 1]
    return ArticleWish(
        f"The {subject.name}, {text}.", subject,
        lambda own, plain: len(own.figures) == number, "picture",
    )  # fmt: skip


def _silent(subject: Subject, rng: np.random.Generator) -> ArticleWish:
    return ArticleWish(
        f"The {subject.name}. No narration.", subject,
        lambda own, plain: bool(own.sentences) and own.sounds == 0, "narrat|audio|silent",
    )  # fmt: skip


WISHED: dict[str, Callable[[Subject, np.random.Generator], ArticleWish]] = {
    "short": _short,
    "long": _long,
    "children": _children,
    "list": _listed,
    "compare": _compared,
    "without": _without,
    "pictures": _pictures,
    "silent": _silent,
}
"""Kinds of wishes, in the order in which they take turns."""

"""Documents of words: articles with media and without, and questions about facts.

A payload is small; processes draw what it stands for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from unified_data.document import Document, Segment, Text
from unified_data.pocket.subjects import load_subjects
from unified_data.world.articles import DrawnArticle, article_document, draw_article
from unified_data.world.fact_questions import draw_turns
from unified_data.world.long_articles import LONG_SUBJECTS
from unified_data.world.wordings import Language, subject_named

__all__ = ["ArticlePayload", "article", "article_of", "facts", "plan_articles",
           "plan_questions", "planner"]  # fmt: skip

_LONG = {True: 0.06, False: 0.025}
"""The share of long articles among those with media and without."""
_CHINESE = 0.35  # of questions


class ArticlePayload(NamedTuple):
    """What a document of words is drawn from. long: whether it is a long article."""

    split: str
    seed: int
    subject: str
    language: Language
    media: bool
    long: bool = False


def plan_articles(
    split: str, number: int, rng: np.random.Generator, language: Language, media: bool
) -> list[ArticlePayload]:
    """Payloads in which every subject comes equally often, and some of long articles."""
    payloads: list[ArticlePayload] = []
    subjects = load_subjects()
    longs = round(number * _LONG[media])
    while len(payloads) < number - longs:
        for index in rng.permutation(len(subjects))[: number - longs - len(payloads)]:
            payloads.append(
                ArticlePayload(
                    split, int(rng.integers(2**63)), subjects[index].name, language, media
                )
            )
    for i in range(longs):
        name = LONG_SUBJECTS[i % len(LONG_SUBJECTS)]
        payloads.append(
            ArticlePayload(split, int(rng.integers(2**63)), name, language, media, True)
        )
    return [payloads[i] for i in rng.permutation(len(payloads))]


def planner(
    language: Language, media: bool
) -> Callable[[str, int, np.random.Generator], list[ArticlePayload]]:
    """`plan_articles` in a language, with media or without."""
    return partial(plan_articles, language=language, media=media)


def plan_questions(split: str, number: int, rng: np.random.Generator) -> list[ArticlePayload]:
    """Payloads of questions: every subject equally often, a third in Chinese."""
    english = round(number * (1 - _CHINESE))
    payloads = plan_articles(split, english, rng, "en", True)
    payloads += plan_articles(split, number - english, rng, "zh", True)
    return [payloads[i] for i in rng.permutation(len(payloads))]


def article_of(payload: ArticlePayload) -> DrawnArticle:
    """The article of a payload; the same payload gives the same one."""
    rng = np.random.default_rng(payload.seed)
    subject = subject_named(payload.subject)
    return draw_article(
        subject, payload.language, payload.split, rng, payload.media,
        "long" if payload.long else None,
    )  # fmt: skip


def article(payload: ArticlePayload) -> Document:
    """A prompt, and the article that it asks for."""
    return article_document(article_of(payload))


def facts(payload: ArticlePayload) -> Document:
    """One to three questions in words, with their answers."""
    rng = np.random.default_rng(payload.seed)
    segments: list[Segment] = []
    turns = draw_turns(subject_named(payload.subject), payload.language, payload.split, rng)
    for question, answer in turns:
        segments.append(Text(question, role="prompt", loss=0.0))
        segments.append(Text(answer, role="response"))
    return Document(tuple(segments))

"""Whether articles of the pocket world keep to what was asked for: sections and subject."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from unified.articles.blocks import (
    Heading,
    Narration,
    Paragraph,
    Quote,
    headings_of,
    read_blocks,
)
from unified.evaluation.judges import words
from unified.evaluation.names import named_subjects
from unified.evaluation.pocket import Progress, complete
from unified.models.model import UnifiedModel
from unified.pocket.article import article_request
from unified.pocket.article_plan import ArticlePlan
from unified_data.document import Document
from unified_data.pocket.subjects import Subject, load_subjects

__all__ = ["Article", "stays_on_subject", "write_articles"]


@dataclass(frozen=True, eq=False)
class Article:
    """An article and what was asked for."""

    plan: ArticlePlan
    document: Document

    @property
    def in_order(self) -> bool:
        """Whether the sections asked for came, in their order, and no others."""
        return headings_of(self.document) == self.plan.sections

    @property
    def on_subject(self) -> bool:
        return stays_on_subject(self.document, self.plan.subject)


def write_articles(
    model: UnifiedModel, plans: Sequence[ArticlePlan], progress: Progress | None = None
) -> list[Article]:
    """An article for every plan, sampled as `unified write` does."""
    requests = [article_request(plan) for plan in plans]
    sampling = model.tasks.task("write").sampling_over(model.sampling)
    written = complete(model, requests, progress, sampling)
    return [Article(plan, document) for plan, document in zip(plans, written)]


def stays_on_subject(document: Document, subject: Subject, least: float = 0.9) -> bool:
    """Whether an article is about its subject.

    Its title names it; of its sentences a share of at least `least` are nearer (shared words over
    all words) to a sentence of the subject than to any of another one; and none names a subject
    that the subject's own facts do not name. Captions are left out: a scene may show a second
    thing.
    """
    title, sentences = _prose(document)
    if not sentences or subject.name.lower() not in title.lower():
        return False
    own = sum(subject.name in _nearest(sentence) for sentence in sentences)
    known = " ".join((subject.name, subject.plural, *subject.aliases, *subject.sentences))
    foreign = set(named_subjects(" ".join(sentences))) - set(named_subjects(known))
    return own >= least * len(sentences) and not foreign


def _prose(document: Document) -> tuple[str, list[str]]:
    """An article's title, and the sentences of its paragraphs and narrations."""
    title, sentences = "", []
    for block in read_blocks(document):
        if isinstance(block, Heading) and block.level == 1:
            title = title or block.text
        elif isinstance(block, Paragraph | Quote | Narration):
            text = block.transcript if isinstance(block, Narration) else block.text
            sentences += [s for s in re.split(r"(?<=[.!?])\s+", text) if words(s)]
    return title, sentences


@cache
def _sentences() -> dict[str, tuple[str, frozenset[str]]]:
    """Every sentence of the world: its subject's name and its words."""
    return {
        sentence: (subject.name, frozenset(words(sentence)))
        for subject in load_subjects()
        for sentence in subject.sentences
    }


def _nearest(sentence: str) -> set[str]:
    """Names of the subjects that a sentence fits best; none where it shares no word with any."""
    present = frozenset(words(sentence))
    scores: defaultdict[str, float] = defaultdict(float)
    for name, own in _sentences().values():
        scores[name] = max(scores[name], len(present & own) / len(present | own))
    best = max(scores.values())
    return {name for name, score in scores.items() if score == best} if best else set()

"""An article as its judges read it: its prose, its figures, and what was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from unified.articles.blocks import (
    Block,
    Figure,
    Heading,
    Listing,
    Narration,
    Paragraph,
    Quote,
    read_blocks,
)
from unified.evaluation.judges import words
from unified.evaluation.wanted import Wanted
from unified_data.document import Document
from unified_data.pocket.subjects import Subject, find_subject
from unified_data.world.captions_en import RELATION_PHRASES, parse_en
from unified_data.world.captions_zh import parse_zh
from unified_data.world.prose import split_sentences
from unified_data.world.retrieval import Statement, judge_sentences
from unified_data.world.wordings import Language

__all__ = ["WrittenArticle", "distinct_n", "wanted_of"]


@dataclass(frozen=True, eq=False)
class WrittenArticle:
    """A document of an article about a subject."""

    document: Document
    subject: Subject

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        return read_blocks(self.document)

    @property
    def headings(self) -> tuple[str, ...]:
        return tuple(b.text for b in self.blocks if isinstance(b, Heading) and b.level == 2)

    @property
    def title(self) -> str:
        return next((b.text for b in self.blocks if isinstance(b, Heading) and b.level == 1), "")

    @property
    def figures(self) -> list[Figure]:
        return [block for block in self.blocks if isinstance(block, Figure)]

    @property
    def sounds(self) -> int:
        return sum(isinstance(block, Narration) for block in self.blocks)

    @property
    def has_list(self) -> bool:
        return any(isinstance(block, Listing) for block in self.blocks)

    @cached_property
    def sentences(self) -> list[str]:
        """Of paragraphs, quotes, lists and narrations; captions and headings are none."""
        texts: list[str] = []
        for block in self.blocks:
            if isinstance(block, Paragraph | Quote):
                texts.append(block.text)
            elif isinstance(block, Narration):
                texts.append(block.transcript)
            elif isinstance(block, Listing):
                texts += block.items
        return [sentence for text in texts for sentence in split_sentences(text)]

    @property
    def characters(self) -> int:
        """Of its prose, without blanks in Chinese as in English."""
        return sum(not c.isspace() for sentence in self.sentences for c in sentence)

    def statements(self, language: Language) -> tuple[Statement, ...]:
        """Its sentences, cut where they join facts, and which fact of the world each states."""
        return judge_sentences(self.sentences, self.subject, language).statements

    @property
    def repeats_a_picture(self) -> bool:
        """Whether two of its pictures are the same, pixel for pixel."""
        seen = [figure.image.pixels.tobytes() for figure in self.figures]
        return len(set(seen)) < len(seen)


def wanted_of(caption: str) -> Wanted | None:
    """What a picture of a caption of the world must show, English or Chinese; None where it cannot
    be read."""
    described = parse_en(caption) or parse_zh(caption)
    if described is None or described.writing is not None:
        return None
    subjects: list[Subject] = []
    for item in described.items:
        subject = find_subject(item.name)
        assert subject is not None
        subjects += [subject] * item.count
    relation = None if described.relation is None else RELATION_PHRASES[described.relation]
    return Wanted(caption, tuple(subjects), relation=relation)


def distinct_n(texts: Sequence[str], n: int = 2, chinese: bool = False) -> float:
    """Different n-grams of words (of Chinese: characters) over all n-grams of some texts.

    Li, Galley, Brockett, Gao, Dolan (2016), "A Diversity-Promoting Objective Function for Neural
    Conversation Models". 1: nothing is said twice; it falls with the amount of text.
    """
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        tokens = [c for c in text if c.isalnum()] if chinese else words(text)
        counts.update(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
    total = sum(counts.values())
    return len(counts) / total if total else float(np.nan)

"""How much of an article stands word for word in what training shows.

Facts come in three wordings each, which training shows in the end. Joined sentences are so many
that it shows few, and one in ten is held out of it: an article that is written anew has sentences
that are in no document.
"""

from __future__ import annotations

from collections.abc import Iterable

from unified_data.world.article_kinds import ArticlePayload, article_of
from unified_data.world.build import plan_kind
from unified_data.world.fulfilment import plain_lines
from unified_data.world.prose import split_sentences
from unified_data.world.wordings import Language

__all__ = ["sentences_of", "training_sentences", "verbatim_share"]

_KINDS: dict[Language, tuple[str, ...]] = {
    "en": ("article", "text"),
    "zh": ("article_zh", "text_zh"),
}


def sentences_of(text: str) -> list[str]:
    """The sentences of a Markdown text, of its prose alone."""
    return [sentence for line in plain_lines(text) for sentence in split_sentences(line)]


def training_sentences(language: Language, seed: int = 0, scale: float = 1.0) -> frozenset[str]:
    """Every sentence of the articles in `train` of a world of a seed and scale.

    Nothing is painted or spoken: the whole world takes half a minute.
    """
    payloads: Iterable[ArticlePayload] = (
        payload for kind in _KINDS[language] for payload in plan_kind(kind, "train", seed, scale)
    )
    return frozenset(s for payload in payloads for s in sentences_of(article_of(payload).text))


def verbatim_share(text: str, seen: frozenset[str]) -> float:
    """The share of a text's characters whose sentences are in `seen`; 0 of a text without any."""
    sentences = sentences_of(text)
    characters = sum(map(len, sentences))
    return sum(len(s) for s in sentences if s in seen) / max(1, characters)

"""What every form of an article is written from: blocks with names, a title, a language."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count

from unified.articles.blocks import Block, Figure, Heading, Listing, Narration, read_blocks
from unified.articles.language import (
    Wording,
    check_language,
    language_inside,
    language_of,
    wording,
)
from unified_data.document import Document

__all__ = ["DRAWN_SIDE", "ArticleContent", "NamedBlock", "article_of", "drawn_size", "text_of"]

DRAWN_SIDE = 288
"""Side in CSS pixels (1/96 inch) that a small picture is drawn up to, in whole multiples (96
pixels: 3 times). Browsers smooth what they enlarge, which suits glyphs with soft edges better than
squares."""


@dataclass(frozen=True)
class NamedBlock:
    """A block and its name in the article.

    name: "heading-1", "picture-1", "narration-1", ... in order; "" of a block that has none.
    language: its text's, where it is not the article's; else "".
    """

    name: str
    block: Block
    language: str = ""


@dataclass(frozen=True)
class ArticleContent:
    """An article as its files need it.

    title: of the whole, never empty. language: as BCP 47 has it. details: names and values to stand
    at the end, such as model and seed.
    """

    document: Document
    blocks: tuple[NamedBlock, ...]
    title: str
    language: str
    details: Mapping[str, str]

    @property
    def words(self) -> Wording:
        """Our own words in the article's language."""
        return wording(self.language)

    @property
    def pictures(self) -> Iterator[tuple[str, Figure]]:
        """(name, figure) of each picture in order."""
        return ((b.name, b.block) for b in self.blocks if isinstance(b.block, Figure))

    @property
    def narrations(self) -> Iterator[tuple[str, Narration]]:
        """(name, narration) of each sound in order."""
        return ((b.name, b.block) for b in self.blocks if isinstance(b.block, Narration))

    def alternative(self, named: NamedBlock) -> str:
        """What stands for a picture where it is not seen: its caption, or its number."""
        assert isinstance(named.block, Figure)
        number = int(named.name.rpartition("-")[2])
        return named.block.caption or self.words.without_caption.format(number=number)


def article_of(
    document: Document, details: Mapping[str, str] | None = None, language: str | None = None
) -> ArticleContent:
    """The article of a document (its response).

    language: None: told by its text. Raises ValueError for a document with slots, or a language
    that is not formed as BCP 47 has it.
    """
    blocks = read_blocks(document)
    if language is None:
        language = language_of("\n".join(map(text_of, blocks))) or "en"
    check_language(language)
    title = next((block.text for block in blocks if isinstance(block, Heading)), "").strip()
    numbers = {kind: count(1) for kind in ("heading", "picture", "narration")}
    named = []
    for block in blocks:
        kind = _kind(block)
        name = f"{kind}-{next(numbers[kind])}" if kind else ""
        named.append(NamedBlock(name, block, language_inside(text_of(block), language)))
    return ArticleContent(
        document, tuple(named), title or wording(language).article, language, dict(details or {})
    )


def drawn_size(figure: Figure) -> tuple[int, int]:
    """(width, height) in CSS pixels that a picture is drawn at, where there is room."""
    height, width = figure.image.pixels.shape[:2]
    scale = max(1, DRAWN_SIDE // max(height, width))
    return scale * width, scale * height


def text_of(block: Block) -> str:
    """All words of a block, those of captions and transcripts too."""
    if isinstance(block, Listing):
        return "\n".join(block.items)
    if isinstance(block, Figure):
        return block.caption
    return block.transcript if isinstance(block, Narration) else block.text


def _kind(block: Block) -> str:
    if isinstance(block, Heading):
        return "heading"
    if isinstance(block, Figure):
        return "picture"
    return "narration" if isinstance(block, Narration) else ""

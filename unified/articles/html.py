"""An article as one self-contained HTML page.

Pictures and sounds lie in the page as data, exactly as the model made them (PNG, 16-bit WAV). All
text is escaped, so that nothing a model or a user wrote can become markup, and a content security
policy forbids scripts and anything loaded from elsewhere. The same article gives the same bytes.

A page that shall be opened as a document again holds it as JSON in a `template` element, which no
browser shows or runs; the media that the page shows are named there, not repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from unified.articles.article import ArticleContent, NamedBlock, article_of, drawn_size
from unified.articles.blocks import Figure, Heading, Listing, Narration, Quote
from unified.articles.holding import hold, holding_json
from unified_base.html_page import data_address, render_html
from unified_base.images import encode_png
from unified_base.sounds import decode_audio, encode_wav
from unified_data.document import Audio, Document

__all__ = ["block_view", "page_of", "render_page"]

_View = dict[str, Any]
"""What the template prints of a block; "kind" says which it is."""


def render_page(document: Document, details: Mapping[str, str] | None = None) -> str:
    """The article of a document (its response) as an HTML page, which does not hold the document.

    details: names and values for the footer, such as model and seed. Raises ValueError for a
    document with slots.
    """
    return page_of(article_of(document, details), holds_document=False)


def page_of(article: ArticleContent, holds_document: bool = True, has_sounds: bool = True) -> str:
    """The page of an article.

    holds_document: it can be opened as a document again. has_sounds: it has players, which paper
    has not; a page that holds its document has them.
    """
    media = {name: encode_png(figure.image.pixels) for name, figure in article.pictures}
    if has_sounds or holds_document:
        media |= {name: _wav(narration.audio) for name, narration in article.narrations}
    sections: list[list[NamedBlock]] = [[]]
    for named in article.blocks:
        if isinstance(named.block, Heading) and named.block.level == 2:
            sections.append([])
        sections[-1].append(named)
    lead, *rest = sections
    has_heading = bool(lead) and isinstance(lead[0].block, Heading)

    def view(named: NamedBlock) -> _View:
        shows = block_view(article, named)
        if named.name in media:
            kind = "image/png" if isinstance(named.block, Figure) else "audio/wav"
            shows["address"] = data_address(kind, media[named.name])
        return shows

    def rows(blocks: Iterable[NamedBlock]) -> list[list[_View]]:
        """Rows of prose, each with the figures that follow it beside it."""
        rows: list[list[_View]] = []
        for is_figure, group in groupby(blocks, lambda named: isinstance(named.block, Figure)):
            if not is_figure or not rows:
                rows.append([])
            rows[-1].append({"figures": is_figure, "blocks": [*map(view, group)]})
        return rows

    return render_html(
        "unified.articles",
        "article",
        article.title,
        article.language,
        heading=view(lead[0]) if has_heading else None,
        lead=rows(lead[has_heading:]),
        sections=[rows(section) for section in rest],
        details=article.details,
        summary=article.words.by_one_model,
        holding=_holding(article, media) if holds_document else None,
    )


def block_view(article: ArticleContent, named: NamedBlock) -> _View:
    """What a template prints of a block, but for the address of its medium."""
    block = named.block
    common = {"id": named.name, "language": named.language}
    if isinstance(block, Heading):
        return {**common, "kind": "heading", "level": block.level, "text": block.text}
    if isinstance(block, Listing):
        tag = "ol" if block.numbered else "ul"
        return {**common, "kind": "listing", "tag": tag, "entries": block.items}
    if isinstance(block, Figure):
        width, height = drawn_size(block)
        return {
            **common, "kind": "figure", "width": width, "height": height,
            "caption": block.caption, "alternative": article.alternative(named),
        }  # fmt: skip
    if isinstance(block, Narration):
        seconds = block.audio.waveform.shape[1] / block.audio.sample_rate
        return {
            **common, "kind": "narration", "address": None, "transcript": block.transcript,
            "label": article.words.label_of_sound(block.transcript),
            "about": article.words.about_sound(block.voice, seconds),
        }  # fmt: skip
    return {**common, "kind": "quote" if isinstance(block, Quote) else "paragraph",
            "text": block.text}  # fmt: skip


def _wav(audio: Audio) -> bytes:
    return encode_wav(audio.waveform, audio.sample_rate)


def _holding(article: ArticleContent, media: Mapping[str, bytes]) -> str:
    """The JSON that the page holds: what it shows exactly is named there."""
    exact: dict[int, str] = {}
    for name, figure in article.pictures:
        exact[id(figure.image)] = name
    for name, narration in article.narrations:
        waveform, _ = decode_audio(media[name], name, max_seconds=float("inf"))
        if (waveform == narration.audio.waveform).all():
            exact[id(narration.audio)] = name
    return holding_json(*hold(article, exact))

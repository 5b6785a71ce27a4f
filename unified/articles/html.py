"""An article as one self-contained HTML page.

Pictures and sounds lie in the page as data, exactly as the model made them (PNG, 16-bit WAV). All
text is escaped, so that nothing a model or a user wrote can become markup, and a content security
policy forbids scripts and anything loaded from elsewhere. The same article gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from itertools import groupby

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
from unified_base.html_page import as_text, data_address, html_page
from unified_base.images import encode_png
from unified_base.sounds import encode_wav
from unified_data.document import Document

__all__ = ["render_page"]

# Side in CSS pixels that a small picture is drawn up to, in whole multiples (96 pixels: 3 times).
# Browsers smooth what they enlarge, which suits glyphs with soft edges better than squares.
_DRAWN_SIDE = 288


def render_page(document: Document, details: Mapping[str, str] | None = None) -> str:
    """The article of a document (its response) as an HTML page.

    details: names and values for the footer, such as model and seed. Raises ValueError for a
    document with slots.
    """
    blocks = read_blocks(document)
    style = resources.files("unified.articles").joinpath("page.css").read_text("utf-8")
    title = next((block.text for block in blocks if isinstance(block, Heading)), "Article")
    body = [
        "<main>",
        "<article>",
        *_article(blocks),
        "</article>",
        "</main>",
        *_footer(details or {}),
    ]
    return html_page(title, style, body)


def _article(blocks: Iterable[Block]) -> Iterable[str]:
    """The title and lead, then a section for each heading of level 2."""
    sections: list[list[Block]] = [[]]
    for block in blocks:
        if isinstance(block, Heading) and block.level == 2:
            sections.append([])
        sections[-1].append(block)
    lead, *rest = sections
    if lead and isinstance(lead[0], Heading):
        yield "<header>" + _block(lead.pop(0)) + "</header>"
    yield from _rows(lead)
    for section in rest:
        yield "<section>"
        yield from _rows(section)
        yield "</section>"


def _rows(blocks: Iterable[Block]) -> Iterable[str]:
    """Runs of prose, each with the run of figures after it beside it."""
    is_open = False
    for is_figure, group in groupby(blocks, lambda block: isinstance(block, Figure)):
        if not is_figure and is_open:
            yield "</div>"
        if not is_figure or not is_open:
            yield '<div class="row">'
            is_open = True
        yield f'<div class="{"figures" if is_figure else "prose"}">'
        yield from map(_block, group)
        yield "</div>"
    if is_open:
        yield "</div>"


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{as_text(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        return f"<p>{as_text(block.text)}</p>"
    if isinstance(block, Quote):
        return f"<blockquote>{as_text(block.text)}</blockquote>"
    if isinstance(block, Listing):
        tag = "ol" if block.numbered else "ul"
        return f"<{tag}>{''.join(f'<li>{as_text(item)}</li>' for item in block.items)}</{tag}>"
    if isinstance(block, Narration):
        return _narration(block)
    return _figure(block)


def _figure(figure: Figure) -> str:
    height, width = figure.image.pixels.shape[:2]
    scale = max(1, _DRAWN_SIDE // max(height, width))
    image = (
        f'<img src="{data_address("image/png", encode_png(figure.image.pixels))}" '
        f'width="{scale * width}" height="{scale * height}" alt="{as_text(figure.caption)}">'
    )
    caption = f"<figcaption>{as_text(figure.caption)}</figcaption>" if figure.caption else ""
    return f"<figure>{image}{caption}</figure>"


def _narration(narration: Narration) -> str:
    audio = narration.audio
    sound = data_address("audio/wav", encode_wav(audio.waveform, audio.sample_rate))
    label = f"Narration: {narration.transcript}" if narration.transcript else "Narration"
    quote = f"<blockquote>{as_text(narration.transcript)}</blockquote>"
    seconds = audio.waveform.shape[1] / audio.sample_rate
    reader = f"Read aloud by {narration.voice.capitalize()}" if narration.voice else "Read aloud"
    return (
        f'<figure class="narration">{quote if narration.transcript else ""}'
        f'<audio controls preload="metadata" src="{sound}" aria-label="{as_text(label)}"></audio>'
        f"<figcaption>{as_text(reader)}, {seconds:.1f} seconds</figcaption></figure>"
    )


def _footer(details: Mapping[str, str]) -> Iterable[str]:
    if not details:
        return
    rows = "".join(f"<dt>{as_text(k)}</dt><dd>{as_text(v)}</dd>" for k, v in details.items())
    yield "<footer><details open><summary>Text, pictures and sound written by one model</summary>"
    yield f"<dl>{rows}</dl></details></footer>"

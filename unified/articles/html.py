"""An article as one self-contained HTML page.

Pictures and sounds lie in the page as data, exactly as the model made them (PNG, 16-bit WAV). All
text is escaped, so that nothing a model or a user wrote can become markup, and a content security
policy forbids scripts and anything loaded from elsewhere. The same article gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from unified.articles.blocks import (
    Block,
    Figure,
    Heading,
    Listing,
    Narration,
    Quote,
    read_blocks,
)
from unified_base.html_page import data_address, render_html
from unified_base.images import encode_png
from unified_base.sounds import encode_wav
from unified_data.document import Document

__all__ = ["render_page"]

# Side in CSS pixels that a small picture is drawn up to, in whole multiples (96 pixels: 3 times).
# Browsers smooth what they enlarge, which suits glyphs with soft edges better than squares.
_DRAWN_SIDE = 288

_View = dict[str, Any]
"""What the template prints of a block; "kind" says which it is."""


def render_page(document: Document, details: Mapping[str, str] | None = None) -> str:
    """The article of a document (its response) as an HTML page.

    details: names and values for the footer, such as model and seed. Raises ValueError for a
    document with slots.
    """
    blocks = read_blocks(document)
    title = next((block.text for block in blocks if isinstance(block, Heading)), "Article")
    sections: list[list[Block]] = [[]]
    for block in blocks:
        if isinstance(block, Heading) and block.level == 2:
            sections.append([])
        sections[-1].append(block)
    lead, *rest = sections
    has_heading = bool(lead) and isinstance(lead[0], Heading)
    return render_html(
        "unified.articles",
        "article",
        title,
        heading=_view(lead[0]) if has_heading else None,
        lead=_rows(lead[has_heading:]),
        sections=[_rows(section) for section in rest],
        details=dict(details or {}),
    )


def _rows(blocks: Iterable[Block]) -> list[list[_View]]:
    """Rows of prose, each with the figures that follow it beside it."""
    rows: list[list[_View]] = []
    for is_figure, group in groupby(blocks, lambda block: isinstance(block, Figure)):
        if not is_figure or not rows:
            rows.append([])
        rows[-1].append({"figures": is_figure, "blocks": [_view(block) for block in group]})
    return rows


def _view(block: Block) -> _View:
    if isinstance(block, Heading):
        return {"kind": "heading", "level": block.level, "text": block.text}
    if isinstance(block, Listing):
        tag = "ol" if block.numbered else "ul"
        return {"kind": "listing", "tag": tag, "entries": block.items}
    if isinstance(block, Figure):
        return _figure(block)
    if isinstance(block, Narration):
        return _narration(block)
    return {"kind": "quote" if isinstance(block, Quote) else "paragraph", "text": block.text}


def _figure(figure: Figure) -> _View:
    height, width = figure.image.pixels.shape[:2]
    scale = max(1, _DRAWN_SIDE // max(height, width))
    return {
        "kind": "figure",
        "address": data_address("image/png", encode_png(figure.image.pixels)),
        "width": scale * width,
        "height": scale * height,
        "caption": figure.caption,
    }


def _narration(narration: Narration) -> _View:
    audio = narration.audio
    seconds = audio.waveform.shape[1] / audio.sample_rate
    reader = f"Read aloud by {narration.voice.capitalize()}" if narration.voice else "Read aloud"
    return {
        "kind": "narration",
        "address": data_address("audio/wav", encode_wav(audio.waveform, audio.sample_rate)),
        "transcript": narration.transcript,
        "label": f"Narration: {narration.transcript}" if narration.transcript else "Narration",
        "about": f"{reader}, {seconds:.1f} seconds",
    }

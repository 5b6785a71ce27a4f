"""An article as one self-contained HTML page.

Pictures and sounds lie in the page as data, exactly as the model made them (PNG, 16-bit WAV). All
text is escaped, so that nothing a model or a user wrote can become markup, and a content security
policy forbids scripts and anything loaded from elsewhere. The same article gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from html import escape
from importlib import resources
from itertools import groupby

from unified.blocks import Block, Figure, Heading, Narration, Paragraph, Quote, read_blocks
from unified_data.document import Document
from unified_data.files import encode_png, encode_wav

__all__ = ["render_page"]

# Side in CSS pixels that a small picture is drawn up to, in whole multiples (96 pixels: 3 times).
# Browsers smooth what they enlarge, which suits glyphs with soft edges better than squares.
_DRAWN_SIDE = 288

# Characters that HTML forbids even as references; shown as U+FFFD.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")


def render_page(document: Document, details: Mapping[str, str] | None = None) -> str:
    """The article of a document (its response) as an HTML page.

    details: names and values for the footer, such as model and seed. Raises ValueError for a
    document with slots.
    """
    blocks = read_blocks(document)
    style = resources.files("unified").joinpath("page.css").read_text("utf-8").strip()
    # The policy allows this one style sheet by its hash, and pictures and sounds held in the page.
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; media-src data:; "
        f"style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    title = next((block.text for block in blocks if isinstance(block, Heading)), "Article")
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="generator" content="unified">',
        f"<title>{_text(title)}</title>",
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        "<main>",
        "<article>",
        *_article(blocks),
        "</article>",
        "</main>",
        *_footer(details or {}),
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    """Text as it may stand between tags or in a quoted attribute."""
    return escape(_FORBIDDEN.sub("\ufffd", text), quote=True)


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
        return f"<h{block.level}>{_text(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        return f"<p>{_text(block.text)}</p>"
    if isinstance(block, Quote):
        return f"<blockquote>{_text(block.text)}</blockquote>"
    if isinstance(block, Narration):
        return _narration(block)
    return _figure(block)


def _figure(figure: Figure) -> str:
    height, width = figure.image.pixels.shape[:2]
    scale = max(1, _DRAWN_SIDE // max(height, width))
    image = (
        f'<img src="{_data("image/png", encode_png(figure.image.pixels))}" '
        f'width="{scale * width}" height="{scale * height}" alt="{_text(figure.caption)}">'
    )
    caption = f"<figcaption>{_text(figure.caption)}</figcaption>" if figure.caption else ""
    return f"<figure>{image}{caption}</figure>"


def _narration(narration: Narration) -> str:
    audio = narration.audio
    sound = _data("audio/wav", encode_wav(audio.waveform, audio.sample_rate))
    label = f"Narration: {narration.transcript}" if narration.transcript else "Narration"
    quote = f"<blockquote>{_text(narration.transcript)}</blockquote>"
    seconds = audio.waveform.shape[1] / audio.sample_rate
    reader = f"Read aloud by {narration.voice.capitalize()}" if narration.voice else "Read aloud"
    return (
        f'<figure class="narration">{quote if narration.transcript else ""}'
        f'<audio controls preload="metadata" src="{sound}" aria-label="{_text(label)}"></audio>'
        f"<figcaption>{_text(reader)}, {seconds:.1f} seconds</figcaption></figure>"
    )


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _footer(details: Mapping[str, str]) -> Iterable[str]:
    if not details:
        return
    rows = "".join(f"<dt>{_text(k)}</dt><dd>{_text(v)}</dd>" for k, v in details.items())
    yield "<footer><details open><summary>Text, pictures and sound written by one model</summary>"
    yield f"<dl>{rows}</dl></details></footer>"

"""An article as Markdown with a folder of its media. Nothing in its text becomes markup or HTML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from unified.articles.article import ArticleContent
from unified.articles.blocks import Figure, Heading, Listing, Narration, Quote
from unified_base.images import encode_png
from unified_base.sounds import encode_wav
from unified_base.together import Bundle

__all__ = ["markdown_of"]


def markdown_of(article: ArticleContent, path: Path) -> Bundle:
    """An article as Markdown, its media by name (STEM-media/picture-1.png, ...)."""
    words = article.words
    folder = f"{path.stem}-media"
    parts: list[str] = []
    links: dict[int, tuple[str, str]] = {}  # by their place among the parts: Markdown, medium
    media: dict[str, bytes] = {}

    def link(markup: str, name: str) -> None:
        links[len(parts)] = (markup, name)
        parts.append("")

    for named in article.blocks:
        block = named.block
        if isinstance(block, Heading):
            parts.append(f"{'#' * block.level} {_plain(block.text)}")
        elif isinstance(block, Figure):
            name = f"{folder}/{named.name}.png"
            media[name] = encode_png(block.image.pixels)
            link(f"![{_plain(article.alternative(named))}]", name)
        elif isinstance(block, Narration):
            name = f"{folder}/{named.name}.wav"
            media[name] = encode_wav(block.audio.waveform, block.audio.sample_rate)
            if block.transcript:
                parts.append(_quoted(block.transcript))
            link(f"[{words.listen}{f' ({_plain(block.voice)})' if block.voice else ''}]", name)
        elif isinstance(block, Quote):
            parts.append(_quoted(block.text))
        elif isinstance(block, Listing):
            parts.append(_listed(block.items, block.numbered))
        else:
            parts.append(_plain(block.text))
    if article.details:
        parts.append("---")
        parts.append(
            "  \n".join(
                f"{_plain(name)}{words.separator}{_plain(value)}"
                for name, value in article.details.items()
            )
        )

    def render(names: Mapping[str, str]) -> bytes:
        written = list(parts)
        for number, (markup, name) in links.items():
            written[number] = f"{markup}({quote(names[name])})"
        return ("\n\n".join(written) + "\n").encode("utf-8")

    return Bundle(path, media, render)


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in _plain(text).split("\n"))


def _listed(items: Sequence[str], numbered: bool) -> str:
    marks = (f"{n}." if numbered else "-" for n in range(1, len(items) + 1))
    return "\n".join(f"{mark} {_plain(item)}" for mark, item in zip(marks, items))


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: what could become markup or HTML is escaped."""
    text = re.sub(r"([\\`*_\[\]<>&])", r"\\\1", text)
    text = re.sub(r"^(\s*)([#+\-=|~])", r"\1\\\2", text, flags=re.MULTILINE)
    return re.sub(r"^(\s*\d+)([.)])", r"\1\\\2", text, flags=re.MULTILINE)

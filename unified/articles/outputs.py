"""Articles and documents as files: HTML, Markdown with a folder of media, JSON with media beside.

What belongs together is written together (see `unified_base.together`): an error or Ctrl-C leaves
nothing half-written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from unified.articles.blocks import check_substance
from unified_base.atomic import PendingFile
from unified_base.destinations import output_file
from unified_base.together import Bundle, write_bundles, write_together
from unified_data.document import Document

__all__ = ["ARTICLE_FORMATS", "check_format", "check_writable", "numbered", "save_article",
           "save_documents", "write_together"]  # fmt: skip

ARTICLE_FORMATS = (".html", ".md", ".json")


def check_format(path: Path, formats: tuple[str, ...], what: str) -> None:
    """Raises ValueError where the file's extension is not one of `formats`, or it is no file."""
    output_file(path)
    if path.suffix.lower() not in formats:
        raise ValueError(
            f"cannot tell the format of {path} from {path.suffix or 'no extension'!r}; "
            f"{what} is written as {', '.join(formats)}"
        )


def check_writable(path: Path) -> None:
    """Raises ValueError where a file cannot be written: found out before the work, not after."""
    PendingFile(path).discard()


def numbered(path: Path, count: int) -> list[Path]:
    """`path` itself for one file; PATH-1, PATH-2, ... for several."""
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{i}{path.suffix}") for i in range(1, count + 1)]


def save_article(path: Path, document: Document, details: Mapping[str, str] | None = None) -> None:
    """Write an article as its extension says: .html, .md (media in STEM-media/) or .json.

    details: names and values for the footer of a page. Raises ValueError for another extension, a
    document with slots or of next to nothing, or a place that cannot be written to.
    """
    check_format(path, ARTICLE_FORMATS, "an article")
    check_substance(document)
    suffix = path.suffix.lower()
    if suffix == ".json":
        save_documents({path: document})
    elif suffix == ".html":
        from unified.articles.html import render_page

        write_together({path: render_page(document, details).encode("utf-8")})
    else:
        write_bundles([_markdown(path, document, details or {})])


def save_documents(documents: Mapping[Path, Document]) -> None:
    """Write documents as JSON, their media beside them as STEM.POSITION.EXTENSION, all or none.

    Raises ValueError for a place that cannot be written to.
    """
    write_bundles([_json(path, document) for path, document in documents.items()])


def _json(path: Path, document: Document) -> Bundle:
    obj, media = document.to_parts(path.stem)

    def render(names: Mapping[str, str]) -> bytes:
        rows = [
            {**row, "file": names[row["file"]]} if "file" in row else row for row in obj["segments"]
        ]
        text = json.dumps({**obj, "segments": rows}, ensure_ascii=False, indent=1) + "\n"
        return text.encode("utf-8")

    return Bundle(path, media, render)


def _markdown(path: Path, document: Document, details: Mapping[str, str]) -> Bundle:
    """An article as Markdown, its media by name (STEM-media/picture-1.png, ...)."""
    from unified.articles.blocks import Figure, Heading, Listing, Narration, Quote, read_blocks
    from unified_base.images import encode_png
    from unified_base.sounds import encode_wav

    folder = f"{path.stem}-media"
    parts: list[str] = []
    links: dict[int, tuple[str, str]] = {}  # by their place among the parts: Markdown, medium
    media: dict[str, bytes] = {}
    pictures = narrations = 0

    def link(markup: str, name: str) -> None:
        links[len(parts)] = (markup, name)
        parts.append("")

    for block in read_blocks(document):
        if isinstance(block, Heading):
            parts.append(f"{'#' * block.level} {_plain(block.text)}")
        elif isinstance(block, Figure):
            pictures += 1
            name = f"{folder}/picture-{pictures}.png"
            media[name] = encode_png(block.image.pixels)
            link(f"![{_plain(block.caption)}]", name)
        elif isinstance(block, Narration):
            narrations += 1
            name = f"{folder}/narration-{narrations}.wav"
            media[name] = encode_wav(block.audio.waveform, block.audio.sample_rate)
            if block.transcript:
                parts.append(_quoted(block.transcript))
            link(f"[Listen{f' ({_plain(block.voice)})' if block.voice else ''}]", name)
        elif isinstance(block, Quote):
            parts.append(_quoted(block.text))
        elif isinstance(block, Listing):
            parts.append(_listed(block.items, block.numbered))
        else:
            parts.append(_plain(block.text))
    if details:
        parts.append("---")
        parts.append("  \n".join(f"{_plain(k)}: {_plain(v)}" for k, v in details.items()))

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

"""An article as an EPUB 3 book, with its narrations as media overlay.

One chapter, a table of contents of its headings, pictures as PNG, narrations as MP3 (the books'
own types have no WAV and no FLAC). A reading system that has media overlays reads the transcripts
aloud and marks them; elsewhere each has a player. The document lies in the book as JSON with
what the chapter does not hold exactly, so that the book opens as a document again.

EPUB 3.3: https://www.w3.org/TR/epub-33/
"""

from __future__ import annotations

import hashlib
import io
import time
import uuid
import zipfile
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

from unified.articles.article import ArticleContent
from unified.articles.blocks import Figure, Heading, Narration
from unified.articles.holding import hold, holding_json
from unified.articles.html import block_view
from unified.articles.times import time_of_export
from unified_base.html_page import render_template
from unified_base.images import encode_png
from unified_base.sound_lossy import encode_mp3

__all__ = ["HOLDING", "book_of"]

_FOLDER = "EPUB"
HOLDING = f"{_FOLDER}/document.json"
"""Where the document's JSON lies in a book; it names media relative to its folder."""
_NAMESPACE = uuid.UUID("8f1b3d3e-6d3f-5c54-9d2a-0f6a5a0e7c11")
_TYPES = {".png": "image/png", ".mp3": "audio/mpeg", ".flac": "audio/flac", ".wav": "audio/wav",
          ".json": "application/json"}  # fmt: skip
_EPOCH = (1980, 1, 1, 0, 0, 0)


def book_of(article: ArticleContent) -> bytes:
    """The bytes of an article's EPUB file.

    The same article gives the same bytes but for the time in it, which SOURCE_DATE_EPOCH can say.
    """
    names = {name: f"media/{name}.png" for name, _ in article.pictures}
    names |= {name: f"media/{name}.mp3" for name, _ in article.narrations}
    media = {names[name]: encode_png(figure.image.pixels) for name, figure in article.pictures}
    for name, narration in article.narrations:
        media[names[name]] = encode_mp3(narration.audio.waveform, narration.audio.sample_rate)
    exact = {id(figure.image): names[name] for name, figure in article.pictures}
    obj, others = hold(article, exact)
    held = {f"media/{name}": data for name, data in others.items()}
    for row in obj["document"]["segments"]:
        if row.get("file") in others:
            row["file"] = f"media/{row['file']}"
    files = {
        "article.xhtml": _chapter(article, names),
        "nav.xhtml": _contents(article),
        "article.css": _style().encode(),
        "document.json": holding_json(obj, {}).encode(),
        **media,
        **held,
    }
    if any(article.narrations):
        files["article.smil"] = _overlay(article, names)
    package = _package(article, media, held)
    return _packed({"package.opf": package, **files})


def _chapter(article: ArticleContent, names: Mapping[str, str]) -> bytes:
    blocks = [
        block_view(article, named) | {"address": names.get(named.name, "")}
        for named in article.blocks
    ]
    return _xml("article.xhtml", article, blocks=blocks, details=article.details)


def _contents(article: ArticleContent) -> bytes:
    """The navigation document: the headings of the first two levels, or the title alone."""
    headings = [
        {"id": named.name, "text": named.block.text, "language": named.language}
        for named in article.blocks
        if isinstance(named.block, Heading) and named.block.level <= 2
    ]
    return _xml("nav.xhtml", article, headings=headings)


def _overlay(article: ArticleContent, names: Mapping[str, str]) -> bytes:
    spoken = [
        {"id": name, "address": names[name], "end": _clock(_seconds(narration))}
        for name, narration in article.narrations
    ]
    return _xml("article.smil", article, spoken=spoken)


def _package(
    article: ArticleContent, media: Mapping[str, bytes], held: Mapping[str, bytes]
) -> bytes:
    items = [
        {
            "id": f"medium-{number}",
            "address": address,
            "type": _TYPES[PurePosixPath(address).suffix],
        }
        for number, address in enumerate((*media, *held), 1)
    ]
    cover = next((item["id"] for item in items if item["type"] == "image/png"), None)
    seconds = sum(_seconds(narration) for _, narration in article.narrations)
    modes = ["textual"]
    modes += ["visual"] if any(article.pictures) else []
    modes += ["auditory"] if seconds else []
    return _xml(
        "package.opf",
        article,
        identifier=f"urn:uuid:{uuid.uuid5(_NAMESPACE, _digest(article, media, held))}",
        modified=_modified(),
        creator=article.details.get("Model", ""),
        items=items,
        cover=cover,
        duration=_clock(seconds) if seconds else None,
        modes=modes,
        described=all(figure.caption for _, figure in article.pictures),
    )


def _digest(article: ArticleContent, media: Mapping[str, bytes], held: Mapping[str, bytes]) -> str:
    """A hash of all that an article says."""
    digest = hashlib.sha256(repr((article.title, article.language, article.details)).encode())
    for named in article.blocks:
        block = named.block
        words = repr(block) if not isinstance(block, Figure | Narration) else named.name
        digest.update(words.encode("utf-8", "backslashreplace"))
    for name, data in {**media, **held}.items():
        digest.update(name.encode() + hashlib.sha256(data).digest())
    return digest.hexdigest()


def _xml(template: str, article: ArticleContent, **values: Any) -> bytes:
    common = {"title": article.title, "language": article.language, "words": article.words}
    return render_template("unified.articles", template, **common, **values).encode("utf-8")


def _packed(files: Mapping[str, bytes]) -> bytes:
    """The container: `mimetype` first and not compressed, as its format asks."""
    container = render_template("unified.articles", "container.xml", root=f"{_FOLDER}/package.opf")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        _add(archive, "mimetype", b"application/epub+zip", zipfile.ZIP_STORED)
        _add(archive, "META-INF/container.xml", container.encode(), zipfile.ZIP_DEFLATED)
        for name, data in files.items():
            stored = name.endswith((".png", ".mp3", ".flac"))  # compressed already
            method = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            _add(archive, f"{_FOLDER}/{name}", data, method)
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, data: bytes, method: int) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.external_attr = 0o644 << 16
    entry.compress_type = method
    archive.writestr(entry, data)


def _seconds(narration: Narration) -> float:
    return narration.audio.waveform.shape[1] / narration.audio.sample_rate


def _clock(seconds: float) -> str:
    """A time as SMIL has it."""
    return f"{seconds:.3f}s"


def _modified() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_of_export()))


@cache
def _style() -> str:
    return (resources.files("unified.articles") / "templates" / "book.css").read_text("utf-8")

"""The document inside an article's file, so that the file opens as a document again.

A JSON object (version 1):

    {"unified_article": 1, "document": {"segments": [...]}, "details": {...}, "language": "en",
     "media": {"document.3.flac": "base64..."}}

`document` is a document's JSON form. Its media are named: those in `media` lie in the JSON, all
others are the file's own (the element of a page with that id, a file of a book).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from unified.articles.article import ArticleContent
from unified.articles.language import check_language
from unified_base.structured import parse_json
from unified_base.text import quoted
from unified_data.document import Document, keys_of

__all__ = ["MAX_HOLDING", "StoredArticle", "hold", "holding_json", "let_go"]

MAX_HOLDING = 256 << 20
"""Bytes of the JSON in a file: media that a page does not show lie in it."""
_VERSION = 1
_MAX_DETAILS = 64
_NAME = "document"


@dataclass(frozen=True)
class StoredArticle:
    """What a file of an article says: its document, and what stands at the article's end.

    language: None where the file does not say it.
    """

    document: Document
    details: Mapping[str, str]
    language: str | None


def hold(
    article: ArticleContent, shown_as: Mapping[int, str]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The JSON object without its media, and the bytes of those that are nowhere else by name.

    shown_as: names of the segments that the file has elsewhere without loss, by `id(segment)`.
    """
    obj, media = article.document.to_parts(_NAME)
    for segment, row in zip(article.document, obj["segments"]):
        if id(segment) in shown_as:
            media.pop(row["file"])
            row["file"] = shown_as[id(segment)]
    return {
        "unified_article": _VERSION, "document": obj, "details": dict(article.details),
        "language": article.language,
    }, media  # fmt: skip


def holding_json(obj: Mapping[str, Any], media: Mapping[str, bytes]) -> str:
    """The object as JSON that can stand in HTML as it is: ASCII without `<`, `>` and `&`."""
    held = {name: base64.b64encode(data).decode("ascii") for name, data in media.items()}
    text = json.dumps({**obj, "media": held}, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def let_go(text: bytes, name: str, read: Callable[[str], bytes]) -> StoredArticle:
    """The article of a file's JSON. name: the file's, for errors. read: bytes of its own media.

    Raises ValueError, which names the file, for anything that `hold` does not write.
    """
    obj = parse_json(text, f"the document inside {name}", MAX_HOLDING)
    try:
        if not isinstance(obj, dict) or obj.get("unified_article") != _VERSION:
            version = obj.get("unified_article") if isinstance(obj, dict) else None
            raise ValueError(f"version is {quoted(version)}, expected {_VERSION}; update unified")
        if set(obj) != {"unified_article", "document", "details", "language", "media"}:
            raise ValueError(f"it has {keys_of(obj)}, expected document, details, language, media")
        details, media, language = obj["details"], obj["media"], obj["language"]
        for what, values in (("details", details), ("media", media)):
            if not isinstance(values, dict) or not all(
                isinstance(value, str) for value in values.values()
            ):
                raise ValueError(f"{what} is {quoted(values)}, expected an object of texts")
        if len(details) > _MAX_DETAILS:
            raise ValueError(f"it has {len(details):,} details, expected {_MAX_DETAILS} at most")
        if not isinstance(language, str):
            raise ValueError(f"language is {quoted(language)}, expected a text")
        check_language(language)

        def medium(wanted: str) -> bytes:
            if wanted not in media:
                return read(wanted)
            try:
                return base64.b64decode(media[wanted], validate=True)
            except (binascii.Error, ValueError) as error:
                raise ValueError(f"{quoted(wanted)} is not base64: {error}") from None

        document = Document.from_parts(obj["document"], medium)
    except ValueError as error:
        raise ValueError(f"the document inside {name} cannot be read: {error}") from None
    return StoredArticle(document, details, language)

"""Opening the files of articles: documents (.json), and pages and books that hold theirs.

What strangers give is bounded before it is read: sizes of files, of what they unpack to and of
their tables, nesting, pixels and samples. Nothing is ever unpacked to a disk or fetched.
"""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path

from unified.articles.epub import HOLDING
from unified.articles.holding import MAX_HOLDING, StoredArticle, let_go
from unified.articles.zip_file import BoundedZip
from unified_base.files import read_bytes
from unified_base.structured import read_json
from unified_base.text import quoted
from unified_data.document import Document

__all__ = ["READABLE", "open_article"]

READABLE = (".json", ".html", ".htm", ".epub")
"""Extensions of the files that `open_article` reads."""
MAX_ARTICLE = 512 << 20
"""Bytes of a page or a book."""
_TAG = re.compile(rb"<(template|img|audio)\b([^<>]*)>")
_ATTRIBUTE = re.compile(rb'\b(id|src)="([^"]*)"')
_ADDRESS = re.compile(rb"data:[a-z]+/[a-z0-9.+-]+;base64,")
_HOLDER = b"unified-article"


def open_article(path: str | Path) -> StoredArticle:
    """The document of a file, with what stands at the end of an article.

    path: a document's JSON with its media beside it, or a page (.html) or book (.epub) that
    `unified write` or `unified export` made.

    Raises ValueError, which names the file, where it is none of these, is broken, or asks for too
    much.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in READABLE:
        raise ValueError(
            f"cannot open {path} as an article: its extension is {suffix or 'missing'!r}, "
            f"expected one of {', '.join(READABLE)}"
        )
    if suffix == ".json":
        obj = read_json(path)
        try:
            return StoredArticle(Document.from_json(obj, path.parent), {}, None)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    data = read_bytes(path, "article", MAX_ARTICLE)
    return _of_book(data, path) if suffix == ".epub" else _of_page(data, path)


def _of_page(data: bytes, path: Path) -> StoredArticle:
    """From the bytes of a page: linear in their number, whatever they are."""
    addresses: dict[str, bytes] = {}
    holding: bytes | None = None
    for tag in _TAG.finditer(data):
        attributes = dict(_ATTRIBUTE.findall(tag[2]))
        name = attributes.get(b"id")
        if tag[1] != b"template":
            if name is not None and b"src" in attributes:
                addresses.setdefault(name.decode("utf-8", "replace"), attributes[b"src"])
        elif name == _HOLDER:
            if holding is not None:
                raise ValueError(f"{path} holds two documents, expected one")
            end = data.find(b"</template", tag.end())
            holding = data[tag.end() : end if end >= 0 else len(data)]
    if holding is None:
        raise ValueError(
            f"{path} holds no document; expected a page that `unified write` or `unified export` "
            "made"
        )

    def read(name: str) -> bytes:
        address = addresses.get(name)
        if address is None:
            raise ValueError(f"the page has no medium {quoted(name)}; it was changed or cut off")
        kind = _ADDRESS.match(address)
        if kind is None:
            raise ValueError(f"medium {quoted(name)} does not lie in the page as base64 data")
        try:
            return base64.b64decode(address[kind.end() :], validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"medium {quoted(name)} is not base64: {error}") from None

    return let_go(holding, str(path), read)


def _of_book(data: bytes, path: Path) -> StoredArticle:
    folder = HOLDING.rpartition("/")[0]
    with BoundedZip(data, str(path)) as archive:
        if HOLDING not in archive.names:
            raise ValueError(
                f"{path} holds no document; expected a book that `unified write` or "
                "`unified export` made"
            )
        holding = archive.read(HOLDING, MAX_HOLDING)
        return let_go(holding, str(path), lambda name: archive.read(f"{folder}/{name}"))

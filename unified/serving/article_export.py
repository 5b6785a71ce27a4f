"""POST /v1/articles/{id}/export: an article as a file."""

from __future__ import annotations

import asyncio
import json
import re
from urllib.parse import quote

from starlette.responses import Response

from unified.serving.api_errors import ApiError, mistake
from unified.serving.article_record import ArticleRecord
from unified.serving.inline_document import inline_json
from unified_base.text import quoted
from unified_data.document import Document

__all__ = ["FORMATS", "exported"]

_TYPES = {"html": "text/html; charset=utf-8", "json": "application/json"}
FORMATS = tuple(_TYPES)
_MOST_NAME = 60


async def exported(document: Document, record: ArticleRecord, model: str, format: str) -> Response:
    """A file of an article's document. Raises ApiError for a format that there is not, and what
    cannot be written as such a file."""
    if format not in _TYPES:
        raise ApiError(
            400, f"format is {quoted(format)}, expected one of {', '.join(FORMATS)}",
            param="format",
        )  # fmt: skip
    details = {"Prompt": record.prompt.strip(), "Model": model, "Seed": str(record.seed)}
    try:
        data = await asyncio.to_thread(_file, document, details, format)
    except ValueError as error:
        raise mistake(error, "format") from None
    name = re.sub(r"[^\w-]+", "-", record.title).strip("-")[:_MOST_NAME] or "article"
    plain = name if name.isascii() else "article"
    disposition = (
        f"attachment; filename=\"{plain}.{format}\"; filename*=UTF-8''{quote(name)}.{format}"
    )
    return Response(data, media_type=_TYPES[format], headers={"content-disposition": disposition})


def _file(document: Document, details: dict[str, str], format: str) -> bytes:
    """The bytes of a file: what `unified.articles` writes."""
    if format == "html":
        from unified.articles.html import render_page

        return render_page(document, details).encode("utf-8")
    return json.dumps(inline_json(document), ensure_ascii=False, indent=1).encode("utf-8")

"""POST /v1/articles/{id}/export: an article as a file, written as the command line writes it."""

from __future__ import annotations

import asyncio
import io
import json
import re
import tempfile
import zipfile
from pathlib import Path
from urllib.parse import quote

from starlette.responses import Response

from unified.articles.outputs import ARTICLE_FORMATS, save_article
from unified.serving.api_errors import ApiError, mistake
from unified.serving.article_record import ArticleRecord
from unified_base.text import quoted
from unified_data.document import Document

__all__ = ["FORMATS", "exported"]

FORMATS = tuple(extension.removeprefix(".") for extension in ARTICLE_FORMATS)
_TYPES = {
    "html": "text/html; charset=utf-8",
    "epub": "application/epub+zip",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "pdf": "application/pdf",
    "zip": "application/zip",
}
_MOST_NAME = 60


async def exported(document: Document, record: ArticleRecord, model: str, format: str) -> Response:
    """A file of an article; several files, as those of Markdown with its media, in a ZIP.

    Raises ApiError for a format that there is not, and what cannot be written as such a file.
    """
    if format not in FORMATS:
        raise ApiError(
            400, f"format is {quoted(format)}, expected one of {', '.join(FORMATS)}",
            param="format",
        )  # fmt: skip
    details = {"Prompt": record.prompt.strip(), "Model": model, "Seed": str(record.seed)}
    name = re.sub(r"[^\w-]+", "-", record.title).strip("-")[:_MOST_NAME] or "article"
    try:
        data, ending, warnings = await asyncio.to_thread(_file, document, details, name, format)
    except ValueError as error:
        raise mistake(error, "format") from None
    plain = f"{name if name.isascii() else 'article'}.{ending}"
    disposition = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(f'{name}.{ending}')}"
    headers = {"content-disposition": disposition}
    if warnings:
        headers["x-unified-warnings"] = json.dumps(warnings)
    return Response(data, media_type=_TYPES[ending], headers=headers)


def _file(
    document: Document, details: dict[str, str], name: str, format: str
) -> tuple[bytes, str, list[str]]:
    """(bytes, extension, what to tell the user) of the file."""
    with tempfile.TemporaryDirectory(prefix="unified-export-") as folder:
        path = Path(folder) / f"{name}.{format}"
        told = list(save_article(path, document, details))
        files = sorted(each for each in Path(folder).rglob("*") if each.is_file())
        if format not in ("md", "json"):
            return path.read_bytes(), format, told
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for each in files:
                archive.write(each, each.relative_to(folder).as_posix())
        return buffer.getvalue(), "zip", told

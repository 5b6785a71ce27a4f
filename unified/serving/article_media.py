"""Pictures and sounds of articles as browsers take them: PNG, WAV, and parts of both."""

from __future__ import annotations

import asyncio
import re

from starlette.requests import Request
from starlette.responses import Response

from unified.serving.api_errors import ApiError
from unified.serving.article_library import ArticleLibrary
from unified.serving.article_record import ArticleRecord, Row
from unified_base.images import decode_image, encode_png
from unified_base.sounds import decode_audio, encode_wav
from unified_base.text import quoted

__all__ = ["media_answer"]

_NAME = re.compile(r"(\d{1,6})\.(png|wav)")
_RANGE = re.compile(r"bytes=(\d{1,12})-(\d{0,12})")
_KINDS = {"png": "image", "wav": "audio"}
_TYPES = {"png": "image/png", "wav": "audio/wav"}
# An address with the name of its content holds that content for ever, for this user alone.
_FOREVER = "private, max-age=31536000, immutable"


async def media_answer(
    library: ArticleLibrary, record: ArticleRecord, name: str, request: Request
) -> Response:
    """The answer to a request for INDEX.png or INDEX.wav. Raises ApiError (404) where there is
    none."""
    row, ending = _row(record, name, request.query_params.get("alternative"))
    try:
        data = await asyncio.to_thread(_content, library, record.id, row, ending)
    except ValueError as error:
        raise ApiError(
            500, f"the article cannot be read: {error}", code="article_damaged"
        ) from None
    headers = {"accept-ranges": "bytes"}
    if request.query_params.get("v") == row["file"][:8]:
        headers["cache-control"] = _FOREVER
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is None:
        return Response(data, media_type=_TYPES[ending], headers=headers)
    first = int(match[1])
    last = min(int(match[2] or len(data)), len(data) - 1)
    if first > last:
        headers["content-range"] = f"bytes */{len(data)}"
        return Response(status_code=416, headers=headers)
    headers["content-range"] = f"bytes {first}-{last}/{len(data)}"
    return Response(data[first : last + 1], 206, headers, _TYPES[ending])


def _row(record: ArticleRecord, name: str, alternative: str | None) -> tuple[Row, str]:
    match = _NAME.fullmatch(name)
    version = record.version
    row: Row | None = None
    if match is not None and int(match[1]) < len(version.segments):
        row = version.segments[int(match[1])]
        if alternative is not None:
            others = version.alternatives.get(int(match[1]), ())
            known = alternative.isascii() and alternative.isdigit() and len(alternative) < 7
            row = others[int(alternative)] if known and int(alternative) < len(others) else None
    if match is None or row is None or row["type"] != _KINDS[match[2]]:
        raise ApiError(
            404, f"the article has no {quoted(name)}; its segments say what it has", param="name",
            code="media_not_found",
        )  # fmt: skip
    return row, match[2]


def _content(library: ArticleLibrary, id: str, row: Row, ending: str) -> bytes:
    data = library.media(id, row["file"])
    if row["file"].endswith(f".{ending}") and ending == "png":
        return data
    if ending == "png":
        return encode_png(decode_image(data, row["file"]))
    return encode_wav(*decode_audio(data, row["file"]))  # 16-bit, whatever is stored

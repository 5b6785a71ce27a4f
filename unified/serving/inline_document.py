"""Documents as one JSON value: "file" of a picture or a sound is a `data:` URL."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from unified.serving.api_errors import ApiError, mistake
from unified_data.document import Document, media_classes
from unified_data.segments import media_class

__all__ = ["document_of", "inline_json"]

_TYPES = {"png": "image/png", "flac": "audio/flac", "wav": "audio/wav"}
_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,", re.ASCII)
_LONGEST_HEAD = 200


def inline_json(document: Document) -> dict[str, Any]:
    """A document's JSON object with its media in it."""
    obj, media = document.to_parts("media")
    rows = []
    for row in obj["segments"]:
        if "file" in row:
            data = media[row["file"]]
            kind = _TYPES.get(row["file"].rpartition(".")[2], "application/octet-stream")
            row = {**row, "file": f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"}
        rows.append(row)
    return {"segments": rows}


def document_of(value: Any, param: str, most_segments: int) -> Document:
    """The document of such an object. Raises ApiError for anything else."""
    files: dict[str, bytes] = {}
    if not isinstance(value, dict) or not isinstance(value.get("segments"), list):
        raise ApiError(400, f"{param} is no document, expected {{'segments': [...]}}", param=param)
    if len(value["segments"]) > most_segments:
        raise ApiError(
            400, f"{param} has {len(value['segments']):,} segments, expected at most"
            f" {most_segments}", param=f"{param}.segments",
        )  # fmt: skip
    rows = []
    for index, row in enumerate(value["segments"]):
        kind = row.get("type") if isinstance(row, dict) else None
        if isinstance(kind, str) and kind in media_classes() and "file" in row:
            name = f"{index}.{media_class(kind).endings[0]}"
            files[name] = _bytes(row["file"], f"{param}.segments[{index}].file")
            row = {**row, "file": name}
        rows.append(row)
    try:
        return Document.from_parts({**value, "segments": rows}, lambda name: files[name])
    except ValueError as error:
        raise mistake(error, param) from None


def _bytes(url: Any, param: str) -> bytes:
    head = _DATA_URL.match(url[:_LONGEST_HEAD]) if isinstance(url, str) else None
    if head is None:
        raise ApiError(
            400, f"{param} is no data: URL in base64; this server fetches nothing", param=param
        )
    try:
        return base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, f"{param} is not base64, or is cut off", param=param) from None

"""Documents as one JSON value: media have "data", their file in base64, in place of "file"."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from unified.serving.api_errors import ApiError, mistake
from unified_data.document import Document, media_classes
from unified_data.segments import media_class

__all__ = ["document_of", "inline_json"]


def inline_json(document: Document) -> dict[str, Any]:
    """A document's JSON object with its media in it."""
    obj, media = document.to_parts("media")
    rows = []
    for row in obj["segments"]:
        if "file" in row:
            data = base64.b64encode(media[row.pop("file")]).decode("ascii")
            row = {"type": row.pop("type"), "data": data, **row}
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
        if isinstance(kind, str) and kind in media_classes():
            if "file" in row or "data" not in row:
                raise ApiError(
                    400, f"{param}.segments[{index}] has its {kind} not in 'data', in base64; this"
                    " server reads no files and fetches nothing",
                    param=f"{param}.segments[{index}]",
                )  # fmt: skip
            name = f"{index}.{media_class(kind).endings[0]}"
            files[name] = _bytes(row["data"], f"{param}.segments[{index}].data")
            row = {key: value for key, value in row.items() if key != "data"} | {"file": name}
        rows.append(row)
    try:
        return Document.from_parts({**value, "segments": rows}, lambda name: files[name])
    except ValueError as error:
        raise mistake(error, param) from None


def _bytes(text: Any, param: str) -> bytes:
    try:
        if not isinstance(text, str):
            raise ValueError
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, f"{param} is not base64, or is cut off", param=param) from None

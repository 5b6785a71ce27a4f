"""Documents of text, pictures and sound as one text, as lmms-eval's models answer.

    {"segments": [{"type": "text", "text": "# The fox"}, {"type": "image", "url": "fox.png"}]}

Its models that draw answer with {"text": ..., "images": [...]}, which is read as well: `<image>` in
the text says where each of the pictures stands, and without that they stand behind it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unified_base.images import load_image
from unified_base.sounds import load_audio
from unified_base.structured import parse_json
from unified_base.text import quoted
from unified_data.document import Audio, Image, Segment, Text

__all__ = ["read_interleaved", "write_interleaved"]

_PLACE = "<image>"
_MOST = 10_000
"""Segments of an answer."""


def write_interleaved(parts: Sequence[Mapping[str, str]]) -> str:
    """The text of an answer. parts: {"type": "text", "text": ...}, or image or audio with url."""
    return json.dumps({"segments": list(parts)}, ensure_ascii=False)


def read_interleaved(answer: str, folder: Path | None = None) -> list[Segment]:
    """The segments of an answer, its media read from their files; what is no JSON is one text.

    folder: what paths that are not absolute are relative to; None: the working directory.

    Raises ValueError for JSON of another form, and for media that cannot be read.
    """
    if not answer.lstrip().startswith("{"):
        return [Text(answer)] if answer else []
    value = parse_json(answer, "the answer")
    if not isinstance(value, dict):
        raise ValueError(f"the answer holds {type(value).__name__}, expected an object")
    parts = value.get("segments")
    if parts is None:
        parts = _placed(value)
    if not isinstance(parts, list) or len(parts) > _MOST:
        raise ValueError(f"segments are {quoted(parts)}, expected a list of at most {_MOST:,}")
    segments = [_segment(part, folder or Path()) for part in parts]
    return [segment for segment in segments if segment is not None]


def _placed(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Segments of a text with places for its pictures."""
    text, images = value.get("text"), value.get("images")
    if not isinstance(text, str) or not isinstance(images, list):
        raise ValueError("the answer has no segments, and no text with images")
    pieces = text.split(_PLACE)
    if len(pieces) > 1 and len(pieces) - 1 != len(images):
        raise ValueError(f"the text has {len(pieces) - 1} times {_PLACE} for {len(images)} images")
    parts: list[dict[str, Any]] = []
    pictures = iter(images)
    for at, piece in enumerate(pieces):
        if at:
            parts.append({"type": "image", "url": next(pictures)})
        parts.append({"type": "text", "text": piece})
    return [*parts, *({"type": "image", "url": path} for path in pictures)]


def _segment(part: Any, folder: Path) -> Segment | None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return Text(part["text"]) if part["text"] else None
    url = part.get("url") if isinstance(part, dict) else None
    if kind == "image" and isinstance(url, str):
        return Image(load_image(folder / url))
    if kind == "audio" and isinstance(url, str):
        return Audio(*load_audio(folder / url))
    raise ValueError(f"a segment is {quoted(part)}, expected text, image or audio with its url")

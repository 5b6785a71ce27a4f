"""What sampling tells, as JSON: for commands that follow a server as they follow the engine.

What only decoding needs (chunks of sound, codes of other modalities) is not sent.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from unified.engine.events import (
    AudioBegun,
    AudioDone,
    AudioFrame,
    Dropped,
    Event,
    ImageBegun,
    ImageDone,
    ImageRow,
    TextCut,
    TextPiece,
)
from unified_base.images import decode_image, encode_png
from unified_data.document import Audio, Image

__all__ = ["event_of", "event_to_json"]


def event_to_json(event: Event, pixels: np.ndarray | None = None) -> dict[str, Any] | None:
    """An event as JSON; None: it is not sent.

    pixels: uint8 (H, W, 3) of the picture so far, of an `ImageRow` that is to be looked at.
    """
    kind = {"type": type(event).__name__, "row": event.row}
    match event:
        case TextPiece():
            return {**kind, "text": event.text}
        case ImageBegun():
            return {**kind, "height": event.height, "width": event.width}
        case ImageRow():
            seen = {} if pixels is None else {"png": _base64(encode_png(pixels))}
            return {**kind, "y": event.y, "codes": event.codes.tolist(), **seen}
        case ImageDone():
            return {**kind, "png": _base64(encode_png(event.image.pixels))}
        case AudioBegun():
            return kind
        case AudioFrame():
            return {**kind, "codes": event.codes.tolist(), "seconds": event.seconds}
        case AudioDone():
            ending, data = event.audio.to_file()
            return {**kind, "file": ending, "data": _base64(data)}
        case Dropped():
            return {**kind, "reason": event.reason}
        case TextCut():
            return {**kind, "index": event.index, "reason": event.reason, "ids": event.ids}
    return None


def event_of(value: dict[str, Any]) -> Event:
    """The event of such JSON; the codes of rows and frames are those of the server.

    An `ImageRow` without a picture must not be looked at. Raises ValueError, KeyError or TypeError
    for anything else.
    """
    row = value["row"]
    match value["type"]:
        case "TextPiece":
            return TextPiece(row, value["text"])
        case "ImageBegun":
            return ImageBegun(row, value["height"], value["width"])
        case "ImageRow":
            return ImageRow(
                row, value["y"], np.asarray(value["codes"], np.int64), lambda: _pixels(value)
            )
        case "ImageDone":
            return ImageDone(row, Image(_pixels(value)))
        case "AudioBegun":
            return AudioBegun(row)
        case "AudioFrame":
            return AudioFrame(row, np.asarray(value["codes"], np.int64), value["seconds"])
        case "AudioDone":
            data = base64.b64decode(value["data"], validate=True)
            return AudioDone(row, Audio.from_file(data, f"sound.{value['file']}", None, 1.0))
        case "Dropped":
            return Dropped(row, value["reason"])
        case "TextCut":
            return TextCut(row, value["index"], value["reason"], value["ids"])
    raise ValueError(f"there is no event {value['type']!r}")


def _pixels(value: dict[str, Any]) -> np.ndarray:
    return decode_image(base64.b64decode(value["png"], validate=True), "of the server")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")

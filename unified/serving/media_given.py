"""Pictures and sounds of clients: from `data:` URLs, base64 and files. Nothing is fetched."""

from __future__ import annotations

import base64
import binascii
import re

import numpy as np

from unified.serving.api_errors import ApiError, mistake
from unified.serving.server_limits import ServerLimits
from unified_base.images import decode_image
from unified_base.sounds import decode_audio
from unified_base.text import quoted
from unified_data.document import Audio

__all__ = ["picture_of", "sound_of", "sound_of_file"]

_DATA_URL = re.compile(r"data:(?:[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[\w.+-]*)*;base64,", re.ASCII)
_LONGEST_HEAD = 200


def picture_of(url: str, param: str, limits: ServerLimits) -> np.ndarray:
    """The picture of a `data:` URL, uint8 (H, W, 3).

    Raises ApiError for any other URL, base64 that is none, and no readable picture.
    """
    head = _DATA_URL.match(url[:_LONGEST_HEAD])
    if head is None:
        raise ApiError(
            400,
            f"{param} is {quoted(url)}, expected data:image/...;base64,...; this server fetches"
            " nothing",
            param=param,
        )
    data = _bytes(url[head.end() :], param)
    try:
        return decode_image(data, "in the request", limits.max_pixels)
    except ValueError as error:
        raise mistake(error, param) from None


def sound_of(data: str, param: str, limits: ServerLimits) -> tuple[Audio, list[str]]:
    """The sound in base64, and warnings of what was changed. Its content says what file it is."""
    return sound_of_file(_bytes(data, param), param, limits)


def sound_of_file(data: bytes, param: str, limits: ServerLimits) -> tuple[Audio, list[str]]:
    """The sound of a file's bytes, and warnings of what was changed, as `load_audio` has it.

    Raises ApiError for what is no readable sound, or too long.
    """
    try:
        waveform, rate = decode_audio(data, "in the request", limits.max_sound_seconds)
    except ValueError as error:
        raise mistake(error, param) from None
    peak = float(np.max(np.abs(waveform)))
    if peak <= 1.0:
        return Audio(waveform, rate), []
    return Audio(waveform / np.float32(peak), rate), [f"the sound peaks at {peak:.3f}; scaled to 1"]


def _bytes(text: str, param: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, f"{param} is not base64, or is cut off", param=param) from None
    if not data:
        raise ApiError(400, f"{param} is empty", param=param)
    return data

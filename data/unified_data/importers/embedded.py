"""Media that a record holds itself, instead of naming a file: bytes, or a data: address."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from unified_base.text import quoted

__all__ = ["MAX_MEDIA", "Embedded", "Name", "data_address", "media_name", "shown_name"]

MAX_MEDIA = 256 << 20
"""Bytes of one picture or sound as it is stored in the source."""
_DATA = re.compile(r"data:[A-Za-z0-9.+/-]*(;[A-Za-z0-9=.+-]*)*;base64,", re.IGNORECASE)


@dataclass(frozen=True)
class Embedded:
    """A medium's bytes as a file would hold them. label: what an error calls it."""

    data: bytes
    label: str

    def __repr__(self) -> str:
        return self.label


Name = str | Embedded
"""Of a medium: a file's name, or the medium itself."""


def media_name(text: str) -> Name:
    """A name as a record has it; the medium itself where that is a data: address."""
    return data_address(text) if text[:5].lower() == "data:" else text


def data_address(text: str) -> Embedded:
    """The medium in a data: address (RFC 2397), base64 alone. Raises ValueError for any other."""
    head = _DATA.match(text[:300])
    if head is None:
        raise ValueError(f"{quoted(text)} is no data: address of base64")
    if len(text) > MAX_MEDIA // 3 * 4:
        raise ValueError(f"{quoted(text[:40])} holds more than {MAX_MEDIA:,} bytes")
    try:
        data = base64.b64decode(text[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{quoted(text[:40])} is not base64") from None
    return Embedded(data, quoted(text[: head.end()]))


def shown_name(name: object) -> str:
    """A name from a source, as an error may quote it."""
    return name.label if isinstance(name, Embedded) else quoted(name, 200)

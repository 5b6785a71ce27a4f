"""JPEG: its markers are walked here, so that the work of decoding is bounded and tags are not met.

libjpeg fills up a file that is cut off, and decodes each of the thousands of scans that a
progressive file may have over the whole picture. Markers: ITU-T T.81, annex B.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from unified_base.image_size import check_pixels

__all__ = ["Jpeg", "walk_jpeg"]

MAX_SCANS = 200
MAX_SCANNED = 768_000_000
"""Scans times pixels, some seconds of decoding, of files with more scans than encoders write."""
_USUAL_SCANS = 25

_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
"""Of baseline, extended and progressive JPEG, the last two with arithmetic coding."""
_UNREAD = (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF, 0xDC)
"""Of lossless and hierarchical JPEG, and a height that comes late."""
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


@dataclass(frozen=True)
class Jpeg:
    """width, height; plain: the file without tags and profiles; exif: of its first EXIF."""

    width: int
    height: int
    plain: bytes
    exif: bytes


def walk_jpeg(data: bytes, max_pixels: int) -> Jpeg:
    """The parts of a JPEG file; of several pictures in one file, the first.

    Raises ValueError, to be put behind the picture's name, where it is cut off, of an unusual kind,
    or would take too much work.
    """
    segments, exif = [data[:2]], b""
    frame: tuple[int, int] | None = None
    scans, at = 0, 2
    while True:
        match = _MARKER.search(data, at)
        if match is None:
            raise ValueError("is cut off: its end is missing")
        if scans:
            segments.append(data[at : match.start()])
        marker, at = match[0][1], match.end()
        if marker == 0xD9:
            break
        if marker == 0x01:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        segment = data[at : at + length]
        if length < 2 or len(segment) < length:
            raise ValueError("is cut off or damaged in one of its segments")
        at += length
        if marker in _UNREAD or marker == 0xDC:
            raise ValueError(f"is a lossless or hierarchical JPEG (0xff{marker:02x}), not read")
        if marker in _FRAMES:
            if frame is not None:
                raise ValueError("is damaged: it has two frame headers")
            frame = _size(segment)
            check_pixels(*frame, max_pixels)
        if marker == 0xDA:
            scans += 1
            _check_scans(scans, frame)
        if marker == 0xE1 and segment[2:6] == b"Exif" and not exif:
            exif = segment[2:]
        # Of the application's segments only those that tell how colours are stored.
        tag = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not tag or (marker, segment[2:7]) in ((0xE0, b"JFIF\0"), (0xEE, b"Adobe")):
            segments.append(match[0] + segment)
    if frame is None or not scans:
        raise ValueError("is damaged: it has no frame or no scan")
    return Jpeg(*frame, b"".join(segments) + b"\xff\xd9", exif)


def _size(segment: bytes) -> tuple[int, int]:
    if len(segment) < 8:
        raise ValueError("is damaged: its frame header is too short")
    if segment[2] != 8:
        raise ValueError(f"is a JPEG of {segment[2]} bits a channel, expected 8")
    height, width = (int.from_bytes(segment[i : i + 2], "big") for i in (3, 5))
    return width, height


def _check_scans(scans: int, frame: tuple[int, int] | None) -> None:
    if frame is None:
        raise ValueError("is damaged: it has a scan before its frame header")
    if scans > MAX_SCANS or (scans > _USUAL_SCANS and scans * frame[0] * frame[1] > MAX_SCANNED):
        raise ValueError(
            f"has more than {scans - 1} scans over {frame[0]}x{frame[1]} pixels, which is too much "
            "work; save it as baseline JPEG"
        )

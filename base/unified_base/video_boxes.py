"""MP4 and QuickTime: what a file's boxes claim, compared with its size before a library reads it.

A table of samples can claim 10^9 frames in a few bytes, for which libraries allocate an index
before they look at the first frame. Boxes: ISO/IEC 14496-12, 4.2, 8.7 and 8.8.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["check_boxes"]

_HOLDERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"edts", b"mvex")
_MOST_BOXES = 200_000
_MOST_SAMPLES = 1 << 26  # of sound, which may have one for each of its samples


class _Box(NamedTuple):
    name: bytes
    start: int  # of its content
    stop: int


def check_boxes(data: bytes, max_frames: int, max_side: int) -> None:
    """Raises ValueError, to be put behind the video's name, for counts that the file cannot hold,
    more than max_frames samples of a track of pictures, or sides of more than max_side pixels."""
    for number, box in enumerate(_walk(data, 0, len(data), 0)):
        if number > _MOST_BOXES:
            raise ValueError(f"has more than {_MOST_BOXES:,} boxes")
        if box.name == b"cmov":
            raise ValueError("has a compressed header (cmov), which is not read; write it anew")
        if box.name == b"trak":
            _check_track(data, box, max_frames)
        elif box.name == b"tkhd":
            _check_sides(data, box, max_side)
        elif box.name == b"trun":
            _check_count(_number(data, box, 4), len(data), max_frames, "frames in a fragment")


def _check_track(data: bytes, track: _Box, max_frames: int) -> None:
    boxes = list(_walk(data, track.start, track.stop, 1))
    handlers = [data[box.start + 8 : box.start + 12] for box in boxes if box.name == b"hdlr"]
    most = max_frames if b"vide" in handlers else _MOST_SAMPLES
    for box in boxes:
        if box.name in (b"stsz", b"stz2"):
            _check_count(_number(data, box, 8), len(data), most, "frames")
        elif box.name in (b"stts", b"ctts"):
            entries = _number(data, box, 4)
            if entries * 8 > box.stop - box.start - 8:
                raise ValueError(f"is damaged: its table of {entries:,} times is cut off")
            end = box.start + 8 + 8 * entries
            total = sum(count for count, _ in struct.iter_unpack(">II", data[box.start + 8 : end]))
            _check_count(total, len(data), most, "frames with times")


def _check_sides(data: bytes, box: _Box, max_side: int) -> None:
    width, height = (v >> 16 for v in struct.unpack(">II", data[box.stop - 8 : box.stop]))
    if max(width, height) > max_side:
        raise ValueError(
            f"says {width:,}x{height:,} pixels, expected sides of {max_side:,} at most"
        )


def _check_count(count: int, size: int, most: int, what: str) -> None:
    if count > most:
        raise ValueError(f"says it has {count:,} {what}, expected {most:,} at most")
    if count > size:  # a frame takes a byte at least
        raise ValueError(f"is damaged: it says it has {count:,} {what}, and has {size:,} bytes")


def _number(data: bytes, box: _Box, offset: int) -> int:
    if box.start + offset + 4 > box.stop:
        raise ValueError(f"is damaged: its box {box.name.decode('latin-1')!r} is cut off")
    return int.from_bytes(data[box.start + offset : box.start + offset + 4], "big")


def _walk(data: bytes, start: int, stop: int, depth: int) -> Iterator[_Box]:
    """The boxes of a range, and those within; boxes that reach beyond it end the walk."""
    at = start
    while at + 8 <= stop and depth < 12:
        size, name = struct.unpack(">I4s", data[at : at + 8])
        head = 8
        if size == 1 and at + 16 <= stop:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:  # up to the end
            size = stop - at
        if size < head:
            raise ValueError(f"is damaged: its box at byte {at:,} has {size} bytes")
        if at + size > stop and name != b"mdat":
            raise ValueError(f"is cut off: its box {name.decode('latin-1')!r} ends behind the file")
        box = _Box(name, at + head, min(at + size, stop))
        if name == b"tkhd" and box.stop - box.start < 84:
            raise ValueError("is damaged: its box 'tkhd' is cut off")
        yield box
        if name in _HOLDERS:
            yield from _walk(data, box.start, box.stop, depth + 1)
        at += size

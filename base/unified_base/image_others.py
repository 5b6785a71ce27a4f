"""GIF, WebP and BMP: walked to their end, and cut down to the first picture, before Pillow decodes.

Layouts: GIF89a; https://developers.google.com/speed/webp/docs/riff_container (RFC 9649);
Microsoft's BITMAPFILEHEADER and BITMAPINFOHEADER.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["Still", "walk_bmp", "walk_gif", "walk_webp"]


@dataclass(frozen=True)
class Still:
    """width, height; plain: a file of one picture, without tags and profiles; exif: its EXIF."""

    width: int
    height: int
    plain: bytes
    exif: bytes = b""


def walk_gif(data: bytes) -> Still:
    """The first picture of a GIF file. Raises ValueError, to be put behind the picture's name."""
    if len(data) < 13:
        raise ValueError("is cut off in its header")
    width, height, flags = struct.unpack("<HHB", data[6:11])
    at = 13 + _colours(flags)
    pieces, control, pictures = [data[:at]], b"", 0
    while True:
        mark = data[at : at + 1]
        if mark == b";":
            break
        start = at
        if mark == b"!":
            at = _blocks(data, at + 2)
            if data[start + 1 : start + 2] == b"\xf9":
                control = data[start:at]
        elif mark == b"," and len(data) >= at + 10:
            left, top, across, down, local = struct.unpack("<HHHHB", data[at + 1 : at + 10])
            at = _blocks(data, at + 10 + _colours(local) + 1)
            if not pictures:
                if left + across > width or top + down > height:
                    raise ValueError(
                        f"is damaged: its first picture does not lie in its {width}x{height} pixels"
                    )
                pieces += [control, data[start:at]]
            pictures += 1
        else:
            raise ValueError(f"is cut off or damaged at byte {at}")
    if not pictures:
        raise ValueError("is damaged: it holds no picture")
    return Still(width, height, b"".join(pieces) + b";")


def _colours(flags: int) -> int:
    """Bytes of a colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _blocks(data: bytes, at: int) -> int:
    """Where what follows a row of sub-blocks begins."""
    while at < len(data):
        size = data[at]
        at += 1 + size
        if not size:
            return at
    raise ValueError("is cut off: its end is missing")


def walk_webp(data: bytes) -> Still:
    """The picture of a WebP file, or the first of an animation; errors as `walk_gif`."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise ValueError(f"is cut off: {len(data):,} of its {end:,} bytes are there")
    canvas: tuple[int, int] | None = None
    chunks: list[bytes] = []
    exif, frames, at = b"", 0, 12
    while at < end:
        head = data[at : at + 8]
        size = int.from_bytes(head[4:], "little")
        after = at + 8 + size + size % 2
        if len(head) < 8 or at + 8 + size > end:
            raise ValueError(f"is cut off or damaged in the chunk at byte {at}")
        name, body = head[:4], data[at + 8 : at + 8 + size]
        chunk = data[at:after].ljust(8 + size + size % 2, b"\0")
        if name == b"VP8X":
            if canvas is not None or size < 10:
                raise ValueError("is damaged: its header is too short or there twice")
            canvas = tuple(int.from_bytes(body[i : i + 3], "little") + 1 for i in (4, 7))  # type: ignore[assignment]
            # Of what the file has, the flags keep that it has transparency or is an animation.
            chunks.append(chunk[:8] + bytes([body[0] & 0x12]) + chunk[9:])
        elif name == b"ANMF":
            frames += 1
            if frames == 1:
                chunks.append(chunk)
        elif name in (b"ANIM", b"ALPH", b"VP8 ", b"VP8L"):
            chunks.append(chunk)
            if name[:3] == b"VP8" and canvas is None:
                canvas = _webp_size(body, name)
        elif name == b"EXIF":
            exif = exif or body
        at = after
    if canvas is None:
        raise ValueError("is damaged: it holds no picture")
    plain = b"WEBP" + b"".join(chunks)
    return Still(*canvas, b"RIFF" + struct.pack("<I", len(plain)) + plain, exif)


def _webp_size(body: bytes, name: bytes) -> tuple[int, int]:
    if name == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", body[6:10].ljust(4, b"\0"))
    return width & 0x3FFF, height & 0x3FFF


def walk_bmp(data: bytes) -> Still:
    """The picture of a BMP file; errors as `walk_gif`."""
    size = int.from_bytes(data[14:18], "little")
    start = int.from_bytes(data[10:14], "little")
    if size == 12 and len(data) >= 26:
        width, height, planes, bits = struct.unpack("<HHHH", data[18:26])
        coding = 0
    elif 40 <= size <= 1024 and len(data) >= 54:
        width, height, planes, bits, coding = struct.unpack("<iiHHI", data[18:34])
    else:
        raise ValueError("is cut off or damaged in its header")
    height = abs(height)
    if width <= 0 or not height or planes != 1 or bits not in (1, 2, 4, 8, 16, 24, 32):
        raise ValueError(f"is damaged: it has {width}x{height} pixels of {bits} bits")
    needed = -(-width * bits // 32) * 4 * height
    if coding in (0, 3, 6) and not 14 + size <= start <= len(data) - needed:
        raise ValueError(f"is cut off or damaged: its pixels take {needed:,} bytes from {start:,}")
    return Still(width, height, data)

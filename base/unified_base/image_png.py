"""PNG: chunks and their checksums are walked here; Pillow decodes what is left of them.

Pillow passes over the checksums of chunks that it does not need, limits text by ending the reading,
and compares transparent colours of 16 bits, or of less than 8, as if they had 8. Chunks:
https://www.w3.org/TR/png-3/
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage

from unified_base.image_size import check_pixels

__all__ = ["PNG", "Png", "clear_pixels", "walk_png"]

PNG = b"\x89PNG\r\n\x1a\n"
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


@dataclass(frozen=True)
class Png:
    """A PNG's parts: width, height; depth: bits a channel; colour: the type in its header;
    plain: the file with only what pixels need; content: its IDAT chunks together; clear: the
    transparent colour's values, for grey and RGB; exif: of its eXIf."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool
    plain: bytes
    content: bytes
    clear: tuple[int, ...] | None
    exif: bytes


def walk_png(data: bytes, max_pixels: int) -> Png:
    """The parts of a PNG or APNG file; of an animation, its still picture.

    Raises ValueError, to be put behind the picture's name, where it is cut off, a checksum is
    wrong, its chunks are not in order, or it has too many pixels.
    """
    content: list[bytes] = []
    others: dict[bytes, bytes] = {}
    at, last = len(PNG), b""
    while last != b"IEND":
        head = data[at : at + 8]
        length = int.from_bytes(head[:4], "big")
        end = at + 12 + length
        if len(head) < 8 or end > len(data):
            raise ValueError("is cut off: its end is missing")
        name = head[4:]
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ValueError(f"is damaged: the checksum of its chunk at byte {at} is wrong")
        if (name == b"IHDR") != (at == len(PNG)):
            raise ValueError("is damaged: its header is not its first chunk")
        if name == b"IHDR" and length >= 8:
            check_pixels(*struct.unpack(">II", data[at + 8 : at + 16]), max_pixels)
        if name == b"IDAT":
            if content and last != b"IDAT":
                raise ValueError("is damaged: its pixels do not lie together")
            content.append(data[at + 8 : end - 4])
        elif name in (b"IHDR", b"PLTE", b"tRNS", b"eXIf"):
            if name in others:
                raise ValueError(f"is damaged: its chunk {name.decode()} is there twice")
            others[name] = data[at + 8 : end - 4]
        elif not name[0] & 0x20 and name != b"IEND":
            raise ValueError(f"has the unknown critical chunk {name!r}")
        at, last = end, name
    return _parts(others, b"".join(content))


def _parts(others: dict[bytes, bytes], content: bytes) -> Png:
    header = others.get(b"IHDR", b"")
    if len(header) != 13 or not content:
        raise ValueError("is damaged: it has no header or no pixels")
    width, height, depth, colour, compression, filtering, interlace = struct.unpack(
        ">IIBBBBB", header
    )
    if depth not in _DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise ValueError(f"is damaged: its header has colour type {colour} of {depth} bits")
    palette, clear = others.get(b"PLTE", b""), others.get(b"tRNS")
    if colour == 3 and (not palette or len(palette) % 3 or len(palette) > 768):
        raise ValueError("is damaged: it has no usable palette")
    values = {0: 1, 2: 3}.get(colour, 0)
    if clear is not None and values and len(clear) != 2 * values:
        raise ValueError("is damaged: its transparent colour has another number of values")
    chunks = [(b"IHDR", header)]
    if colour == 3:
        chunks.append((b"PLTE", palette))
        if clear:
            chunks.append((b"tRNS", clear))
    chunks += [(b"IDAT", content), (b"IEND", b"")]
    plain = PNG + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    return Png(
        width,
        height,
        depth,
        colour,
        interlace == 1,
        plain,
        content,
        struct.unpack(f">{values}H", clear) if clear and values else None,
        others.get(b"eXIf", b""),
    )


def clear_pixels(png: Png, picture: PillowImage.Image) -> np.ndarray | None:
    """bool (H, W): where a grey or RGB picture has its transparent colour; None where it has none.

    picture: as Pillow decodes `png.plain`.
    """
    if png.clear is None:
        return None
    if png.depth < 16:
        top = (1 << png.depth) - 1
        # Bits beyond the depth count for nothing; Pillow spreads 1, 2 and 4 bits over 8.
        wanted = [(value & top) * 255 // top for value in png.clear]
        pixels = np.asarray(picture.convert("L") if picture.mode == "1" else picture)
        pixels = pixels.reshape(png.height, png.width, -1)
        return np.logical_and.reduce([pixels[:, :, i] == v for i, v in enumerate(wanted)])
    if png.colour == 0:
        return np.asarray(picture) == png.clear[0]
    # Of 16 bits a channel Pillow keeps the high byte; told that bytes lie the other way, the low.
    low = PillowImage.frombytes(
        "RGB", (png.width, png.height), png.content, "zip", "RGB;16L", int(png.interlaced)
    )
    matches = np.ones((png.height, png.width), bool)
    for half, shift in ((picture, 8), (low, 0)):
        for channel, value in enumerate(png.clear):
            matches &= np.asarray(half.getchannel(channel)) == (value >> shift & 0xFF)
    return matches

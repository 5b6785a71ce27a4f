"""Animated PNG: frames and their exact times in one file without loss, which browsers play.

https://www.w3.org/TR/png-3/#apng-frame-based-animation. Every frame is whole: none is left out for
being like the one before it. An APNG has times in fractions of 16 bits; the exact ones, float64
seconds, stand in a private chunk `tiMs` beside them. Files of others are read by Pillow (`videos`).

`T` frames, `H W` pixels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from unified_base.image_png import PNG
from unified_base.images import decode_image, encode_png

__all__ = ["decode_apng", "encode_apng", "has_times"]

_TIMES = b"tiMs"


def encode_apng(frames: np.ndarray, times: np.ndarray) -> bytes:
    """The file of frames, uint8 (T, H, W, 3), that begin at `times`, float64 seconds (T,)."""
    height, width = frames.shape[1:3]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [PNG, _chunk(b"IHDR", header), _chunk(b"acTL", struct.pack(">II", len(frames), 0))]
    parts.append(_chunk(_TIMES, np.asarray(times, ">f8").tobytes()))
    number = 0
    for index, frame in enumerate(frames):
        control = (number, width, height, 0, 0, *_delay(times, index), 0, 0)
        parts.append(_chunk(b"fcTL", struct.pack(">IIIIIHHBB", *control)))
        number += 1
        for name, content in _chunks(encode_png(frame)):
            if name != b"IDAT":
                continue
            if index:  # the first frame is the picture that other readers see
                content = struct.pack(">I", number) + content
                number += 1
            parts.append(_chunk(b"fdAT" if index else b"IDAT", content))
    parts.append(_chunk(b"IEND", b""))
    return b"".join(parts)


def has_times(data: bytes) -> bool:
    """Whether a file is one of `encode_apng`."""
    return data[:8] == PNG and any(name == _TIMES for name, _ in _chunks(data))


def decode_apng(data: bytes, max_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """(frames, times) of a file of `encode_apng`.

    Raises ValueError, to be put behind the video's name, where it is damaged or its frames would
    take more than max_bytes, seen before one of them is decoded.
    """
    times = np.zeros(0)
    width = height = 0
    contents: list[list[bytes]] = []
    for name, content in _chunks(data):
        if name == b"IHDR":
            width, height = struct.unpack(">II", content[:8])
        elif name == _TIMES:
            times = np.frombuffer(content[: len(content) // 8 * 8], ">f8").astype(np.float64)
        elif name == b"fcTL":
            contents.append([])
        elif name in (b"IDAT", b"fdAT") and contents:
            contents[-1].append(content if name == b"IDAT" else content[4:])
    if len(times) != len(contents) or not contents:
        raise ValueError(f"is damaged: it has {len(contents):,} frames and {len(times):,} times")
    size = len(contents) * height * width * 3
    if size > max_bytes:
        raise ValueError(f"would take {size:,} bytes decoded, expected {max_bytes:,} at most")
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    frames = np.empty((len(contents), height, width, 3), np.uint8)
    for index, parts in enumerate(contents):
        still = [PNG, _chunk(b"IHDR", header), _chunk(b"IDAT", b"".join(parts))]
        frames[index] = decode_image(b"".join([*still, _chunk(b"IEND", b"")]), f"of frame {index}")
    return frames, times


def _delay(times: np.ndarray, index: int) -> tuple[int, int]:
    """How long a frame is shown, as a fraction of 16 bits; the last as long as the one before."""
    steps = np.diff(times)
    step = float(steps[min(index, len(steps) - 1)]) if len(steps) else 0.1
    thousandths = round(step * 1000)
    return (thousandths, 1000) if thousandths < 65_536 else (min(round(step), 65_535), 1)


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, content) of each chunk. Raises ValueError where one is cut off or damaged."""
    at = len(PNG)
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 12 + length
        if end > len(data):
            raise ValueError("is cut off: its end is missing")
        name = data[at + 4 : at + 8]
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ValueError(f"is damaged: the checksum of its chunk at byte {at} is wrong")
        yield name, data[at + 8 : end - 4]
        at = end

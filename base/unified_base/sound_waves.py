"""Uncompressed sounds: WAV (RF64, BWF), W64, AIFF, AU and CAF, their chunks walked here.

What a header claims is compared with the bytes that are there before anything is allocated.
Layouts: Microsoft's RIFF and WAVEFORMATEX, EBU Tech 3306 (RF64), Apple's AIFF-C and CAF
specifications, Sun's audio file format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from unified_base.sound_library import check_size, read_blocks
from unified_base.sound_mpeg import decode_mpeg

__all__ = ["decode_aiff", "decode_au", "decode_caf", "decode_wav"]

_STREAMED = 0x7FFF0000
"""Sizes from here on are what writers put that cannot go back and correct it: espeak-ng and SoX
0x7ffff000, others 0x7fffffff, 0x80000000 or 0xffffffff. No sound that is read is so large."""
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
"""Of a wave format that has a 16-bit number, after that number."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """How samples lie: kind "i", "u" (offset binary), "f", "ulaw" or "alaw", and their bytes."""

    kind: str
    width: int
    channels: int
    rate: int
    big: bool = False


def _samples(data: bytes, start: int, size: int, layout: _Layout, limit: float) -> np.ndarray:
    """float32 (channels, S) of bytes [start, start + size)."""
    frame = layout.width * layout.channels
    if layout.channels < 1 or size % frame:
        raise ValueError(
            f"is damaged: {size:,} bytes for {layout.channels} channels of {layout.width} bytes"
        )
    frames = size // frame
    check_size(frames, layout.channels, layout.rate, limit)
    raw = np.frombuffer(data, np.uint8, size, start)
    if layout.kind in ("ulaw", "alaw"):
        values = _law(layout.kind)[raw]
    elif layout.width == 3:
        wide = np.zeros((len(raw) // 3, 4), np.uint8)
        wide[:, 1:] = raw.reshape(-1, 3)[:, :: -1 if layout.big else 1]
        values = wide.view("<i4")[:, 0].astype(np.float32) * np.float32(2.0**-31)
    elif layout.kind == "f":
        typed = raw.view(f"{'>' if layout.big else '<'}f{layout.width}")
        with np.errstate(over="ignore"):  # infinite then, and refused for that
            values = typed.astype(np.float32)
    elif layout.kind == "u":
        values = (raw.astype(np.float32) - 128) * np.float32(1 / 128)
    else:
        typed = raw.view(f"{'>' if layout.big else '<'}i{layout.width}")
        values = typed.astype(np.float32) * np.float32(2.0 ** (1 - 8 * layout.width))
    return np.ascontiguousarray(values.reshape(frames, layout.channels).T)


@cache
def _law(kind: str) -> np.ndarray:
    """float32 (256,): the values of G.711's codes."""
    code = np.arange(256)
    if kind == "ulaw":
        code = ~code & 0xFF
        size = (((code & 15) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
        return np.where(code & 0x80, -size, size).astype(np.float32) / 32768
    code = code ^ 0x55
    exponent = code >> 4 & 7
    size = np.where(
        exponent == 0, ((code & 15) << 4) + 8, ((code & 15) << 4) + 0x108 << (exponent - 1).clip(0)
    )
    return np.where(code & 0x80, size, -size).astype(np.float32) / 32768


def decode_wav(data: bytes, max_seconds: float) -> tuple[np.ndarray, int]:
    """The waveform float32 (channels, S) and the rate in Hz of a WAV, RF64 or W64 file.

    A file whose data end before the size that its header gives is cut off; where that size is one
    that only streams claim (0 at the end of its RIFF, or from 0x7fff0000 on), all that follows is
    read. Compressed ones (ADPCM, GSM, MP3) are decoded by libsndfile.
    Raises ValueError, to be put behind the sound's name.
    """
    form = data[:4]
    big = form == b"RIFX"
    chunks: dict[bytes, tuple[int, int]] = {}
    large: int | None = None
    for name, start, size in _wide_chunks(data) if form == b"riff" else _chunks(data, 12, big):
        if name == b"ds64" and size >= 24:
            large = int.from_bytes(data[start + 8 : start + 16], "little")
        chunks.setdefault(name, (start, size))
        if name == b"data":
            break
    if b"fmt " not in chunks or b"data" not in chunks:
        raise ValueError("is cut off or damaged: it has no format or no data")
    start, size = chunks[b"data"]
    if large is not None and size == 0xFFFFFFFF:
        size = large or size
    there = len(data) - start
    riff = int.from_bytes(data[4:8], "big" if big else "little")
    if size == 0 and there and (riff <= start - 8 or riff >= _STREAMED):
        size = _STREAMED  # never closed
    streamed = size >= _STREAMED and size > there
    if size > there and not streamed:
        raise ValueError(f"is cut off: {there:,} of its {size:,} bytes of samples are there")
    if data[start + size + size % 2 :][:4] in (b"RIFF", b"RF64", b"RIFX"):
        raise ValueError("is joined from several WAV files; split it")
    return _wave_data(data, chunks, start, there if streamed else size, streamed, max_seconds)


def _wave_data(
    data: bytes,
    chunks: dict[bytes, tuple[int, int]],
    start: int,
    size: int,
    streamed: bool,
    max_seconds: float,
) -> tuple[np.ndarray, int]:
    big = data[:4] == b"RIFX"
    at, length = chunks[b"fmt "]
    layout = data[at : at + length]
    if len(layout) < 16:
        raise ValueError("is cut off or damaged: its format is too short")
    tag, channels, rate, _, frame, bits = struct.unpack(
        (">" if big else "<") + "HHIIHH", layout[:16]
    )
    if tag == 0xFFFE and len(layout) >= 40 and layout[26:40] == _GUID_TAIL:
        tag = int.from_bytes(layout[24:26], "little")
    check_size(1, channels, rate, max_seconds)
    kind = {1: "u" if bits <= 8 else "i", 3: "f", 6: "alaw", 7: "ulaw"}.get(tag)
    if kind is None and tag in (2, 0x11, 0x31) and not big:
        return _compressed(data, chunks, data[start : start + size], max_seconds)
    if tag == 0x55:
        return decode_mpeg(data[start : start + size], max_seconds)
    if kind is None:
        raise ValueError(f"is a WAV of format 0x{tag:04x}, which is not read; write it as PCM")
    width = -(-bits // 8)
    if width * channels != frame or width not in {"u": (1,), "i": (2, 3, 4), "f": (4, 8)}.get(
        kind, (1,)
    ):
        raise ValueError(
            f"is damaged: {frame} bytes for {channels} channels of {bits} bits in WAV format {tag}"
        )
    if streamed:
        size -= size % frame
    return _samples(data, start, size, _Layout(kind, width, channels, rate, big), max_seconds), rate


def _compressed(
    data: bytes, chunks: dict[bytes, tuple[int, int]], body: bytes, max_seconds: float
) -> tuple[np.ndarray, int]:
    """A WAV that libsndfile decodes, its header written anew. The last block is filled up, and its
    `fact` says how many samples are sound; one that leaves out whole blocks is not believed."""
    at, length = chunks[b"fmt "]
    layout = data[at : at + length].ljust(length + length % 2, b"\0")
    content = b"WAVEfmt " + struct.pack("<I", length) + layout
    content += b"data" + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    whole = b"RIFF" + struct.pack("<I", len(content)) + content
    samples, rate = read_blocks(whole, "float32", max_seconds)
    start, size = chunks.get(b"fact", (0, 0))
    claimed = int.from_bytes(data[start : start + 4], "little") if size >= 4 else 0
    if claimed > len(samples) and claimed < _STREAMED:
        raise ValueError(f"is cut off: {len(samples):,} of its {claimed:,} samples are there")
    block = int.from_bytes(layout[18:20], "little")
    if claimed <= len(samples) - block:
        claimed = len(samples)
    return np.ascontiguousarray(samples[:claimed].T), rate


def _chunks(data: bytes, at: int, big: bool) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and claimed size of each chunk of a RIFF or IFF file."""
    while at + 8 <= len(data):
        name, size = struct.unpack(">4sI" if big else "<4sI", data[at : at + 8])
        yield name, at + 8, size
        at += 8 + size + size % 2


def _wide_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Those of a W64 file, whose names are 16 bytes and whose sizes count their header."""
    at = 40
    while at + 24 <= len(data):
        size = int.from_bytes(data[at + 16 : at + 24], "little") - 24
        if size < 0:
            raise ValueError(f"is damaged: the chunk at byte {at} has no size")
        yield data[at : at + 4], at + 24, size
        at += 24 + -(-size // 8) * 8


def decode_aiff(data: bytes, max_seconds: float) -> tuple[np.ndarray, int]:
    """As `decode_wav`, of an AIFF or AIFF-C file."""
    chunks: dict[bytes, tuple[int, int]] = {}
    for name, start, size in _chunks(data, 12, True):
        chunks.setdefault(name, (start, size))
    at, length = chunks.get(b"COMM", (0, 0))
    if length < 18 or at + 18 > len(data) or b"SSND" not in chunks:
        raise ValueError("is cut off or damaged: it has no description or no samples")
    channels, frames, bits, exponent, mantissa = struct.unpack(">HIHHQ", data[at : at + 18])
    rate = _extended(exponent, mantissa)
    coding = data[at + 18 : at + 22] if data[8:12] == b"AIFC" else b"NONE"
    width = -(-bits // 8)
    kind, width, big = {
        b"NONE": ("i", width, True), b"twos": ("i", width, True), b"sowt": ("i", width, False),
        b"in24": ("i", 3, True), b"42n1": ("i", 3, False), b"in32": ("i", 4, True),
        b"23ni": ("i", 4, False),
        b"raw ": ("u", 1, True), b"fl32": ("f", 4, True), b"FL32": ("f", 4, True),
        b"fl64": ("f", 8, True), b"FL64": ("f", 8, True), b"ulaw": ("ulaw", 1, True),
        b"ULAW": ("ulaw", 1, True), b"alaw": ("alaw", 1, True), b"ALAW": ("alaw", 1, True),
    }.get(coding, ("", 0, True))  # fmt: skip
    if not kind or not 1 <= width <= 8 or (kind == "i" and width > 4):
        raise ValueError(f"is AIFF of coding {coding!r} with {bits} bits, which is not read")
    start, size = chunks[b"SSND"]
    offset = int.from_bytes(data[start : start + 4], "big")
    start, size = start + 8 + offset, size - 8 - offset
    wanted = frames * channels * width
    there = max(0, min(size, len(data) - start))
    if wanted > there:
        raise ValueError(f"is cut off: {there:,} of its {wanted:,} bytes of samples are there")
    if there - wanted > 1:
        raise ValueError(f"is damaged: it has {there:,} bytes of samples and counts {wanted:,}")
    layout = _Layout(kind, width, channels, rate, big)
    return _samples(data, start, wanted, layout, max_seconds), rate


def _extended(exponent: int, mantissa: int) -> int:
    """A positive 80-bit floating-point number, rounded; 0 for what is no rate."""
    shift = 16383 + 63 - exponent
    if exponent & 0x8000 or not 0 <= shift <= 63:
        return 0
    return mantissa + (1 << shift >> 1) >> shift


def decode_au(data: bytes, max_seconds: float) -> tuple[np.ndarray, int]:
    """As `decode_wav`, of a Sun AU file, of either order of bytes."""
    big = data[:4] == b".snd"
    if len(data) < 24:
        raise ValueError("is cut off in its header")
    start, size, coding, rate, channels = struct.unpack((">" if big else "<") + "5I", data[4:24])
    kind, width = {
        1: ("ulaw", 1), 2: ("i", 1), 3: ("i", 2), 4: ("i", 3), 5: ("i", 4), 6: ("f", 4),
        7: ("f", 8), 27: ("alaw", 1),
    }.get(coding, ("", 0))  # fmt: skip
    if not kind:
        raise ValueError(f"is AU of coding {coding}, which is not read; write it as WAV")
    there = len(data) - start
    if start < 24 or there < 0 or (size != 0xFFFFFFFF and size > there):
        raise ValueError(
            f"is cut off: {max(0, there):,} of its {size:,} bytes of samples are there"
        )
    check_size(1, channels, rate, max_seconds)
    if size == 0xFFFFFFFF:
        size = there - there % (width * channels)
    return _samples(data, start, size, _Layout(kind, width, channels, rate, big), max_seconds), rate


def decode_caf(data: bytes, max_seconds: float) -> tuple[np.ndarray, int]:
    """As `decode_wav`, of an Apple CAF file."""
    chunks: dict[bytes, tuple[int, int]] = {}
    at = 8
    while at + 12 <= len(data):
        name, size = struct.unpack(">4sq", data[at : at + 12])
        chunks.setdefault(name, (at + 12, size))
        if size < 0:
            break  # up to the end of the file
        at += 12 + size
    at, length = chunks.get(b"desc", (0, 0))
    if length < 32 or at + 32 > len(data) or b"data" not in chunks:
        raise ValueError("is cut off or damaged: it has no description or no data")
    hertz, coding, flags, packet, per_packet, channels, bits = struct.unpack(
        ">d4sIIIII", data[at : at + 32]
    )
    rate = round(hertz) if 0 < hertz < 1e9 else 0
    kind, width = {
        b"lpcm": ("f" if flags & 1 else "i", -(-bits // 8)), b"ulaw": ("ulaw", 1),
        b"alaw": ("alaw", 1),
    }.get(coding, ("", 0))  # fmt: skip
    if not kind:
        raise ValueError(f"is CAF of coding {coding!r}, which is not read; write it as WAV")
    if per_packet != 1 or packet != width * channels or width not in (1, 2, 3, 4, 8):
        raise ValueError(f"is damaged: {packet} bytes for {channels} channels of {bits} bits")
    if (kind == "f" and width not in (4, 8)) or (kind == "i" and width > 4):
        raise ValueError(f"is damaged: it has samples of {bits} bits")
    check_size(1, channels, rate, max_seconds)
    start, size = chunks[b"data"]
    there = len(data) - start - 4
    if size < 0:
        size = there - there % (width * channels) + 4
    if size - 4 > there or size < 4:
        raise ValueError(
            f"is cut off: {max(0, there):,} of its {size:,} bytes of samples are there"
        )
    layout = _Layout(kind, width, channels, rate, not flags & 2)
    return _samples(data, start + 4, size - 4, layout, max_seconds), rate

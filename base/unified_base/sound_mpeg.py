"""MP3: its frames are walked and counted here; mpg123 (in libsndfile) only decodes them.

mpg123 guesses a length from the first frame where no Xing frame gives one, and stops at the first
Xing frame's where files were joined. So each stretch with one Xing frame (or none) is decoded on
its own, behind a Xing frame of ours that says how many frames follow; what its LAME tag counts as
the encoder's own delay and filling is cut off here. Frame headers: ISO/IEC 11172-3, 2.4.1.3;
Xing, VBRI and LAME tags: http://gabriel.mp3-tech.org/mp3infotag.html
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from unified_base.sound_library import check_size, read_blocks

__all__ = ["decode_mpeg", "is_mpeg", "skip_id3"]

_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_KBPS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""By whether it is MPEG-1; 0 is the free format."""
_DECODER_DELAY = 529
"""Samples that every decoder of layer III is late by; LAME's counts leave them out. mpg123 drops as
many at the start wherever it meets a Xing frame."""
_CUT_OUT = 10
"""Frames at a stream's start that may refer to what was before it: at most 511 bytes."""


@dataclass(frozen=True, slots=True)
class _Header:
    """What a frame header says. size: bytes of the frame; samples: of each channel in it."""

    version: int
    rate: int
    channels: int
    size: int
    samples: int
    side: int

    @property
    def kind(self) -> tuple[int, int, int]:
        return self.version, self.rate, self.channels


@dataclass
class _Stretch:
    """Frames that are decoded together.

    claimed: frames that its Xing frame counts. cut: samples that are not sound, at its start and
    end. reservoir: bytes of earlier frames that a frame's content may begin in.
    """

    kind: tuple[int, int, int]
    frames: list[bytes] = field(default_factory=list)
    samples: int = 0
    claimed: int | None = None
    cut: tuple[int, int] = (0, 0)
    reservoir: int = 0

    def add(self, frame: bytes, header: _Header, at: int) -> None:
        """A frame at a byte of the file. One whose content begins before the stream is silence:
        streams that were cut out of others begin so, and there is nothing to decode it from."""
        side = 4 if frame[1] & 1 else 6  # a checksum before it
        behind = int.from_bytes(frame[side : side + 2], "big") >> (7 if header.version == 3 else 8)
        if behind > self.reservoir:
            if len(self.frames) > _CUT_OUT:
                raise ValueError(f"is damaged: the frame at byte {at} begins in lost bytes")
            frame = frame[:side] + bytes(header.side) + frame[side + header.side :]
        self.reservoir += len(frame) - side - header.side
        self.frames.append(frame)
        self.samples += header.samples


def skip_id3(data: bytes, at: int = 0) -> int:
    """Where what follows an ID3v2 tag begins, `at` itself where there is none."""
    while data[at : at + 3] == b"ID3" and len(data) >= at + 10:
        size = sum((byte & 0x7F) << shift for byte, shift in zip(data[at + 6 : at + 10], _SEVENS))
        at += 10 + size + (10 if data[at + 5] & 0x10 else 0)
    return at


_SEVENS = (21, 14, 7, 0)


def is_mpeg(data: bytes) -> bool:
    """Whether bytes begin as an MPEG audio stream does, an ID3 tag left out."""
    at = skip_id3(data)
    while data[at : at + 1] == b"\0":
        at += 1
    return data[at : at + 1] == b"\xff" and len(data) > at + 1 and data[at + 1] & 0xE0 == 0xE0


def decode_mpeg(data: bytes, max_seconds: float) -> tuple[np.ndarray, int]:
    """The waveform float32 (channels, S) and the rate in Hz of an MP3 stream, joined ones whole.

    Raises ValueError, to be put behind the sound's name.
    """
    stretches = _walk(data)
    rate, channels = stretches[0].kind[1:]
    for stretch in stretches:
        if stretch.kind[1:] != (rate, channels):
            raise ValueError(
                f"is joined from sounds of {rate:,} Hz in {channels} channels and of "
                f"{stretch.kind[1]:,} Hz in {stretch.kind[2]}; split it"
            )
    check_size(sum(stretch.samples for stretch in stretches), channels, rate, max_seconds)
    parts = [_decode(stretch, max_seconds) for stretch in stretches]
    return np.concatenate(parts, axis=1), rate


def _walk(data: bytes) -> list[_Stretch]:
    """Every frame of the stream, in stretches. Raises ValueError where something is no frame."""
    stretches: list[_Stretch] = []
    at, fresh = 0, True
    while at < len(data):
        after = _skip_tags(data, at)
        if after != at:
            at, fresh = after, True
            continue
        header = _header(data, at)
        frame = data[at : at + header.size]
        if len(frame) < header.size:
            raise ValueError(
                f"is cut off: its last frame, at byte {at}, has {len(frame)} of {header.size} bytes"
            )
        tag = _tag(frame, header)
        if fresh or tag or header.kind != stretches[-1].kind:
            if not fresh and tag is None:
                raise ValueError(f"changes its rate or channels at byte {at}")
            stretches.append(tag or _Stretch(header.kind))
            fresh = False
        if tag is None:
            stretches[-1].add(frame, header, at)
        at += header.size
    stretches = [stretch for stretch in stretches if stretch.frames]
    if not stretches:
        raise ValueError("is empty, expected at least one sample")
    for stretch in stretches:
        if stretch.claimed and len(stretch.frames) < stretch.claimed:
            raise ValueError(
                f"is cut off: {len(stretch.frames):,} of its {stretch.claimed:,} frames are there"
            )
    return stretches


def _skip_tags(data: bytes, at: int) -> int:
    """Where what follows a tag, or zeros, begins; `at` where there is none."""
    if data[at : at + 3] == b"ID3":
        return skip_id3(data, at)
    if data[at : at + 4] == b"TAG+":
        return at + 227
    if data[at : at + 3] == b"TAG":
        return at + 128
    if data[at : at + 8] == b"APETAGEX" and len(data) >= at + 32:
        size, _, flags = struct.unpack("<III", data[at + 12 : at + 24])
        # A header is followed by `size` bytes, its footer among them; a footer alone by nothing.
        return at + 32 + (size if flags & 0x20000000 else 0)
    if data[at : at + 11] == b"LYRICSBEGIN":
        end = data.find(b"LYRICS200", at)
        return at if end < 0 else end + 9
    if data[at : at + 1] == b"\0":
        rest = data[at : at + (1 << 20)].lstrip(b"\0")
        return min(len(data), at + (1 << 20)) - len(rest)
    return at


def _header(data: bytes, at: int) -> _Header:
    word = int.from_bytes(data[at : at + 4].ljust(4, b"\0"), "big")
    version, layer, kbps, rate = word >> 19 & 3, word >> 17 & 3, word >> 12 & 15, word >> 10 & 3
    if word >> 21 != 0x7FF or version == 1 or kbps == 15 or rate == 3:
        if len(data) - at < 4:
            raise ValueError(f"is cut off in a frame's header, at byte {at}")
        raise ValueError(f"is damaged: there is no MPEG frame at byte {at}")
    if layer != 1:
        names = {0: "AAC", 2: "MPEG layer II", 3: "MPEG layer I"}
        raise ValueError(f"is {names[layer]}, expected MP3 (layer III); convert it first")
    if kbps == 0:
        raise ValueError(f"has a frame in the free format at byte {at}; encode it anew")
    first = version == 3
    hertz = _RATES[version][rate]
    samples = 1152 if first else 576
    size = samples // 8 * 1000 * _KBPS[first][kbps] // hertz + (word >> 9 & 1)
    mono = word >> 6 & 3 == 3
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return _Header(version, hertz, 1 if mono else 2, size, samples, side)


def _tag(frame: bytes, header: _Header) -> _Stretch | None:
    """An empty stretch as a Xing or VBRI frame describes it, None for a frame of sound."""
    start = (4 if frame[1] & 1 else 6) + header.side
    if frame[36:40] == b"VBRI":
        claimed = int.from_bytes(frame[50:54], "big")
        return _Stretch(header.kind, claimed=claimed)
    if frame[start : start + 4] not in (b"Xing", b"Info"):
        return None
    flags = int.from_bytes(frame[start + 4 : start + 8], "big")
    at = start + 8
    stretch = _Stretch(header.kind)
    for bit, size in ((1, 4), (2, 4), (4, 100), (8, 4)):
        if flags & bit:
            if bit == 1:
                stretch.claimed = int.from_bytes(frame[at : at + size], "big")
            at += size
    # The LAME tag: nine letters, then 12 bytes, then two numbers of 12 bits.
    if len(frame) >= at + 24 and frame[at : at + 4].strip(b"\0"):
        number = int.from_bytes(frame[at + 21 : at + 24], "big")
        delay, filling = number >> 12, number & 0xFFF
        if delay or filling:
            stretch.cut = delay + _DECODER_DELAY, max(0, filling - _DECODER_DELAY)
    return stretch


def _decode(stretch: _Stretch, max_seconds: float) -> np.ndarray:
    """The waveform float32 (channels, S) of a stretch."""
    body = b"".join(stretch.frames)
    first = _header(body, 0)
    start, end = stretch.cut
    if start + end >= stretch.samples:
        start = end = 0
    lead = _silence(body[:4], 0)
    count = len(stretch.frames) + 1
    size = len(lead) + len(body)
    xing = _silence(body[:4], 16)
    content = struct.pack(">4sIII", b"Info", 3, count, size + len(xing))
    at = 4 + first.side
    stream = xing[:at] + content + xing[at + len(content) :] + lead + body
    expected = stretch.samples + first.samples - _DECODER_DELAY
    samples, _ = read_blocks(stream, "float32", max_seconds, expected)
    start += first.samples - _DECODER_DELAY
    return samples[start : len(samples) - end].T


def _silence(head: bytes, room: int) -> bytes:
    """A frame of the same kind that decodes to silence, with that many bytes behind its side
    information."""
    word = int.from_bytes(head, "big") & ~(0xF << 12 | 1 << 9) | 1 << 16  # no padding, no checksum
    for kbps in range(1, 15):
        head = (word | kbps << 12).to_bytes(4, "big")
        header = _header(head, 0)
        if header.size >= 4 + header.side + room:
            break
    return head.ljust(header.size, b"\0")

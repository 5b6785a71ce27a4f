"""Ogg: pages, their checksums and what they count are checked here; libsndfile only decodes.

libogg drops a damaged page without a word and libsndfile reads the first of several chained streams
alone. Pages: RFC 3533; Opus in Ogg: RFC 7845.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from unified_base.sound_library import check_size, read_blocks

__all__ = ["decode_ogg"]

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass
class _Link:
    """One logical stream of a chain: bytes [start, end), granule: of its last page."""

    serial: int
    start: int
    packet: bytes
    pages: int = 0
    end: int = 0
    granule: int = 0
    ended: bool = False


def decode_ogg(data: bytes, max_seconds: float) -> tuple[np.ndarray, int]:
    """The waveform float32 (channels, S) and the rate in Hz of Vorbis, Opus or FLAC in Ogg.

    Chained streams come one after the other; they must have one rate and number of channels.
    Raises ValueError, to be put behind the sound's name.
    """
    parts: list[np.ndarray] = []
    rates: set[tuple[int, int]] = set()
    total = 0
    for link in _links(data):
        _check_kind(link.packet)
        stream = data[link.start : link.end]
        samples, rate = read_blocks(stream, "float32", max_seconds)
        expected = _frames(link, rate)
        if len(samples) != expected:
            raise ValueError(
                f"is cut off or damaged: {len(samples):,} of its {expected:,} samples are there"
            )
        rates.add((rate, samples.shape[1]))
        if len(rates) > 1:
            raise ValueError("is chained from sounds of different rates or channels; split it")
        total += len(samples)
        check_size(total, samples.shape[1], rate, max_seconds)
        parts.append(samples.T)
    return np.concatenate(parts, axis=1), rate


def _links(data: bytes) -> list[_Link]:
    links: list[_Link] = []
    at = 0
    while at < len(data):
        if data[at : at + 5] != b"OggS\0":
            if links and links[-1].ended and not data[at:].strip(b"\0"):
                break  # filled up with zeros
            raise ValueError(f"is damaged or cut off: there is no Ogg page at byte {at}")
        head = data[at : at + 27]
        lacing = data[at + 27 : at + 27 + head[-1]] if len(head) == 27 else b""
        end = at + 27 + len(lacing) + sum(lacing)
        if len(head) < 27 or len(lacing) < head[26] or end > len(data):
            raise ValueError(f"is cut off in the page at byte {at}")
        flags, granule, serial, number, checksum = struct.unpack("<xxxxxBqIII", head[:26])
        page = head[:22] + b"\0\0\0\0" + data[at + 26 : end]
        if _checksum(page) != checksum:
            raise ValueError(f"is damaged: the checksum of the page at byte {at} is wrong")
        if flags & 2:
            if links and not links[-1].ended:
                raise ValueError("holds several streams at once, or one that does not end")
            links.append(_Link(serial, at, data[at + 27 + len(lacing) : end]))
        elif not links or links[-1].ended or links[-1].serial != serial:
            raise ValueError(f"has a page of no stream at byte {at}")
        link = links[-1]
        if number != link.pages:
            raise ValueError(f"lacks a page before byte {at}: found {number} after {link.pages}")
        link.pages, link.end, link.ended = number + 1, end, bool(flags & 4)
        if granule >= 0:
            link.granule = granule
        at = end
    if not links:
        raise ValueError("is empty, expected at least one sample")
    if not links[-1].ended:
        raise ValueError("is cut off: its last page is not marked as the last")
    return links


def _checksum(page: bytes) -> int:
    """CRC-32 with Ogg's order of bits: that of zlib over the bits the other way round."""
    value = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{value:032b}"[::-1], 2)


def _check_kind(packet: bytes) -> None:
    if packet.startswith((b"\x01vorbis", b"\x7fFLAC", b"OpusHead")) and len(packet) >= 19:
        return
    names = {b"Speex": "Speex", b"\x80theo": "Theora video", b"fishe": "a skeleton"}
    what = names.get(packet[:5], "a stream of a kind")
    raise ValueError(f"holds {what} that is not read, expected Vorbis, Opus or FLAC in Ogg")


def _frames(link: _Link, rate: int) -> int:
    """Samples of each channel that a stream says it has; rate: that it is decoded at, Hz."""
    if not link.packet.startswith(b"OpusHead"):
        return link.granule
    skip = int.from_bytes(link.packet[10:12], "little")
    return -(-(link.granule - skip) * rate // 48_000)

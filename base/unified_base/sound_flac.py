"""FLAC: its header, the length of streams that do not say it, and its MD5 are checked here.

libsndfile only decodes, and with it libFLAC checks each frame's own checksum; nobody compares the
MD5. Layout: RFC 9639.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np

from unified_base.sound_library import check_size, read_blocks

__all__ = ["decode_flac"]

_SYNC = re.compile(rb"\xff[\xf8\xf9]")
_JOINED = re.compile(rb"fLaC[\0\x80]\0\0\x22")


def decode_flac(data: bytes, max_seconds: float) -> tuple[np.ndarray, int]:
    """The waveform float32 (channels, S) and the rate in Hz of a FLAC file.

    A stream whose header does not say how long it is, is read to its end.
    Raises ValueError, to be put behind the sound's name.
    """
    if len(data) < 42 or data[4] & 0x7F or data[5:8] != b"\0\0\x22":
        raise ValueError("is cut off or damaged: it has no STREAMINFO")
    # 20 bits of rate, 3 of channels - 1, 5 of bits - 1, 36 of samples (0: not told).
    fields = int.from_bytes(data[18:26], "big")
    rate, channels = fields >> 44, (fields >> 41 & 7) + 1
    bits, total = (fields >> 36 & 31) + 1, fields & (1 << 36) - 1
    check_size(total or 1, channels, rate, max_seconds)
    if bits not in (8, 16, 24):
        raise ValueError(f"has {bits} bits a sample, expected 8, 16 or 24; convert it first")
    if _JOINED.search(data, 42):
        raise ValueError("is joined from several FLAC files; split it")
    if not total:
        total = _count(data)
        check_size(total, channels, rate, max_seconds)
        data = data[:18] + (fields | total).to_bytes(8, "big") + data[26:]
    kind = "int16" if bits == 16 else "int32"
    samples, decoded_rate = read_blocks(data, kind, max_seconds, total)
    if decoded_rate != rate or samples.shape[1] != channels:
        raise ValueError("is damaged: its frames are not as its header says")
    digest = data[26:42]
    if digest.strip(b"\0") and _md5(samples, bits) != digest:
        raise ValueError("is damaged: the MD5 of its samples is wrong")
    scale = np.float32(2.0 ** (1 - 8 * samples.dtype.itemsize))
    return samples.T.astype(np.float32) * scale, rate


def _md5(samples: np.ndarray, bits: int) -> bytes:
    """Of the samples as little-endian whole numbers of `bits` bits."""
    width = samples.dtype.itemsize
    as_bytes = np.ascontiguousarray(samples).astype(f"<i{width}", copy=False).view(np.uint8)
    # int32 samples are aligned to the top: their low bytes are none of the file's.
    own = as_bytes.reshape(-1, width)[:, width - bits // 8 :]
    return hashlib.md5(own.tobytes(), usedforsecurity=False).digest()


def _count(data: bytes) -> int:
    """Samples of each channel in the frames of a stream, by their headers alone.

    A header is one where its checksum fits and it numbers the frame, or sample, that comes next.
    """
    total = frames = 0
    for match in _SYNC.finditer(data, 42):
        header = _frame(data, match.start())
        if header is None:
            continue
        number, size, variable = header
        if number == (total if variable else frames):
            total, frames = total + size, frames + 1
    return total


def _frame(data: bytes, at: int) -> tuple[int, int, bool] | None:
    """Number, block size, and whether samples are numbered, not frames; None for no header."""
    variable, code = data[at + 1] & 1 == 1, data[at + 2 : at + 3]
    if not code or code[0] >> 4 == 0 or code[0] & 15 == 15:
        return None
    size, rate = code[0] >> 4, code[0] & 15
    length = 8 - ((data[at + 4 : at + 5] or b"\0")[0] ^ 0xFF).bit_length()
    length = max(1, length)  # bytes of the number, coded as UTF-8 codes characters
    end = at + 4 + length + {6: 1, 7: 2}.get(size, 0) + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    header = data[at : end + 1]
    if len(header) <= end - at or length > 7 or _crc8(header[:-1]) != header[-1]:
        return None
    number = header[4] & (0x7F if length == 1 else 0x7F >> length)
    for byte in header[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    if size in (6, 7):
        samples = int.from_bytes(header[4 + length : 4 + length + size - 5], "big") + 1
    else:
        samples = 192 if size == 1 else 576 << size - 2 if size < 6 else 256 << size - 8
    return number, samples, variable


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value << 1 ^ (0x107 if value & 0x80 else 0)
    return value

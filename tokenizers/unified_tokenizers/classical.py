"""Classical codecs on the same media: WebP, AVIF and JPEG for pictures, Opus for sound.

They are what a tokenizer's bits must be held against. Their files have headers, which weigh on
small pictures: every point says how many bytes a file of one colour, or of silence, of the same
size takes at the same setting.

Legend: H W pixels, S samples.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import soundfile
from PIL import Image, features

__all__ = ["AUDIO_CODECS", "IMAGE_CODECS", "Coded", "check_codecs", "code_picture", "code_sound"]

IMAGE_CODECS: dict[str, tuple[float, ...]] = {
    "webp": (1, 5, 15, 30, 50, 70, 85, 95),
    "avif": (10, 20, 30, 40, 50, 65, 80, 90),
    "jpeg": (2, 5, 10, 20, 35, 55, 75, 92),
}
"""Qualities tried, of each codec for pictures."""
AUDIO_CODECS: dict[str, tuple[float, ...]] = {"opus": (6, 8, 12, 16, 24)}
"""Bit rates asked for, kbit/s, of each codec for sound."""


@dataclass(frozen=True, eq=False)
class Coded:
    """What a codec made of a picture or a sound.

    num_bytes: of the file; header_bytes: of a file of one colour or of silence instead.
    """

    media: np.ndarray
    num_bytes: int
    header_bytes: int


def check_codecs(names: list[str], modality: str) -> None:
    """Raises ValueError for a codec that is not there for pictures, or for sound."""
    known = IMAGE_CODECS if modality == "image" else AUDIO_CODECS
    for name in names:
        if name not in known:
            raise ValueError(f"there is no codec {name!r} for {modality}, only {', '.join(known)}")
        if name in ("webp", "avif") and not features.check(name):
            raise ValueError(f"this Pillow cannot write {name}; install Pillow's own wheel")


def code_picture(codec: str, quality: float, pixels: np.ndarray) -> Coded:
    """A picture, uint8 (H, W, 3), through a codec of `IMAGE_CODECS`."""

    def encode(what: np.ndarray) -> bytes:
        stream = io.BytesIO()
        more = {"method": 6} if codec == "webp" else {"speed": 6} if codec == "avif" else {}
        Image.fromarray(what).save(stream, format=codec.upper(), quality=round(quality), **more)
        return stream.getvalue()

    return _coded(pixels, encode, _read_picture)


def _read_picture(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def code_sound(codec: str, kbps: float, waveform: np.ndarray, sample_rate: int) -> Coded:
    """A waveform, float32 (S,) in [-1, 1], through a codec of `AUDIO_CODECS`.

    libsndfile asks Opus for (1 - level) of the way from 6 to 256 kbit/s; Ogg's pages are added.

    Raises ValueError for a sample rate that Opus does not have.
    """
    rates = (8_000, 12_000, 16_000, 24_000, 48_000)
    if sample_rate not in rates:
        raise ValueError(f"{codec} is for {rates} Hz, found {sample_rate} Hz; resample first")
    level = 1 - (kbps - 6) / 250

    def encode(what: np.ndarray) -> bytes:
        stream = io.BytesIO()
        soundfile.write(
            stream, what, sample_rate, format="OGG", subtype="OPUS", compression_level=level
        )
        return stream.getvalue()

    def read(data: bytes) -> np.ndarray:
        samples, _ = soundfile.read(io.BytesIO(data), dtype="float32")
        return samples[: len(waveform)]

    return _coded(waveform, encode, read)


def _coded(
    media: np.ndarray,
    encode: Callable[[np.ndarray], bytes],
    read: Callable[[bytes], np.ndarray],
) -> Coded:
    data = encode(media)
    return Coded(read(data), len(data), len(encode(np.zeros_like(media))))

"""Pictures and sounds as clients want them: bytes of files, base64 and `data:` URLs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
import soundfile
from PIL import Image as PillowImage

from unified.serving.api_errors import ApiError
from unified_base.images import encode_png
from unified_base.sounds import encode_wav

__all__ = ["PictureFile", "base64_of", "encode_sound", "pcm16", "sound_type", "wav_head"]

PictureFormat = Literal["png", "webp", "jpeg"]
_JPEG_QUALITY = 95
_WAV_HEAD = 44  # bytes of `encode_wav` before its samples
_UNKNOWN = b"\xff\xff\xff\xff"  # a length in RIFF that is not known yet
_SUBTYPES = {"flac": ("FLAC", "PCM_16"), "mp3": ("MP3", "MPEG_LAYER_III"), "opus": ("OGG", "OPUS")}
_TYPES = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
}


@dataclass(frozen=True)
class PictureFile:
    """How pictures are written.

    compression: 0 to 100, quality of WebP and JPEG; None: WebP without loss, JPEG at 95.
    """

    format: PictureFormat = "png"
    compression: int | None = None

    def check(self, param: str) -> None:
        """Raises ApiError for a compression that the format does not have."""
        if self.compression is not None and self.format == "png":
            raise ApiError(
                400, f"{param} is {self.compression}, but PNG has none; it is of webp and jpeg",
                param=param,
            )  # fmt: skip

    def encode(self, pixels: np.ndarray) -> bytes:
        """A file's bytes. pixels: uint8 (H, W, 3)."""
        if self.format == "png":
            return encode_png(pixels)
        buffer = io.BytesIO()
        picture = PillowImage.fromarray(np.ascontiguousarray(pixels))
        if self.format == "webp":
            exact = self.compression is None
            picture.save(buffer, "WEBP", lossless=exact, quality=100 if exact else self.compression)
        else:
            quality = _JPEG_QUALITY if self.compression is None else self.compression
            picture.save(buffer, "JPEG", quality=quality)
        return buffer.getvalue()

    def url(self, pixels: np.ndarray) -> str:
        """The picture in a `data:` URL."""
        return f"data:image/{self.format};base64,{base64_of(self.encode(pixels))}"


def encode_sound(waveform: np.ndarray, rate: int, format: str) -> bytes:
    """A sound's bytes as "wav", "pcm" (16-bit little-endian samples alone), "flac", "mp3", "opus".

    waveform: float32 (channels, S) in [-1, 1]; rate: Hz. Raises ValueError for samples outside.
    """
    wav = encode_wav(waveform, rate)
    if format == "wav":
        return wav
    if format in ("pcm", "pcm16"):
        return wav[_WAV_HEAD:]
    samples = np.frombuffer(wav[_WAV_HEAD:], "<i2").reshape(-1, waveform.shape[0])
    container, subtype = _SUBTYPES[format]
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=container, subtype=subtype)
    return buffer.getvalue()


def pcm16(waveform: np.ndarray, rate: int) -> bytes:
    """Samples (channels, S) as `encode_sound` has them; those of parts join to the whole."""
    return encode_wav(waveform, rate)[_WAV_HEAD:]


def wav_head(channels: int, rate: int) -> bytes:
    """The begin of a WAV file whose length is not known yet: samples follow until it ends."""
    head = encode_wav(np.zeros((channels, 1), np.float32), rate)[:_WAV_HEAD]
    return head[:4] + _UNKNOWN + head[8:40] + _UNKNOWN


def sound_type(format: str, rate: int) -> str:
    """The media type of `encode_sound`'s bytes."""
    return _TYPES.get(format) or f"audio/pcm; rate={rate}; channels=1; encoding=signed-int-16-le"


def base64_of(data: bytes) -> str:
    """Bytes in base64."""
    return base64.b64encode(data).decode("ascii")

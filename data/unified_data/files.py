"""Reading and writing pictures and sounds safely.

What is read is checked before it is decoded (how large, how long) and errors are one-line
ValueErrors. What is written is written beside its destination and renamed into place.

Conversions on reading, none of them silent in what they mean: transparent pictures are put on
white, a camera's rotation tag is applied, of an animation the first frame is taken, 16-bit grey
becomes 8-bit. Sounds keep their channels and sample rate; `resample.resample` changes rates.
"""

from __future__ import annotations

import io
import os
import secrets
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image as PillowImage
from PIL import ImageOps

MAX_PIXELS = 64_000_000
MAX_SECONDS = 600.0
MAX_SAMPLES = 1 << 27
"""Numbers that a sound may hold, channels together: a header may claim any rate and count."""

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A path to write to; renamed to `path` when the block ends well, removed when it does not.

    The file lies beside `path` under a name ending in ".partial", so the rename is atomic and a
    failure or Ctrl-C leaves whatever stood at `path` untouched.

    Raises ValueError when the folder is missing or cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"cannot write {path}: it is a folder; give a file name")
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {path}: there is no folder {path.parent}; create it first")
    partial = path.parent / f".{path.name}.{secrets.token_hex(4)}.partial"
    try:
        partial.touch(exist_ok=False)
    except OSError as error:
        raise ValueError(
            f"cannot write {path}: {error.strerror}; choose a folder you can write to"
        ) from None
    try:
        yield partial
        try:
            os.replace(partial, path)
        except OSError as error:
            raise ValueError(f"cannot write {path}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def atomic_write(path: str | Path, data: bytes) -> None:
    """Write bytes to a file, all or nothing. Raises ValueError as `atomic_path` does."""
    with atomic_path(path) as partial:
        try:
            partial.write_bytes(data)
        except OSError as error:
            raise ValueError(f"cannot write {path}: {error.strerror}") from None


def _read_bytes(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {what} {path}: {error.strerror}") from None


def load_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The picture of a PNG, JPEG, WebP, GIF or BMP file: uint8 (H, W, 3), RGB.

    Raises ValueError when it cannot be read, is of another kind, truncated, or has more than
    max_pixels pixels (seen from its header, before anything is decoded).
    """
    return decode_image(_read_bytes(Path(path), "picture"), str(path), max_pixels)


def decode_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """As `load_image`, from the file's bytes; `name` is for errors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)  # checked below
            picture: PillowImage.Image = PillowImage.open(io.BytesIO(data), formats=_FORMATS)
        width, height = picture.size
        if width * height > max_pixels:
            raise ValueError(
                f"picture {name} has {width}x{height} pixels, expected at most {max_pixels:,} in "
                "all; make it smaller first"
            )
        picture.load()
        picture = ImageOps.exif_transpose(picture)
        return _to_rgb(picture, name)
    except PillowImage.DecompressionBombError as error:
        raise ValueError(
            f"picture {name} is too large, expected at most {max_pixels:,} pixels: {error}"
        ) from None
    except PillowImage.UnidentifiedImageError:
        raise ValueError(
            f"picture {name} is not a readable PNG, JPEG, WebP, GIF or BMP file"
        ) from None
    # Pillow's decoders meet broken data with any of these.
    except (OSError, SyntaxError, EOFError, IndexError, struct.error, MemoryError) as error:
        raise ValueError(f"picture {name} is damaged or cut off: {error}") from None


def _to_rgb(picture: PillowImage.Image, name: str) -> np.ndarray:
    if picture.mode.startswith("I;16"):
        grey = np.asarray(picture).astype(np.uint16) // 257
        return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
    if picture.mode in ("I", "F"):
        raise ValueError(f"picture {name} has 32-bit pixels, expected 8 bits a channel")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        ground = PillowImage.new("RGBA", picture.size, "white")
        picture = PillowImage.alpha_composite(ground, picture)
    return np.array(picture.convert("RGB"))


def encode_png(pixels: np.ndarray) -> bytes:
    """The bytes of a PNG file. pixels: uint8 (H, W, 3)."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 (H, W, 3)")
    buffer = io.BytesIO()
    PillowImage.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG")
    return buffer.getvalue()


def save_png(path: str | Path, pixels: np.ndarray) -> None:
    """Write a PNG file. pixels: uint8 (H, W, 3). Raises ValueError as `atomic_path` does."""
    atomic_write(path, encode_png(pixels))


def load_audio(path: str | Path, max_seconds: float = MAX_SECONDS) -> tuple[np.ndarray, int]:
    """The waveform float32 (channels, S) in [-1, 1] and the sample rate in Hz of a sound file.

    Reads what libsndfile reads (WAV, FLAC, Ogg, MP3, AIFF, ...). A sound that goes beyond full
    scale, as floating-point and MP3 files can, is scaled down to it with a warning.
    Of a WAV cut short the samples that are there are read: streamed WAVs, such as espeak-ng's,
    claim a length they do not have, so the two cannot be told apart.

    Raises ValueError when the file cannot be read, holds no samples or a NaN, or is longer than
    max_seconds (seen from its header, before the samples are read).
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"cannot read sound {path}: no such file")
    waveform, rate = _read_sound(str(path), str(path), max_seconds)
    peak = float(np.max(np.abs(waveform)))
    if peak > 1.0:
        warnings.warn(f"sound {path} peaks at {peak:.3f}; scaled to 1", stacklevel=2)
        waveform = waveform / np.float32(peak)
    return waveform, rate


def decode_audio(
    data: bytes, name: str, max_seconds: float = MAX_SECONDS
) -> tuple[np.ndarray, int]:
    """As `load_audio`, from the file's bytes, nothing scaled; `name` is for errors."""
    return _read_sound(io.BytesIO(data), name, max_seconds)


def _read_sound(source: str | io.BytesIO, name: str, max_seconds: float) -> tuple[np.ndarray, int]:
    try:
        with soundfile.SoundFile(source) as sound:
            rate, frames = sound.samplerate, sound.frames
            if frames <= 0:
                raise ValueError(f"sound {name} is empty, expected at least one sample")
            if frames > 1 << 60:  # what libsndfile has for "unknown"
                raise ValueError(f"sound {name} does not say how long it is; write it anew")
            if frames > max_seconds * rate:
                raise ValueError(
                    f"sound {name} is {frames / rate:,.0f} s long, expected at most "
                    f"{max_seconds:g} s; cut it first"
                )
            if frames * sound.channels > MAX_SAMPLES:
                raise ValueError(
                    f"sound {name} has {frames:,} samples of {sound.channels} channels, expected "
                    f"at most {MAX_SAMPLES:,} in all; cut it or resample it first"
                )
            # Room for what the header claims is asked for, but only what is read is ever touched.
            samples = sound.read(dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        # Its whole text would quote the object it read from, with an address in memory.
        reason = str(getattr(error, "error_string", "it is damaged")).rstrip(".")
        raise ValueError(f"sound {name} cannot be read: {reason}") from None
    if len(samples) != frames:
        raise ValueError(f"sound {name} is cut off: {len(samples)} of its {frames} samples")
    if not np.isfinite(samples).all():
        raise ValueError(f"sound {name} holds NaN or infinite samples, expected finite ones")
    return np.ascontiguousarray(samples.T), rate


def _int16_exact(waveform: np.ndarray) -> np.ndarray | None:
    """The int16 samples (S, channels) that stand for the waveform exactly, or None."""
    scaled = waveform.T * np.float32(32768)
    whole = np.rint(scaled)
    if not np.array_equal(whole, scaled) or whole.max() > 32767 or whole.min() < -32768:
        return None
    return whole.astype(np.int16)


def encode_audio(waveform: np.ndarray, rate: int) -> tuple[str, bytes]:
    """("flac" or "wav", bytes of the file) that give the waveform back exactly.

    waveform: float32 (channels, S). 16-bit FLAC where the samples lie on the int16 grid and the
    channels (8) and the rate (65,535 Hz) allow it, float32 WAV otherwise.
    """
    samples = _int16_exact(waveform)
    if samples is not None and samples.shape[1] <= 8 and rate <= 65_535:
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
        return "flac", buffer.getvalue()
    return "wav", _wav_bytes(np.ascontiguousarray(waveform.T, dtype="<f4"), rate, tag=3)


def _wav_bytes(samples: np.ndarray, rate: int, tag: int) -> bytes:
    """A RIFF WAVE file of little-endian samples (S, channels); tag 1 integer, 3 floating point.

    Written here because libsndfile stamps the time of day into floating-point WAVs, and the same
    sound must give the same bytes.
    """
    channels, width = samples.shape[1], samples.dtype.itemsize
    body = samples.tobytes()
    layout = struct.pack(
        "<HHIIHH", tag, channels, rate, rate * channels * width, channels * width, 8 * width
    )
    chunks = b"fmt " + struct.pack("<I", len(layout)) + layout
    if tag == 3:
        chunks += b"fact" + struct.pack("<II", 4, len(samples))
    chunks += b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def encode_wav(waveform: np.ndarray, rate: int) -> bytes:
    """The bytes of a 16-bit PCM WAV file, which every player knows.

    waveform: float (channels, S) in [-1, 1], rounded to the int16 grid; +1 becomes 32767/32768.
    Raises ValueError for samples outside [-1, 1] or NaN.
    """
    if waveform.ndim != 2 or 0 in waveform.shape:
        raise ValueError(f"waveform has shape {waveform.shape}, expected (channels, S)")
    peak = float(np.max(np.abs(waveform)))
    if not peak <= 1.0:
        raise ValueError(f"waveform reaches {peak}, expected finite samples in [-1, 1]")
    whole = np.minimum(np.rint(waveform.T * 32768.0), 32767).astype("<i2")
    return _wav_bytes(np.ascontiguousarray(whole), rate, tag=1)


def save_wav(path: str | Path, waveform: np.ndarray, rate: int) -> None:
    """Write a 16-bit PCM WAV file; see `encode_wav`. Raises ValueError as `atomic_path` does."""
    atomic_write(path, encode_wav(waveform, rate))

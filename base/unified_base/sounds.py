"""Sounds: reading what strangers give, bounded before it is decoded; writing WAV and FLAC.

Sounds keep their channels and sample rate; `conform` changes both.
"""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import soundfile

from unified_base.atomic import atomic_write
from unified_base.files import read_bytes
from unified_base.resample import resample
from unified_base.sound_flac import decode_flac
from unified_base.sound_library import MAX_SAMPLES
from unified_base.sound_mpeg import decode_mpeg, is_mpeg, skip_id3
from unified_base.sound_ogg import decode_ogg
from unified_base.sound_waves import decode_aiff, decode_au, decode_caf, decode_wav

__all__ = [
    "MAX_SAMPLES",
    "MAX_SECONDS",
    "conform",
    "decode_audio",
    "encode_audio",
    "encode_wav",
    "load_audio",
    "save_wav",
]

MAX_SECONDS = 600.0
MAX_FILE = 512 << 20
"""Bytes of a sound's file."""


def load_audio(path: str | Path, max_seconds: float = MAX_SECONDS) -> tuple[np.ndarray, int]:
    """The waveform float32 (channels, S) in [-1, 1] and the sample rate in Hz of a sound file.

    Reads WAV (with RF64, BWF and W64), FLAC, Ogg (Vorbis, Opus, FLAC), MP3, AIFF, AU and CAF; what
    a file is, its content says. A sound that goes beyond full scale, as floating-point and MP3
    files can, is scaled down to it with a warning. Files that were joined are read whole where
    their kind allows it (MP3, Ogg), otherwise refused. Of a WAV that does not know its length, as
    espeak-ng's on a pipe, all samples are read; one that is shorter than it says is cut off.

    Raises ValueError when the file cannot be read, is cut off, does not match its checksums, holds
    no samples or a NaN, has a rate beyond 768,000 Hz, or is longer than max_seconds (seen before
    its samples are decoded).
    """
    waveform, rate = decode_audio(read_bytes(path, "sound", MAX_FILE), str(path), max_seconds)
    peak = float(np.max(np.abs(waveform)))
    if peak > 1.0:
        warnings.warn(f"sound {path} peaks at {peak:.3f}; scaled to 1", stacklevel=2)
        waveform = waveform / np.float32(peak)
    return waveform, rate


def decode_audio(
    data: bytes, name: str, max_seconds: float = MAX_SECONDS
) -> tuple[np.ndarray, int]:
    """As `load_audio`, from the file's bytes, nothing scaled; `name` is for errors."""
    try:
        waveform, rate = _decode(data, max_seconds)
        if waveform.shape[1] == 0:
            raise ValueError("is empty, expected at least one sample")
        if not np.isfinite(waveform).all():
            raise ValueError("holds NaN or infinite samples, expected finite ones")
    except (ValueError, MemoryError) as error:
        raise ValueError(f"sound {name} {error or 'needs more memory than there is'}") from None
    return np.ascontiguousarray(waveform), rate


def _decode(data: bytes, max_seconds: float) -> tuple[np.ndarray, int]:
    """By the content; errors are to be put behind the sound's name."""
    start = data[skip_id3(data) :][:16] if data[:3] == b"ID3" else data[:16]
    if not data:
        raise ValueError("cannot be read: the file is empty")
    if start[:4] == b"fLaC":
        return decode_flac(data[skip_id3(data) :], max_seconds)
    if (start[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and start[8:12] == b"WAVE") or (
        start == _W64
    ):
        return decode_wav(data, max_seconds)
    if start[:4] == b"OggS":
        return decode_ogg(data, max_seconds)
    if start[:4] == b"FORM" and start[8:12] in (b"AIFF", b"AIFC"):
        return decode_aiff(data, max_seconds)
    if start[:4] in (b".snd", b"dns."):
        return decode_au(data, max_seconds)
    if start[:4] == b"caff":
        return decode_caf(data, max_seconds)
    if is_mpeg(data):
        return decode_mpeg(data, max_seconds)
    raise ValueError("cannot be read: it is no WAV, FLAC, Ogg, MP3, AIFF, AU, CAF or W64 file")


_W64 = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")


def conform(waveform: np.ndarray, sample_rate: int, to_rate: int, channels: int) -> np.ndarray:
    """A sound at another sample rate and in another number of channels.

    Mono becomes stereo with the channel twice, stereo becomes mono as the mean of the two. The rate
    is changed by `resample`, with silence before and after the sound; its peaks may pass those of
    the original by a little, and are left as they come: nothing is clipped or scaled here.

    Args:
        waveform: floating point (C, S), 1 or 2 channels.
        sample_rate, to_rate: of the waveform and of what is wanted, whole Hz.
        channels: wanted, 1 or 2.

    Returns:
        float32 (channels, ceil(S * to_rate / sample_rate)).

    Raises:
        ValueError: another shape or dtype, empty, values that are not finite, more channels than
            two (how they would be mixed is not for this project to guess), or as `resample` does.
    """
    if waveform.ndim != 2 or 0 in waveform.shape or waveform.dtype.kind != "f":
        raise ValueError(
            f"the sound has shape {waveform.shape} and dtype {waveform.dtype}, expected floating"
            " point (channels, S) and not empty"
        )
    for number in (waveform.shape[0], channels):
        if number not in (1, 2):
            raise ValueError(
                f"{number} channels, expected 1 (mono) or 2 (stereo); mix the sound down first"
            )
    if not np.isfinite(waveform).all():
        raise ValueError("the sound holds values that are not finite (NaN or infinity)")
    sound = waveform.astype(np.float32, copy=False)
    if channels < len(sound):
        sound = sound.mean(axis=0, keepdims=True)
    sound = resample(sound, sample_rate, to_rate)
    return sound.repeat(channels // len(sound), axis=0)


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

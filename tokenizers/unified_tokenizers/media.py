"""Media for tokenizers: pictures and recordings from WebDataset shards or a folder.

Only members and files with allowed endings are read, and only as pictures or sound: nothing is
ever unpickled or extracted.

Legend: H W pixels, N pictures, C channels, S samples.
"""

from __future__ import annotations

import io
import math
import tarfile
import warnings
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath

import numpy as np
import soundfile
from PIL import Image

__all__ = ["conform", "load_pictures", "load_recordings", "read_pictures", "read_recordings"]

_ENDINGS = {"image": (".png", ".jpg", ".jpeg", ".webp"), "audio": (".flac", ".wav", ".ogg")}

# torchaudio's resampling filter has about this many numbers, the product of the two rates over
# their common divisor; of 44,100 and 16,000 Hz 70,560. Beyond this it takes gigabytes.
_LARGEST_FILTER = 2**24


def _members(source: Path, modality: str) -> Iterator[tuple[str, bytes]]:
    """(where, bytes) of every picture or recording: `source` is a folder of tars or of files."""
    endings = _ENDINGS[modality]
    if not source.exists():
        raise ValueError(f"there is nothing at {source}; build data first (unified data build)")
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    for path in files:
        if path.suffix == ".tar":
            try:
                with tarfile.open(path, "r|") as tar:
                    for member in tar:
                        suffix = PurePosixPath(member.name).suffix.lower()
                        if member.isfile() and suffix in endings:
                            stream = tar.extractfile(member)
                            assert stream is not None
                            yield f"{path.name}:{member.name}", stream.read()
            except tarfile.TarError as error:
                raise ValueError(f"cannot read the shard {path}: {error}") from None
        elif path.suffix.lower() in endings:
            yield str(path), path.read_bytes()


def _sources(paths: tuple[str, ...]) -> list[Path]:
    """Paths, with a `*` in the last part expanded."""
    found: list[Path] = []
    for text in paths:
        path = Path(text)
        if "*" in path.name:
            matches = sorted(path.parent.glob(path.name))
            if not matches:
                raise ValueError(f"nothing matches {text}; build the data first")
            found.extend(matches)
        else:
            found.append(path)
    return found


def read_pictures(paths: tuple[str, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """(where, uint8 (H, W, 3)) of every picture in shards, folders or files.

    Raises ValueError for a path without anything at it and for an unreadable picture.
    """
    for source in _sources(paths):
        for where, data in _members(source, "image"):
            try:
                with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"]) as picture:
                    pixels = np.asarray(picture.convert("RGB"))
            except (OSError, SyntaxError, Image.DecompressionBombError) as error:
                raise ValueError(f"cannot read the picture {where}: {error}") from None
            yield where, pixels


def conform(waveform: np.ndarray, sample_rate: int, to_rate: int, channels: int) -> np.ndarray:
    """A sound at another sample rate and in another number of channels.

    Mono becomes stereo with the channel twice, stereo becomes mono as the mean of the two. The rate
    is changed by a windowed sinc (`spectral.resample`), with silence before and after the sound;
    its peaks may pass those of the original by a little, and are left as they come: nothing is
    clipped or scaled here.

    Args:
        waveform: floating point (C, S), 1 or 2 channels.
        sample_rate, to_rate: of the waveform and of what is wanted, whole Hz.
        channels: wanted, 1 or 2.

    Returns:
        float32 (channels, ceil(S * to_rate / sample_rate)).

    Raises:
        ValueError: another shape or dtype, empty, values that are not finite, more channels than
            two, rates below 1 Hz or without a usable common divisor.
    """
    if waveform.ndim != 2 or 0 in waveform.shape or waveform.dtype.kind != "f":
        raise ValueError(
            f"the sound has shape {waveform.shape} and dtype {waveform.dtype}, expected floating"
            " point (channels, S) and not empty"
        )
    if not np.isfinite(waveform).all():
        raise ValueError("the sound holds values that are not finite (NaN or infinity)")
    for found in (waveform.shape[0], channels):
        if found not in (1, 2):
            raise ValueError(
                f"{found} channels, expected 1 (mono) or 2 (stereo); mix the sound down first"
            )
    if sample_rate < 1 or to_rate < 1:
        raise ValueError(f"sample rates are {sample_rate} and {to_rate} Hz, expected at least 1")
    sound = waveform.astype(np.float32, copy=False)
    if channels < len(sound):
        sound = sound.mean(axis=0, keepdims=True)
    if sample_rate != to_rate:
        divisor = math.gcd(sample_rate, to_rate)
        if sample_rate * to_rate // divisor**2 > _LARGEST_FILTER:
            raise ValueError(
                f"cannot resample {sample_rate} Hz to {to_rate} Hz: the common divisor of the two"
                f" is only {divisor}; store the sound at a usual rate, such as 44100 or 48000 Hz"
            )
        # Only here: torch costs two seconds.
        import torch

        from unified_tokenizers.spectral import resample

        samples = torch.from_numpy(np.ascontiguousarray(sound))
        sound = resample(samples, sample_rate, to_rate).numpy()
    return sound.repeat(channels // len(sound), axis=0)


def read_recordings(
    paths: tuple[str, ...], sample_rate: int
) -> Generator[tuple[str, np.ndarray], None, None]:
    """(where, int16 (S,)) of every recording in shards, folders or files, at `sample_rate`, mono.

    Recordings at any rate, mono or stereo, follow the rules of `conform`; mono ones of 16 bits at
    `sample_rate` come as they are. One that passes full scale then, by resampling or as it was
    stored, is turned down as a whole until it does not; at the end, or when reading stops, a
    warning says how many were and by how much.

    Raises:
        ValueError: nothing at a path, an unreadable recording, or one that `conform` refuses.
    """
    turned_down, lowest = 0, 1.0
    try:
        for source in _sources(paths):
            for where, data in _members(source, "audio"):
                try:
                    samples, rate = soundfile.read(
                        io.BytesIO(data), dtype="float32", always_2d=True
                    )
                except soundfile.LibsndfileError as error:
                    raise ValueError(f"cannot read the recording {where}: {error}") from None
                try:
                    sound = conform(samples.T, rate, sample_rate, 1)[0] * 32768
                except ValueError as error:
                    raise ValueError(f"the recording {where}: {error}") from None
                # int16 reaches from -32768 to 32767.
                gain = min(1.0, 32767 / max(float(sound.max()), float(-sound.min()) - 1, 1.0))
                if gain < 1:
                    turned_down, lowest = turned_down + 1, min(lowest, gain)
                    sound = sound * np.float32(gain)
                yield where, np.rint(sound).astype(np.int16)
    finally:
        if turned_down:
            warnings.warn(
                f"{turned_down} of the recordings in {', '.join(paths)} passed full scale at"
                f" {sample_rate} Hz and were turned down, by {-20 * math.log10(lowest):.2f} dB at"
                " most",
                stacklevel=2,
            )


def load_pictures(paths: tuple[str, ...], limit: int) -> np.ndarray:
    """Up to `limit` pictures of one size, (N, H, W, 3) uint8.

    A picture that is found several times counts as often: so a data set says what matters.

    Raises:
        ValueError: nothing found, an unreadable picture, or pictures of different sizes.
    """
    pictures: list[np.ndarray] = []
    for where, pixels in read_pictures(paths):
        if pictures and pixels.shape != pictures[0].shape:
            raise ValueError(
                f"the picture {where} is {pixels.shape[:2]} pixels, the first"
                f" {pictures[0].shape[:2]}; pictures of one training have one size"
            )
        pictures.append(pixels)
        if len(pictures) == limit:
            break
    if not pictures:
        raise ValueError(f"no pictures in {', '.join(paths)}")
    return np.stack(pictures)


def load_recordings(paths: tuple[str, ...], sample_rate: int, seconds: float) -> list[np.ndarray]:
    """Recordings, mono int16 at `sample_rate`, until they last `seconds` together.

    Files may be at any sample rate, mono or stereo: see `read_recordings`.

    Raises:
        ValueError: nothing found, an unreadable recording, or one of more than two channels.
    """
    recordings: list[np.ndarray] = []
    total = 0
    with closing(read_recordings(paths, sample_rate)) as found:
        for _, samples in found:
            recordings.append(samples)
            total += len(samples)
            if total >= seconds * sample_rate:
                break
    if not recordings:
        raise ValueError(f"no recordings in {', '.join(paths)}")
    return recordings

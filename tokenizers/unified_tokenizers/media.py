"""Media for tokenizers: pictures and recordings from WebDataset shards or a folder.

Only members and files with allowed endings are read, and only as pictures or sound: nothing is
ever unpickled or extracted.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import soundfile
from PIL import Image

__all__ = ["load_pictures", "load_recordings", "read_pictures", "read_recordings"]

_ENDINGS = {"image": (".png", ".jpg", ".jpeg", ".webp"), "audio": (".flac", ".wav", ".ogg")}


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


def read_recordings(paths: tuple[str, ...], sample_rate: int) -> Iterator[tuple[str, np.ndarray]]:
    """(where, int16 (S,)) of every recording in shards, folders or files.

    Raises:
        ValueError: nothing at a path, an unreadable recording, another sample rate, or not mono.
    """
    for source in _sources(paths):
        for where, data in _members(source, "audio"):
            try:
                samples, rate = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
            except soundfile.LibsndfileError as error:
                raise ValueError(f"cannot read the recording {where}: {error}") from None
            if rate != sample_rate:
                raise ValueError(
                    f"the recording {where} is at {rate} Hz, expected {sample_rate} Hz"
                )
            if samples.shape[1] != 1:
                raise ValueError(
                    f"the recording {where} has {samples.shape[1]} channels, expected mono"
                )
            yield where, samples[:, 0]


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
    """Recordings, mono int16, until they last `seconds` together.

    Raises:
        ValueError: nothing found, an unreadable recording, another sample rate, or not mono.
    """
    recordings: list[np.ndarray] = []
    total = 0
    for _, samples in read_recordings(paths, sample_rate):
        recordings.append(samples)
        total += len(samples)
        if total >= seconds * sample_rate:
            break
    if not recordings:
        raise ValueError(f"no recordings in {', '.join(paths)}")
    return recordings

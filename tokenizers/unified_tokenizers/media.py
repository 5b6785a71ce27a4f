"""Media for tokenizers: pictures of one size, mono recordings at one rate.

They come through the project's one reader, `unified_base.media_source`, from shards, folders and
files. Shards that have checksums are compared with them first.

Legend: H W pixels, N pictures, S samples.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Literal

import numpy as np

from unified_base.media_source import (
    Medium,
    UnreadableMedium,
    Where,
    read_media,
    sound_samples,
)
from unified_base.shard_sums import Damage, read_sums, verify_shard
from unified_base.sounds import conform

__all__ = [
    "conform", "load_pictures", "load_recordings", "read_pictures", "read_recordings",
    "read_samples", "recordings_at",
]  # fmt: skip

Tell = Callable[[UnreadableMedium], None]
"""Called with each medium that is broken."""


def read_samples(
    paths: tuple[str, ...],
    modality: Literal["image", "audio", "video"],
    max_broken: int | None = 0,
    tell: Tell | None = None,
) -> Iterator[Medium]:
    """Every picture, sound or video of shards, folders or files that is as it was written.

    max_broken, tell: see `unified_base.media_source.sound_samples`.

    Raises ValueError for a path without anything at it, broken media beyond the limit, and a shard
    that has changed where nothing says in which of its samples.
    """
    return sound_samples(_compared(read_media(paths, modality)), max_broken, tell)


def _compared(media: Iterator[Medium | UnreadableMedium]) -> Iterator[Medium | UnreadableMedium]:
    """The same, samples of shards whose bytes have changed as broken."""
    damaged: dict[str, dict[str, Damage]] = {}
    for medium in media:
        shard = medium.where.shard
        if shard and shard not in damaged:
            some = {damage.key: damage for damage in verify_shard(shard) or ()}
            if some and read_sums(shard) is None:
                raise ValueError(f"shard {shard}: {some[''].reason}; make it anew")
            damaged[shard] = some
        wrong = damaged[shard].get(medium.where.key) if shard else None
        if wrong is not None and isinstance(medium, Medium):
            yield UnreadableMedium(medium.where, wrong.reason)
        else:
            yield medium


def read_pictures(
    paths: tuple[str, ...], max_broken: int | None = 0, tell: Tell | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """(where, uint8 (H, W, 3)) of every picture in shards, folders or files.

    max_broken, tell: see `unified_base.media_source.sound_samples`.

    Raises ValueError for a path without anything at it and for broken pictures beyond the limit.
    """
    for sample in read_samples(paths, "image", max_broken, tell):
        yield str(sample.where), sample.array


def _conformed(
    media: Iterator[Medium | UnreadableMedium], sample_rate: int
) -> Iterator[Medium | UnreadableMedium]:
    """Sounds with what `conform` makes of them: mono (S,) at `sample_rate`."""
    for medium in media:
        if isinstance(medium, UnreadableMedium):
            yield medium
            continue
        try:
            yield Medium(
                medium.where,
                conform(medium.array, medium.sample_rate, sample_rate, 1)[0],
                sample_rate,
            )
        except ValueError as error:
            yield UnreadableMedium(medium.where, str(error))


def read_recordings(
    paths: tuple[str, ...],
    sample_rate: int,
    max_broken: int | None = 0,
    tell: Tell | None = None,
) -> Generator[tuple[str, np.ndarray], None, None]:
    """(where, int16 (S,)) of every recording in shards, folders or files, at `sample_rate`, mono.

    Recordings at any rate, mono or stereo, follow the rules of `conform`; mono ones of 16 bits at
    `sample_rate` come as they are. One that passes full scale then, by resampling or as it was
    stored, is turned down as a whole until it does not; at the end, or when reading stops, a
    warning says how many were and by how much.

    max_broken, tell: see `unified_base.media_source.sound_samples`; a recording of more than two
    channels is broken.

    Raises ValueError for a path without anything at it and for broken recordings beyond the limit.
    """
    with closing(recordings_at(paths, sample_rate, max_broken, tell)) as sounds:
        for where, sound in sounds:
            yield str(where), sound


def recordings_at(
    paths: tuple[str, ...],
    sample_rate: int,
    max_broken: int | None = 0,
    tell: Tell | None = None,
) -> Generator[tuple[Where, np.ndarray], None, None]:
    """`read_recordings`, with where each lies."""
    turned_down, lowest = 0, 1.0
    try:
        media = _conformed(_compared(read_media(paths, "audio")), sample_rate)
        for sample in sound_samples(media, max_broken, tell):
            sound = sample.array * np.float32(32768)
            # int16 reaches from -32768 to 32767.
            gain = min(1.0, 32767 / max(float(sound.max()), float(-sound.min()) - 1, 1.0))
            if gain < 1:
                turned_down, lowest = turned_down + 1, min(lowest, gain)
                sound = sound * np.float32(gain)
            yield sample.where, np.rint(sound).astype(np.int16)
    finally:
        if turned_down:
            warnings.warn(
                f"{turned_down} of the recordings in {', '.join(paths)} passed full scale at"
                f" {sample_rate} Hz and were turned down, by {-20 * math.log10(lowest):.2f} dB at"
                " most",
                stacklevel=2,
            )


def load_pictures(
    paths: tuple[str, ...], limit: int, max_broken: int | None = 0, tell: Tell | None = None
) -> np.ndarray:
    """Up to `limit` pictures of one size, (N, H, W, 3) uint8.

    A picture that is found several times counts as often: so a data set says what matters.

    Raises:
        ValueError: nothing found, broken pictures beyond the limit, or pictures of different sizes.
    """
    pictures: list[np.ndarray] = []
    for where, pixels in read_pictures(paths, max_broken, tell):
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


def load_recordings(
    paths: tuple[str, ...],
    sample_rate: int,
    seconds: float,
    max_broken: int | None = 0,
    tell: Tell | None = None,
) -> list[np.ndarray]:
    """Recordings, mono int16 at `sample_rate`, until they last `seconds` together.

    Files may be at any sample rate, mono or stereo: see `read_recordings`.

    Raises:
        ValueError: nothing found, or broken recordings beyond the limit.
    """
    recordings: list[np.ndarray] = []
    total = 0
    with closing(read_recordings(paths, sample_rate, max_broken, tell)) as sounds:
        for _, samples in sounds:
            recordings.append(samples)
            total += len(samples)
            if total >= seconds * sample_rate:
                break
    if not recordings:
        raise ValueError(f"no recordings in {', '.join(paths)}")
    return recordings

"""Pictures, sounds and videos of folders, files and tar shards: each a sample, or why it is none.

The one walk over media that training, measuring and importing share. A shard is any uncompressed
tar file of WebDataset's form, ours among them: members whose names are the same up to the first dot
of their last part are one sample. Nothing is extracted, no link is followed inside a tar file, and
every size is compared with its limit before a byte is read.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

import numpy as np

from unified_base.files import open_regular, read_bytes
from unified_base.images import decode_image
from unified_base.sounds import decode_audio
from unified_base.tar_members import Member, scan_members
from unified_base.text import quoted
from unified_base.videos import decode_video

__all__ = [
    "AUDIO_ENDINGS",
    "IMAGE_ENDINGS",
    "MAX_MEDIUM",
    "VIDEO_ENDINGS",
    "Medium",
    "UnreadableMedium",
    "Where",
    "media_files",
    "media_kind",
    "read_again",
    "read_media",
    "sound_samples",
]

IMAGE_ENDINGS = (".png", ".apng", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
AUDIO_ENDINGS = (
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au",
    ".snd", ".caf", ".w64", ".rf64", ".bwf",
)  # fmt: skip
VIDEO_ENDINGS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".film")
"""By what file names are taken for media; what a file is, its content says."""
_UNREAD = {
    "image": (".avif", ".heic", ".heif", ".jp2", ".jxl", ".tif", ".tiff"),
    "audio": (".aac", ".amr", ".m4a", ".mp2", ".wma", ".wv"),
    "video": (".avi", ".flv", ".mpg", ".mpeg", ".ts", ".wmv"),
}
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
MAX_MEDIUM = 256 << 20
"""Bytes of one picture or sound as it is stored."""

Modality = Literal["image", "audio", "video"]
_NOUNS: dict[Modality, str] = {"image": "picture", "audio": "sound", "video": "video"}


@dataclass(frozen=True, slots=True)
class Where:
    """Where a medium lies. file: its path, or its name in the shard; shard: the tar file's path, or
    ""; key: the sample's key in the shard, or ""; offset, size: of its bytes in the shard."""

    file: str
    shard: str = ""
    key: str = ""
    offset: int = field(default=0, compare=False, repr=False)
    size: int = field(default=0, compare=False, repr=False)

    def __str__(self) -> str:
        if not self.shard:
            return self.file
        inner = f", sample {quoted(self.key)}" if self.key else ""
        return f"shard {self.shard}{inner}" + (f", member {quoted(self.file)}" if self.file else "")


@dataclass(frozen=True, eq=False, slots=True)
class Medium:
    """A picture, uint8 (H, W, 3), a sound, float32 (channels, S) at `sample_rate` Hz, or a video,
    uint8 (T, H, W, 3) whose frames begin at `times`, float64 seconds (T,).

    sample_rate: 0 for a picture and a video. times: None for others.
    """

    where: Where
    array: np.ndarray
    sample_rate: int = 0
    times: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class UnreadableMedium:
    """A medium, or the rest of a shard, that cannot be read, and why."""

    where: Where
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


def media_kind(name: str) -> Modality | None:
    """ "image", "audio" or "video" by a file name's ending, None for any other."""
    lower = name.lower()
    if lower.endswith(VIDEO_ENDINGS):
        return "video"
    if lower.endswith(IMAGE_ENDINGS):
        return "image"
    return "audio" if lower.endswith(AUDIO_ENDINGS) else None


def read_media(
    paths: Iterable[str | Path], modality: Modality
) -> Iterator[Medium | UnreadableMedium]:
    """Every picture, every sound or every video of the paths in their order.

    paths: files, tar shards, folders (with those within, files in the order of their paths; links
    to folders are not followed), and patterns with `*`, `?`, `[...]` and `**`. In folders and
    shards names say what is a picture or a sound (`IMAGE_ENDINGS`, `AUDIO_ENDINGS`) and other files
    are passed over, except that media of kinds which cannot be read are `UnreadableMedium`; a file
    that is named itself is always read. What is reached twice comes twice.

    Raises ValueError where there is nothing at a path, when it comes to it.
    """
    for path, named in media_files(paths):
        lower = path.name.lower()
        if lower.endswith(".tar"):
            yield from _read_shard(path, modality)
        elif lower.endswith(_PACKED):
            yield UnreadableMedium(Where(str(path)), "it is a compressed tar file; unpack it first")
        elif named or media_kind(lower) == modality:
            try:
                data = read_bytes(path, _NOUNS[modality], MAX_MEDIUM)
            except ValueError as error:
                yield UnreadableMedium(Where(str(path)), str(error))
            else:
                yield _decode(data, Where(str(path)), modality)
        elif lower.endswith(_UNREAD[modality]):
            yield UnreadableMedium(Where(str(path)), _unread(lower))


def read_again(where: Where, modality: Modality) -> Medium:
    """A medium once more, from where `read_media` found it.

    Raises ValueError where it is no longer there as it was.
    """
    if where.shard:
        with open_regular(where.shard, "shard") as file:
            data = os.pread(file.fileno(), min(where.size, MAX_MEDIUM), where.offset)
    else:
        data = read_bytes(where.file, _NOUNS[modality], MAX_MEDIUM)
    medium = _decode(data, where, modality)
    if isinstance(medium, UnreadableMedium):
        raise ValueError(f"{medium}; it could be read before, and has changed since")
    return medium


def sound_samples(
    media: Iterable[Medium | UnreadableMedium],
    max_broken: int | None = 0,
    tell: Callable[[UnreadableMedium], None] | None = None,
) -> Iterator[Medium]:
    """The samples among media; what is broken is told, up to a limit.

    max_broken: how many may be broken, None for any number; by default none. tell: called with each
    that is, before the limit is looked at.

    Raises ValueError at the first one beyond the limit, with file, shard, key and reason.
    """
    broken = 0
    for medium in media:
        if isinstance(medium, Medium):
            yield medium
            continue
        broken += 1
        if tell is not None:
            tell(medium)
        if max_broken is not None and broken > max_broken:
            count = f"; {broken} are broken, at most {max_broken} may be" if max_broken else ""
            raise ValueError(f"{medium}{count}")


def media_files(paths: Iterable[str | Path]) -> Iterator[tuple[Path, bool]]:
    """Files and whether they were named themselves, not found in a folder or by a pattern."""
    for text in paths:
        path = Path(text)
        try:
            if path.is_dir():
                yield from ((file, False) for file in _walk(path))
                continue
            if path.exists() or path.is_symlink():
                yield path, True
                continue
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise ValueError(f"cannot read {quoted(str(path))}: {error}") from None
        if not glob.has_magic(str(path)):
            raise ValueError(f"there is nothing at {path}; build data first (unified data build)")
        matches = sorted(glob.glob(str(path), recursive=True))
        if not matches:
            raise ValueError(f"nothing matches {path}; build the data first")
        for match in map(Path, matches):
            if match.is_dir():
                yield from ((file, False) for file in _walk(match))
            else:
                yield match, False


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise ValueError(f"folder {error.filename} cannot be read: {error.strerror}")

    walk = os.walk(folder, onerror=refuse)
    yield from sorted(Path(path) / name for path, _, names in walk for name in names)


def _read_shard(path: Path, modality: Modality) -> Iterator[Medium | UnreadableMedium]:
    key = ""
    try:
        with open_regular(path, "shard") as file:
            size = os.fstat(file.fileno()).st_size

            def read(offset: int, count: int) -> bytes:
                return os.pread(file.fileno(), count, offset)

            for member in scan_members(read, 0, size):
                key = _key(member.name)
                where = Where(member.name, str(path), key, member.offset, member.size)
                yield from _read_member(file, member, where, modality)
    except (ValueError, OSError) as error:
        after = f"after sample {quoted(key)}: " if key else ""
        yield UnreadableMedium(Where("", str(path)), f"{after}{error}")


def _read_member(
    file: IO[bytes], member: Member, where: Where, modality: Modality
) -> Iterator[Medium | UnreadableMedium]:
    lower = member.name.lower()
    if lower.endswith(_UNREAD[modality]):
        yield UnreadableMedium(where, _unread(lower))
    if media_kind(lower) != modality or member.kind == "folder":
        return
    if member.kind != "file":
        yield UnreadableMedium(where, f"it is a {member.kind}, expected a regular file")
    elif member.size > MAX_MEDIUM:
        yield UnreadableMedium(
            where, f"it is {member.size:,} bytes long, expected at most {MAX_MEDIUM:,}"
        )
    else:
        data = os.pread(file.fileno(), member.size, member.offset)
        if len(data) < member.size:
            yield UnreadableMedium(where, "the shard has become shorter since it was opened")
        else:
            yield _decode(data, where, modality)


def _decode(data: bytes, where: Where, modality: Modality) -> Medium | UnreadableMedium:
    name = quoted(where.file.rpartition("/")[2])
    try:
        if modality == "image":
            return Medium(where, decode_image(data, name))
        if modality == "video":
            frames, times = decode_video(data, name)
            return Medium(where, frames, times=times)
        return Medium(where, *decode_audio(data, name))
    except ValueError as error:
        return UnreadableMedium(where, str(error))


def _key(name: str) -> str:
    """The sample that a member belongs to: its name up to the first dot of the last part."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def _unread(name: str) -> str:
    return (
        f"{name[name.rindex('.') :]} files cannot be read; write PNG or JPEG, WAV or FLAC, or MP4"
    )

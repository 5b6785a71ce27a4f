"""Building an index: every shard and every group of files by itself, so that it can be stopped.

A part that is complete is not computed again: neither after a stop, nor where the index is built
once more because some of the data is new. `index.json` is written last, then parts that no longer
belong to it are removed: a reader finds the index as it was or as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unified.matching.media_index import (
    MARKER,
    IndexHeader,
    IndexPart,
    entries_path,
    open_search,
    vectors_path,
)
from unified.matching.tower import Tower
from unified_base.atomic import atomic_write
from unified_base.locks import hold_folder
from unified_base.media_source import (
    Medium,
    UnreadableMedium,
    Where,
    media_files,
    media_kind,
    read_media,
)
from unified_base.safetensors_files import read_header
from unified_base.structured import read_json

__all__ = ["IndexReport", "build_index"]

_GROUP = 1000  # files of a part
_BATCH = 64
_PART = "part-"


class IndexReport(NamedTuple):
    """What was built. media: in the index; parts: of it, computed: of those, now; broken: media
    that could not be read, over all parts."""

    media: int
    parts: int
    computed: int
    broken: int


def build_index(
    folder: str | os.PathLike[str],
    paths: Iterable[str | Path],
    tower: Tower,
    tower_name: str,
    progress: Callable[[int], None] = lambda done: None,
    tell: Callable[[UnreadableMedium], None] = lambda medium: None,
    max_broken: int = 0,
) -> IndexReport:
    """Index every picture of files, folders and shards; see `media_source.read_media` for paths.

    Args:
        folder: of the index; one that is there is brought up to date.
        tower_name: the tower's folder, which the index names.
        progress: called with the number of media so far.
        tell: called with each that cannot be read.
        max_broken: media that may be broken, over all; one more is an error.

    Raises:
        ValueError: there is an index by another tower, or something that is no index; no picture;
            too many that are broken; usearch missing.
    """
    open_search()
    target = Path(folder)
    _check_target(target, tower)
    with hold_folder(target, "indexes"):
        parts: list[IndexPart] = []
        computed, broken = 0, 0
        for unit in _units(paths):
            name = _name_of(unit, tower)
            part = _complete(target, name, tower.width)
            if part is None:
                left = max_broken - broken
                part = _compute(target, name, unit, tower, progress, tell,
                                sum(each.rows for each in parts), left)  # fmt: skip
                computed += 1
            broken += part.broken
            if broken > max_broken:
                raise ValueError(_too_many(broken, max_broken))
            parts.append(part)
            progress(sum(each.rows for each in parts))
        header = IndexHeader(1, "image", tower_name, tower.fingerprint, tower.width, tuple(parts))
        if not header.rows:
            raise ValueError(f"there is no picture in {', '.join(map(str, paths))}")
        atomic_write(target / MARKER, (json.dumps(header.to_json(), indent=1) + "\n").encode())
        _remove_others(target, {part.name for part in parts})
    return IndexReport(header.rows, len(parts), computed, broken)


def _check_target(target: Path, tower: Tower) -> None:
    """Raises ValueError where the folder holds something else."""
    if not target.is_dir():
        return
    names = [path.name for path in target.iterdir()]
    if MARKER in names:
        header = read_json(target / MARKER, 1 << 30)
        if header.get("fingerprint") != tower.fingerprint:
            raise ValueError(
                f"{target} is an index by a tower with the fingerprint"
                f" {header.get('fingerprint')}, this one has {tower.fingerprint}; give another"
                " folder, or remove it"
            )
    others = [n for n in names if n not in (MARKER, "lock") and not n.startswith((_PART, "."))]
    if others:
        raise ValueError(f"{target} holds {others[0]}, which is no part of an index; give another"
                         " folder")  # fmt: skip


def _units(paths: Iterable[str | Path]) -> Iterator[list[Path]]:
    """What makes a part: a shard, or up to 1,000 files that follow one another."""
    files: list[Path] = []
    for path, named in media_files(paths):
        if path.name.lower().endswith(".tar"):
            if files:
                yield files
            files = []
            yield [path]
        elif named or media_kind(path.name) == "image":
            files.append(path)
            if len(files) == _GROUP:
                yield files
                files = []
    if files:
        yield files


def _name_of(unit: list[Path], tower: Tower) -> str:
    """A part's name: another one for other files, other contents of them, and another tower."""
    digest = hashlib.sha256(tower.fingerprint.encode())
    for path in unit:
        try:
            status = path.stat()
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from None
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return f"{_PART}{digest.hexdigest()[:24]}"


def _complete(folder: Path, name: str, width: int) -> IndexPart | None:
    """The part, if it was computed: its entries are written last."""
    listed = entries_path(folder, name)
    if not listed.is_file():
        return None
    rows = read_json(listed, 1 << 30, list)
    header = read_header(vectors_path(folder, name))
    if header["vectors"].shape != (len(rows), width):
        return None
    return IndexPart(name, len(rows), header["broken"].shape[0])


def _compute(
    folder: Path,
    name: str,
    unit: list[Path],
    tower: Tower,
    progress: Callable[[int], None],
    tell: Callable[[UnreadableMedium], None],
    before: int,
    max_broken: int,
) -> IndexPart:
    from safetensors.numpy import save

    vectors, places = [np.zeros((0, tower.width), np.float16)], list[Where]()
    broken = 0

    def readable() -> Iterator[Medium]:
        nonlocal broken
        for medium in read_media(unit, "image"):
            if isinstance(medium, Medium):
                yield medium
                continue
            tell(medium)
            broken += 1
            if broken > max_broken:
                raise ValueError(f"{medium}; {_too_many(broken, max_broken)}")

    media = readable()
    while batch := list(islice(media, _BATCH)):
        vectors.append(tower.embed_pictures([medium.array for medium in batch]).astype(np.float16))
        places += [medium.where for medium in batch]
        progress(before + len(places))
    tensors: dict[str, np.ndarray] = {
        "vectors": np.concatenate(vectors),
        "broken": np.zeros(broken, np.uint8),
    }
    atomic_write(vectors_path(folder, name), save(tensors))
    rows = [[at.file, at.shard, at.key, at.offset, at.size] for at in places]
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    atomic_write(entries_path(folder, name), text.encode())
    return IndexPart(name, len(places), broken)


def _too_many(broken: int, most: int) -> str:
    return f"{broken} media are broken, at most {most} may be (--max-broken)"


def _remove_others(folder: Path, names: set[str]) -> None:
    """Remove parts of sources that are no longer indexed, or have changed."""
    for path in folder.iterdir():
        if path.name.startswith(_PART) and path.stem not in names:
            path.unlink(missing_ok=True)

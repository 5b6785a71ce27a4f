"""The index of a folder of shards: which there are, what each holds, and its checksum."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from unified_base.atomic import atomic_write
from unified_base.checksums import read_sealed, sealed_json
from unified_base.shard_sums import MAX_INDEX
from unified_base.text import quoted
from unified_data.document import keys_of

__all__ = ["INDEX", "ShardInfo", "count_fault", "is_shard_name", "read_index", "shard_info",
           "split_and_kind", "write_index"]  # fmt: skip

INDEX = "index.json"
_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.tar\Z")
_LEAST_SAMPLE = 1024
"""Bytes that a sample takes in a tar file at least: a header, and a block of its JSON."""
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class ShardInfo:
    """One line of the index: file name, split, kind of document, number of samples, bytes, and the
    SHA-256 of the file, which older indexes do not have."""

    file: str
    split: str
    kind: str
    samples: int
    bytes: int
    sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The line as JSON values."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def write_index(folder: str | Path, shards: Iterable[ShardInfo], **meta: Any) -> dict[str, Any]:
    """Write and return FOLDER/index.json: meta (seed, world version, ...), counts and shards.

    counts: samples by split and kind.
    """
    rows = sorted(shards, key=lambda shard: shard.file)
    counts: dict[str, dict[str, int]] = {}
    for shard in rows:
        split = counts.setdefault(shard.split, {})
        split[shard.kind] = split.get(shard.kind, 0) + shard.samples
    index = {**meta, "counts": counts, "shards": [shard.to_json() for shard in rows]}
    atomic_write(Path(folder) / INDEX, sealed_json(index, indent=1))
    return index


def read_index(folder: str | Path) -> dict[str, Any]:
    """The index of a folder of shards, its "shards" as ShardInfo. Raises ValueError if broken."""
    path = Path(folder) / INDEX
    if not path.exists():
        raise ValueError(f"{folder} has no {INDEX}; is it a folder of shards?")
    try:
        index, _ = read_sealed(path, MAX_INDEX)
        rows = index.get("shards") if isinstance(index, dict) else None
        if not isinstance(rows, list):
            raise ValueError(f"its 'shards' are {quoted(rows)}, expected a list")
        shards = [shard_info(row, f"shards[{number}]") for number, row in enumerate(rows)]
    except ValueError as error:
        reason = str(error).removeprefix(str(path)).strip()
        raise ValueError(f"{path} is not a shard index: {reason}") from None
    files = set[str]()
    for shard in shards:
        if shard.file in files:
            raise ValueError(f"{path} is not a shard index: {shard.file} stands in it twice")
        files.add(shard.file)
    return {**index, "shards": shards}


def split_and_kind(shard: Path) -> tuple[str, str]:
    """Of a shard, as the index of its folder says, or else its name: SPLIT-KIND-00000.tar."""
    if (shard.parent / INDEX).is_file():
        for info in read_index(shard.parent)["shards"]:
            if info.file == shard.name:
                return info.split, info.kind
    parts = shard.stem.split("-")
    return (parts[0], "-".join(parts[1:-1])) if len(parts) > 2 else ("train", "mixed")


def is_shard_name(name: str) -> bool:
    """Whether an index may name a file so: letters, digits, "." "-" and "_", ending in .tar."""
    return _FILE.match(name) is not None


def shard_info(row: Any, where: str) -> ShardInfo:
    """A line of an index. where: what an error calls it. Raises ValueError for any other value."""
    wanted = {field.name for field in fields(ShardInfo)}
    if not isinstance(row, dict) or set(row) | {"sha256"} != wanted:
        raise ValueError(f"{where} has {keys_of(row)}, expected just {', '.join(sorted(wanted))}")
    if not isinstance(row["file"], str) or not _FILE.match(row["file"]):
        raise ValueError(f"{where}.file {quoted(row['file'])} is no plain name ending in .tar")
    for name in ("split", "kind"):
        if not isinstance(row[name], str) or len(row[name]) > 200:
            raise ValueError(f"{where}.{name} is {quoted(row[name])}, expected a short text")
    for name in ("samples", "bytes"):
        if type(row[name]) is not int or row[name] < 0:
            raise ValueError(
                f"{where}.{name} is {quoted(row[name])}, expected a whole number, 0 or more"
            )
    digest = row.get("sha256")
    if digest is not None and not (isinstance(digest, str) and _DIGEST.match(digest)):
        raise ValueError(f"{where}.sha256 is {quoted(digest)}, expected 64 hexadecimal digits")
    return ShardInfo(**row)


def count_fault(path: Path, count: int) -> str | None:
    """Why a shard cannot hold the samples that an index says, None where it may.

    Seen from the file's size alone, so that no count is used for anything before it can be true.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    most = size // _LEAST_SAMPLE
    if count <= most:
        return None
    return (
        f"its {size:,} bytes hold {most:,} samples at most, {INDEX} says {quoted(count)} "
        "(samples); was it cut off? build it again"
    )

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
from unified_base.text import shown

__all__ = ["INDEX", "ShardInfo", "read_index", "write_index"]

INDEX = "index.json"
_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.tar\Z")
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
            raise ValueError("it has no list of shards")
        return {**index, "shards": [_shard_info(row) for row in rows]}
    except ValueError as error:
        reason = str(error).removeprefix(str(path)).strip()
        raise ValueError(f"{path} is not a shard index: {reason}") from None


def _shard_info(row: Any) -> ShardInfo:
    wanted = {field.name for field in fields(ShardInfo)}
    if not isinstance(row, dict) or set(row) | {"sha256"} != wanted:
        raise ValueError(f"one of its shards has not just {', '.join(sorted(wanted))}")
    shard = ShardInfo(**row)
    names = all(isinstance(name, str) for name in (shard.file, shard.split, shard.kind))
    if not names or not _FILE.match(shard.file):
        raise ValueError(f"its file {shown(shard.file)} is no plain name ending in .tar")
    for count in (shard.samples, shard.bytes):
        if type(count) is not int or count < 0:
            raise ValueError(f"{shard.file} has count {shown(count)}, expected a whole number")
    digest = shard.sha256
    if digest is not None and not (isinstance(digest, str) and _DIGEST.match(digest)):
        raise ValueError(f"{shard.file} has sha256 {shown(digest)}, expected 64 hexadecimal digits")
    return shard

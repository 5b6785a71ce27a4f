"""Checksums of a shard: of the whole, and of each sample, so that damage is named by its key.

Beside SHARD.tar lies SHARD.tar.sums, a text file:

    unified-sums 1 BYTES SHA256          of the shard
    CRC32 END KEY                        of each sample: where it ends, in bytes
    sha256 SHA256                        of the lines above

About 30 bytes a sample: 300 KB beside a shard of 10,000. A sample reaches from the end of the one
before it, headers and filling included, so that nothing but the shard's end mark is outside.
"""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unified_base.checksums import file_sha256, read_sealed
from unified_base.files import open_regular, read_bytes
from unified_base.text import quoted

__all__ = [
    "CHANGED", "MAX_INDEX", "Damage", "ShardSums", "index_sha256_of", "make_sums", "read_sums",
    "sums_keys", "sums_path", "verify_shard",
]  # fmt: skip

MAX_INDEX = 256 << 20
"""Bytes that the index of a folder of shards may have."""
_MAX_SUMS = 256 << 20
_HEAD = re.compile(r"unified-sums 1 ([0-9]{1,18}) ([0-9a-f]{64})\Z")
_ROW = re.compile(r"([0-9a-f]{8}) ([0-9]{1,18}) ([A-Za-z0-9_-]+)\Z")
CHANGED = "its bytes have changed since they were written (checksum); the file is damaged"


class Damage(NamedTuple):
    """A sample whose bytes have changed, or with key "" what cannot be told from its key."""

    key: str
    reason: str


class ShardSums(NamedTuple):
    """What a file of sums says: bytes and SHA-256 of the shard; of its samples, each with its key
    left out, CRC-32 and where it ends."""

    bytes: int
    sha256: str
    crcs: array[int]
    ends: array[int]


def sums_path(shard: str | Path) -> Path:
    """Where a shard's sums lie."""
    return Path(f"{shard}.sums")


def make_sums(shard: Path, keys: Sequence[str], ends: Sequence[int]) -> tuple[str, bytes]:
    """The SHA-256 of a complete shard, and what its file of sums holds.

    keys, ends: of its samples in their order. Raises ValueError where the shard cannot be read.
    """
    digest, size, rows, start = hashlib.sha256(), 0, list[str](), 0
    with open_regular(shard, "shard") as file:
        for key, end in zip(keys, ends, strict=True):
            data = file.read(end - start)
            digest.update(data)
            rows.append(f"{zlib.crc32(data):08x} {end} {key}\n")
            size, start = size + len(data), end
        while data := file.read(1 << 20):
            digest.update(data)
            size += len(data)
    body = f"unified-sums 1 {size} {digest.hexdigest()}\n{''.join(rows)}".encode()
    return digest.hexdigest(), body + f"sha256 {hashlib.sha256(body).hexdigest()}\n".encode()


def read_sums(shard: str | Path) -> ShardSums | None:
    """What the file of sums beside a shard says, None where there is none.

    Raises:
        ValueError: it is damaged or no such file.
    """
    path = sums_path(shard)
    if not os.path.lexists(path):
        return None
    lines = _lines(path)
    head = _HEAD.match(next(lines, ""))
    assert head is not None  # checked
    crcs, ends = array("I"), array("q")
    for line in lines:
        row = _ROW.match(line)
        if row is None or int(row[2]) <= (ends[-1] if ends else 0):
            raise ValueError(f"{path} has the line {quoted(line)}, expected CRC32, end and key")
        crcs.append(int(row[1], 16))
        ends.append(int(row[2]))
    return ShardSums(int(head[1]), head[2], crcs, ends)


def sums_keys(shard: str | Path) -> list[str]:
    """The keys in the file of sums beside a shard. Raises ValueError as `read_sums` does."""
    return [line.rpartition(" ")[2] for line in list(_lines(sums_path(shard)))[1:]]


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file of sums but its last, which is checked, as is the first."""
    data = read_bytes(path, "checksums", _MAX_SUMS)
    body, last = data[:-72], data[-72:]
    if last != f"sha256 {hashlib.sha256(body).hexdigest()}\n".encode():
        raise ValueError(
            f"{path} is damaged: it does not have the checksum it was written with; remove it to"
            " read the shard without"
        )
    lines = body.decode("ascii", "replace").splitlines()
    if not lines or not _HEAD.match(lines[0]):
        raise ValueError(f"{path} is no file of a shard's checksums; remove it")
    return iter(lines)


# Looking a shard over.

_seen: dict[tuple[str, int, int, str], tuple[Damage, ...]] = {}
"""What this process has verified: file, bytes, time and what it is to be."""


def verify_shard(shard: str | Path, again: bool = False) -> tuple[Damage, ...] | None:
    """What has changed in a shard since it was written: nothing, (); None where it has no checksum.

    It is compared with the index of its folder and the sums beside it. The whole file is read,
    about 1 GB a second, once in a process while its size and time stay (again: even then).

    Raises:
        ValueError: the shard or its sums cannot be read, or the sums are of another shard.
    """
    path = Path(shard)
    sums = read_sums(path)
    wanted = index_sha256_of(path) or (sums.sha256 if sums else None)
    if wanted is None:
        return None
    if sums is not None and sums.sha256 != wanted:
        raise ValueError(
            f"{sums_path(path)} and the index beside it are of different shards; build them again"
        )
    status = os.stat(path)
    cache_key = f"{os.path.realpath(path)} {'with' if sums else 'without'} sums"
    known = (cache_key, status.st_size, status.st_mtime_ns, wanted)
    if again or known not in _seen:
        sound = file_sha256(path, "shard") == wanted
        _seen[known] = () if sound else tuple(_damaged(path, sums))
    return _seen[known]


def _damaged(shard: Path, sums: ShardSums | None) -> Iterator[Damage]:
    if sums is None:
        yield Damage("", f"{CHANGED}; which sample it is cannot be told")
        return
    size = shard.stat().st_size
    if size != sums.bytes:
        yield Damage("", f"it is {size:,} bytes long, its checksums are of {sums.bytes:,}; was it"
                         " cut off, or built again?")  # fmt: skip
        return
    keys, start, clean = sums_keys(shard), 0, True
    with open_regular(shard, "shard") as file:
        for key, crc, end in zip(keys, sums.crcs, sums.ends):
            if zlib.crc32(file.read(end - start)) != crc:
                clean = False
                yield Damage(key, CHANGED)
            start = end
    if clean:
        yield Damage("", f"after its last sample {CHANGED}")


def index_sha256_of(shard: Path) -> str | None:
    """What index.json beside a shard says that its checksum is, None where it says nothing.

    Raises:
        ValueError: the index is damaged.
    """
    index = shard.parent / "index.json"
    if not index.is_file():
        return None
    status = os.stat(index)
    key = (os.path.realpath(index), status.st_size, status.st_mtime_ns)
    if _last_index.get("key") != key:
        _last_index.update(key=key, digests=_digests(index))
    digest = _last_index["digests"].get(shard.name)
    return digest if isinstance(digest, str) else None


_last_index: dict[str, Any] = {}


def _digests(index: Path) -> dict[str, Any]:
    entries, _ = read_sealed(index, MAX_INDEX)
    rows = entries.get("shards") if isinstance(entries, dict) else None
    return {
        row["file"]: row.get("sha256")
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict) and isinstance(row.get("file"), str)
    }

"""Random access to the samples of one shard, of documents or of stored codes.

The headers are read once; a sample's members lie together, so fetching one is a single read. What
is held is a file descriptor and 12 bytes a sample: never the contents, nor the keys. Where the
shard's checksums lie beside it (`unified_base.shard_sums`) every sample that is read is compared.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from unified_base.shard_sums import CHANGED, read_sums, sums_keys
from unified_base.structured import parse_json
from unified_base.tar_members import Member, scan_members
from unified_data.segments import media_classes

__all__ = ["MAX_SAMPLE", "ShardFile"]

MAX_SAMPLE = 1 << 30
"""Bytes of the shard that one sample may take up."""

KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_POSITION = re.compile(r"[0-9]+\Z")


def _is_extension(extension: str) -> bool:
    """Whether a member KEY.EXTENSION is the JSON of a sample, or media or codes of a segment."""
    position, _, ending = extension.partition(".")
    if extension == "json" or not _POSITION.match(position):
        return extension == "json"
    return ending == "codes" or any(ending in cls.endings for cls in media_classes().values())


class ShardFile:
    """The samples of one shard by number: `len(shard)`, `shard.key(i)`, `shard.parts(i)`.

    Neighbouring members KEY.* are one sample. Reading is safe from several threads and from
    processes forked after opening. A context manager; closed when it is collected, too.

    tolerant: a shard that is corrupt from some byte on keeps the samples before it, and `damage`
    says what is wrong; otherwise that is a ValueError. `parts` finds each sample's own faults.

    Raises ValueError, naming the shard, when it cannot be read.
    """

    damage: str | None = None

    def __init__(self, path: str | Path, tolerant: bool = False) -> None:
        self.path = Path(path)
        self._fd = -1
        try:
            # Without waiting: a named pipe would never answer.
            self._fd = os.open(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            status = os.fstat(self._fd)
        except OSError as error:
            raise ValueError(f"shard {path} cannot be read: {error.strerror or error}") from None
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise ValueError(f"shard {path} cannot be read: it is not a regular file")
        self._size = status.st_size
        self._crcs: array[int] | None = None
        # Sample i lies in [_starts[i], _starts[i + 1]).
        self._starts = array("q")
        end, last = 0, ""
        try:
            if self._read(0, 263)[257:262] != b"ustar" and not self._is_empty():
                raise ValueError("not an uncompressed tar file; was it cut off?")
            for member in scan_members(self._read, 0, self._size):
                key = _key_of(member)
                if key is None or key != last:
                    self._starts.append(member.start)
                end, last = member.end, key or shown_key(member.name)
        except (ValueError, OSError) as error:
            self.damage = f"{f'after sample {last}' if last else 'at its start'}: {error}"
        self._starts.append(min(end, self._size))  # a cut may lie in the filling after a member
        try:
            self._take_sums()
            if self.damage is not None and not tolerant:
                raise ValueError(f"shard {path}, {self.damage}")
        except ValueError:
            self.close()
            raise

    def _take_sums(self) -> None:
        """Use the checksums beside the shard, if there are any.

        They say where the samples lie, too: one whose header is damaged does not hide the rest.
        """
        sums = read_sums(self.path)
        if sums is None:
            return
        if self._size != sums.bytes:
            wrong = f"it is {self._size:,} bytes long, its checksums are of {sums.bytes:,}"
            self.damage = self.damage or f"{wrong}; was it cut off, or built again?"
        elif self._starts[1:] != sums.ends:
            if self.damage is None:
                self.damage = "its samples lie elsewhere than its checksums say; build it again"
            elif sums.ends and sums.ends[-1] <= self._size:
                self._starts, self.damage = array("q", [0, *sums.ends]), None
        if self.damage is None:
            self._crcs = sums.crcs

    def __len__(self) -> int:
        return len(self._starts) - 1

    def key(self, i: int) -> str:
        """The key of sample i (letters, digits, - and _). Keys may repeat."""
        i = self._number(i)
        start, end = self._starts[i], self._starts[i + 1]
        try:
            return _shown(next(scan_members(self._read, start, end, whole=False)))
        except (ValueError, OSError) as error:
            if self._crcs is not None:
                return sums_keys(self.path)[i]
            raise ValueError(f"shard {self.path}, sample number {i}: {error}") from None

    def parts(self, i: int) -> tuple[str, Any, dict[str, bytes]]:
        """Key, JSON value and media bytes by member name of sample i.

        Raises ValueError naming shard and sample where a member is no regular file or of another
        name than KEY.json or KEY.POSITION.EXTENSION, appears twice, is missing (the JSON), or is
        larger than the limits above. Whether document and media belong together is for the
        document's reader to say.
        """
        i = self._number(i)
        start, end = self._starts[i], self._starts[i + 1]
        name = f"number {i}"
        try:
            if end - start > MAX_SAMPLE:
                name = self.key(i)
                raise ValueError(
                    f"it is {end - start:,} bytes long, expected at most {MAX_SAMPLE:,}"
                )
            data = self._read(start, end - start)
            if len(data) < end - start:
                raise ValueError("the shard has become shorter since it was opened")
            if self._crcs is not None and zlib.crc32(data) != self._crcs[i]:
                name = self.key(i)
                raise ValueError(_changed(name, data))
            members = list(_members(data))
            name = _shown(members[0][0])
            return name, *_parts(name, members)
        except (ValueError, OSError) as error:
            raise ValueError(f"shard {self.path}, sample {name}: {error}") from None

    def close(self) -> None:
        """Give the file descriptor back; nothing can be read after that."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> ShardFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _number(self, i: int) -> int:
        if not 0 <= i < len(self):
            raise IndexError(f"shard {self.path} has {len(self)} samples, {i} was asked for")
        return i

    def _read(self, offset: int, count: int) -> bytes:
        return os.pread(self._fd, count, offset)

    def _is_empty(self) -> bool:
        return self._size >= 1024 and not self._read(0, 1024).strip(b"\0")


def _changed(key: str, data: bytes) -> str:
    """What is wrong with a sample whose bytes have changed: what its reader meets, if anything."""
    try:
        _parts(key, _members(data))
    except ValueError as error:
        return f"{error}; {CHANGED}"
    return CHANGED


def _members(data: bytes) -> Iterator[tuple[Member, bytes]]:
    """The members of one sample with what they hold."""

    def read(offset: int, count: int) -> bytes:
        return data[offset : offset + count]

    for member in scan_members(read, 0, len(data), whole=False):
        yield member, read(member.offset, member.size)


def _parts(key: str, members: Iterable[tuple[Member, bytes]]) -> tuple[Any, dict[str, bytes]]:
    media: dict[str, bytes] = {}
    for member, content in members:
        if _key_of(member) is None:
            raise ValueError(_complaint(member))
        if member.name in media:
            raise ValueError(f"member {member.name!r} is there twice")
        media[member.name] = content
    text = media.pop(f"{key}.json", None)
    if text is None:
        raise ValueError(f"there is no {key}.json")
    return parse_json(text, f"{key}.json"), media


def shown_key(name: str) -> str:
    """What stands for the key of a member whose name has none: safe to print and to file under."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:100] or "_"


def _shown(member: Member) -> str:
    return _key_of(member) or shown_key(member.name)


def _key_of(member: Member) -> str | None:
    """The key of a member that may be in a shard, None for any other."""
    key, _, extension = member.name.partition(".")
    sound = member.kind == "file" and KEY.match(key) and _is_extension(extension)
    return key if sound else None


def _complaint(member: Member) -> str:
    name = member.name[:200]
    if member.kind != "file":
        return f"member {name!r} is a {member.kind}, expected a regular file"
    return f"member {name!r} is not KEY.json or KEY.POSITION.EXTENSION"

"""Shards: tar files of documents in WebDataset's layout, and the index beside them.

A sample KEY is KEY.json followed by its media KEY.POSITION.EXTENSION. Checksums of the shard and of
its samples lie beside it (`unified_base.shard_sums`). Reading goes through
`shard_file`, with a fixed list of extensions: no URL schemes, no pipes, no links, no decoders
chosen by file name, no pickles.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from unified_base.atomic import atomic_write
from unified_base.disk import naming_full_disk
from unified_base.leftovers import claim, partial_path, remove_leftovers_of
from unified_base.shard_sums import make_sums, sums_path
from unified_base.text import quoted
from unified_data.document import Document
from unified_data.segments import media_classes
from unified_data.shard_file import ShardFile
from unified_data.shard_index import INDEX, ShardInfo, read_index, write_index

__all__ = [
    "INDEX", "CorruptSample", "ShardInfo", "ShardWriter", "add_sample", "document_of",
    "publish_shard", "read_index", "read_samples", "read_shards", "shard_paths", "write_index",
]  # fmt: skip

_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


@dataclass(frozen=True)
class CorruptSample:
    """A sample, or with key "" the rest of a shard, that cannot be read. shard: its path."""

    shard: str
    key: str
    reason: str

    def __str__(self) -> str:
        return f"shard {self.shard}, {f'sample {self.key}: ' if self.key else ''}{self.reason}"


class ShardWriter:
    """Writes documents into SPLIT-KIND-00000.tar, ...; a context manager.

    A shard is closed when it holds max_samples or has reached max_bytes, but not between documents
    that belong together. Each is written beside
    its place and renamed when complete. Equal documents in equal order give equal bytes. When the
    block ends in an error the shard at hand is removed.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str,
        kind: str,
        max_bytes: int = 256_000_000,
        max_samples: int = 10_000,
    ) -> None:
        for name in (split, kind):
            if not _KEY.match(name):
                raise ValueError(f"shard name part {name!r}, expected letters, digits, - and _")
        self.folder = Path(folder)
        self.split, self.kind = split, kind
        self.max_bytes, self.max_samples = max_bytes, max_samples
        self.shards: list[ShardInfo] = []
        self._tar: tarfile.TarFile | None = None
        self._file: IO[bytes] | None = None
        self._keys, self._ends = list[str](), list[int]()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot create folder {folder}: {error.strerror}") from None
        remove_leftovers_of(self.folder, ".tar")

    @property
    def samples(self) -> int:
        """Samples written so far, over all shards."""
        return len(self._keys) + sum(shard.samples for shard in self.shards)

    def write(self, key: str, document: Document) -> None:
        """Append a document. key: letters, digits, - and _, unique in its shard."""
        self.write_parts(key, *document.to_parts(key))

    def write_parts(
        self, key: str, obj: dict[str, Any], media: dict[str, bytes], joined: bool = False
    ) -> None:
        """Append a document already taken apart by `Document.to_parts(key)`.

        joined: the next one will be in the same shard.
        """
        if self._tar is None:
            self._open()
        assert self._tar is not None
        with naming_full_disk(self._path):
            add_sample(self._tar, key, obj, media)
        self._keys.append(key)
        self._ends.append(self._tar.offset)
        full = len(self._keys) >= self.max_samples or self._tar.offset >= self.max_bytes
        if full and not joined:
            self._close()

    def close(self) -> None:
        """Complete the shard at hand."""
        if self._tar is not None:
            self._close()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        elif self._tar is not None:
            self._partial.unlink(missing_ok=True)
            with suppress(OSError):  # a full disk does not take what is still to be written
                self._tar.close()
            self._tar = None
            self._close_file()

    def _open(self) -> None:
        self._path = self.folder / f"{self.split}-{self.kind}-{len(self.shards):05d}.tar"
        self._partial = partial_path(self._path)
        try:
            self._file = open(self._partial, "w+b")  # noqa: SIM115
            claim(self._file.fileno())
            self._tar = tarfile.open(  # noqa: SIM115
                fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT
            )
        except OSError as error:
            raise ValueError(f"cannot write {self._path}: {error.strerror}") from None

    def _close(self) -> None:
        assert self._tar is not None
        with naming_full_disk(self._path):
            self._tar.close()
            assert self._file is not None
            self._file.flush()
        self._tar = None
        digest = publish_shard(self._partial, self._path, self._keys, self._ends)
        self._close_file()  # its lock goes after its partial name
        size, samples = self._path.stat().st_size, len(self._keys)
        row = ShardInfo(self._path.name, self.split, self.kind, samples, size, digest)
        self.shards.append(row)
        self._keys, self._ends = [], []

    def _close_file(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None


def publish_shard(partial: Path, path: Path, keys: list[str], ends: list[int]) -> str:
    """Put a complete shard into its place, its checksums beside it; returns its SHA-256.

    keys, ends: of its samples; a sample ends where the next one's header begins.
    """
    digest, sums = make_sums(partial, keys, ends)
    sums_path(path).unlink(missing_ok=True)  # those of what stood here before
    os.replace(partial, path)
    atomic_write(sums_path(path), sums)
    return digest


def add_sample(
    tar: tarfile.TarFile, key: str, obj: dict[str, Any], media: Mapping[str, bytes]
) -> None:
    """Append a sample to an open shard. key: letters, digits, - and _."""
    if not _KEY.match(key):
        raise ValueError(f"sample key {key!r}, expected letters, digits, - and _")
    text = json.dumps(obj, ensure_ascii=False, separators=(",", ":"))
    for name, data in {f"{key}.json": text.encode("utf-8"), **media}.items():
        assert name.startswith(f"{key}."), name
        member = tarfile.TarInfo(name)  # time, owner and mode stay at fixed defaults
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))


def shard_paths(
    source: str | Path | Iterable[str | Path],
    split: str | None = None,
    kinds: Iterable[str] | None = None,
) -> list[tuple[Path, int | None]]:
    """The tar files of a folder with an index, or those given; how many samples each must hold.

    split, kinds: only those shards of the folder. None for a count that no index states.
    Raises ValueError for a split or kind that is not there.
    """
    if not (isinstance(source, str | Path) and Path(source).is_dir()):
        if split is not None or kinds is not None:
            raise ValueError(f"split and kinds need a folder with {INDEX}, found {source}")
        paths = [source] if isinstance(source, str | Path) else source
        return [(Path(path), None) for path in paths]
    shards = read_index(source)["shards"]
    wanted = None if kinds is None else set(kinds)
    for known, asked, name in (
        ({s.split for s in shards}, {split} - {None}, "split"),
        ({s.kind for s in shards}, wanted or set(), "kind"),
    ):
        if asked - known:
            raise ValueError(f"{source} has no {name} {asked - known}, only {sorted(known)}")
    return [
        (Path(source) / shard.file, shard.samples)
        for shard in shards
        if split in (None, shard.split) and (not wanted or shard.kind in wanted)
    ]


def read_shards(
    source: str | Path | Iterable[str | Path],
    split: str | None = None,
    kinds: Iterable[str] | None = None,
) -> Iterator[tuple[str, Document]]:
    """The documents of shards, in order, with their keys.

    source: a folder with an index (its counts are checked, so a shard cut off at a sample's edge
    is noticed), or tar files. split, kinds: only those shards of the folder.

    Raises ValueError naming shard and sample for anything that is not a sound document.
    """
    for sample in read_samples(source, split, kinds):
        if isinstance(sample, CorruptSample):
            raise ValueError(str(sample))
        yield sample


def read_samples(
    source: str | Path | Iterable[str | Path],
    split: str | None = None,
    kinds: Iterable[str] | None = None,
) -> Iterator[tuple[str, Document] | CorruptSample]:
    """As `read_shards`, but a broken sample is a `CorruptSample` and reading goes on after it.

    A tar file that is corrupt from some byte on gives the samples before it, then one without
    a key. One that cannot be opened at all is one too. Still a ValueError: a broken index.
    """
    for path, count in shard_paths(source, split, kinds):
        try:
            shard = ShardFile(path, tolerant=True)
        except ValueError as error:
            yield CorruptSample(str(path), "", str(error).removeprefix(f"shard {path} "))
            continue
        with shard:
            if shard.damage is None and count not in (None, len(shard)):
                shard.damage = (
                    f"it holds {len(shard)} samples, {INDEX} says {count}; "
                    "was it cut off? build it again"
                )
            for i in range(len(shard)):
                where = f"shard {path}, sample {shard.key(i)}: "
                try:
                    sample = shard.key(i), document_of(*shard.parts(i))
                except ValueError as error:
                    yield CorruptSample(str(path), shard.key(i), str(error).removeprefix(where))
                else:
                    yield sample
            if shard.damage is not None:
                yield CorruptSample(str(path), "", shard.damage)


def document_of(key: str, obj: Any, media: Mapping[str, bytes]) -> Document:
    """The document of a sample's parts. Raises ValueError where media is missing or left over."""
    unused = set(media)

    def read(name: str) -> bytes:
        if name not in media:
            raise ValueError(f"media file {quoted(name)} is not in the shard")
        unused.discard(name)
        return media[name]

    document = Document.from_parts(obj, read)
    for position, row in enumerate(obj["segments"]):
        # Those of codes are not among them, and places have no files.
        cls = media_classes().get(row["type"]) if "file" in row else None
        endings = cls.endings if cls is not None else ()
        if endings and row["file"].rpartition(".")[2] not in endings:
            raise ValueError(
                f"segment {position}: {row['type']} file {quoted(row['file'])} does not end in "
                f"{', '.join(endings)}; is it of another kind?"
            )
    if unused:
        raise ValueError(f"there is media that the document does not use: {quoted(sorted(unused))}")
    return document

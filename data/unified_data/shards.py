"""Shards: tar files of documents in WebDataset's layout, and the index beside them.

A sample KEY is KEY.json followed by its media KEY.POSITION.EXTENSION. Reading goes through
webdataset's tar iterators over files that we open ourselves, with a fixed list of extensions: no
URL schemes, no pipes, no decoders chosen by file name, no pickles.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unified_data.document import Document
from unified_data.files import atomic_write

INDEX = "index.json"
_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_EXTENSION = re.compile(r"(json|[0-9]+\.(png|jpg|webp|flac|wav))\Z")


@dataclass(frozen=True)
class ShardInfo:
    """One line of the index: file name, split, kind of document, number of samples, bytes."""

    file: str
    split: str
    kind: str
    samples: int
    bytes: int


class ShardWriter:
    """Writes documents into SPLIT-KIND-00000.tar, ...; a context manager.

    A shard is closed when it holds max_samples or has reached max_bytes. Each is written beside
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
        self._samples = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot create folder {folder}: {error.strerror}") from None

    @property
    def samples(self) -> int:
        """Samples written so far, over all shards."""
        return self._samples + sum(shard.samples for shard in self.shards)

    def write(self, key: str, document: Document) -> None:
        """Append a document. key: letters, digits, - and _, unique in its shard."""
        self.write_parts(key, *document.to_parts(key))

    def write_parts(self, key: str, obj: dict[str, Any], media: dict[str, bytes]) -> None:
        """Append a document already taken apart by `Document.to_parts(key)`."""
        if not _KEY.match(key):
            raise ValueError(f"sample key {key!r}, expected letters, digits, - and _")
        if self._tar is None:
            self._open()
        assert self._tar is not None
        text = json.dumps(obj, ensure_ascii=False, separators=(",", ":"))
        for name, data in {f"{key}.json": text.encode("utf-8"), **media}.items():
            assert name.startswith(f"{key}."), name
            member = tarfile.TarInfo(name)  # time, owner and mode stay at fixed defaults
            member.size = len(data)
            self._tar.addfile(member, io.BytesIO(data))
        self._samples += 1
        if self._samples >= self.max_samples or self._tar.offset >= self.max_bytes:
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
            self._tar.close()
            self._tar = None
            self._partial.unlink(missing_ok=True)

    def _open(self) -> None:
        self._path = self.folder / f"{self.split}-{self.kind}-{len(self.shards):05d}.tar"
        self._partial = self.folder / f".{self._path.name}.partial"
        try:
            self._tar = tarfile.open(self._partial, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        except OSError as error:
            raise ValueError(f"cannot write {self._path}: {error.strerror}") from None

    def _close(self) -> None:
        assert self._tar is not None
        self._tar.close()
        self._tar = None
        os.replace(self._partial, self._path)
        size = self._path.stat().st_size
        self.shards.append(ShardInfo(self._path.name, self.split, self.kind, self._samples, size))
        self._samples = 0


def write_index(folder: str | Path, shards: Iterable[ShardInfo], **meta: Any) -> dict[str, Any]:
    """Write and return FOLDER/index.json: meta (seed, world version, ...), counts and shards.

    counts: samples by split and kind.
    """
    rows = sorted(shards, key=lambda shard: shard.file)
    counts: dict[str, dict[str, int]] = {}
    for shard in rows:
        split = counts.setdefault(shard.split, {})
        split[shard.kind] = split.get(shard.kind, 0) + shard.samples
    index = {**meta, "counts": counts, "shards": [asdict(shard) for shard in rows]}
    text = json.dumps(index, indent=1, ensure_ascii=False) + "\n"
    atomic_write(Path(folder) / INDEX, text.encode("utf-8"))
    return index


def read_index(folder: str | Path) -> dict[str, Any]:
    """The index of a folder of shards, its "shards" as ShardInfo. Raises ValueError if broken."""
    path = Path(folder) / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        index["shards"] = [ShardInfo(**row) for row in index["shards"]]
    except FileNotFoundError:
        raise ValueError(f"{folder} has no {INDEX}; is it a folder of shards?") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a shard index: {error}") from None
    return index


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
    if isinstance(source, str | Path) and Path(source).is_dir():
        shards = read_index(source)["shards"]
        wanted = None if kinds is None else set(kinds)
        for known, asked, name in (
            ({s.split for s in shards}, {split} - {None}, "split"),
            ({s.kind for s in shards}, wanted or set(), "kind"),
        ):
            if asked - known:
                raise ValueError(f"{source} has no {name} {asked - known}, only {sorted(known)}")
        for shard in shards:
            if split not in (None, shard.split) or (wanted and shard.kind not in wanted):
                continue
            count = 0
            for sample in _read_shard(Path(source) / shard.file):
                count += 1
                yield sample
            if count != shard.samples:
                raise ValueError(
                    f"shard {shard.file} holds {count} samples, {INDEX} says {shard.samples}; "
                    "was it cut off? build it again"
                )
        return
    if split is not None or kinds is not None:
        raise ValueError(f"split and kinds need a folder with {INDEX}, found {source}")
    for path in [source] if isinstance(source, str | Path) else source:
        yield from _read_shard(Path(path))


def _read_shard(path: Path) -> Iterator[tuple[str, Document]]:
    # Imported here: webdataset imports torch, which nothing else in this package needs.
    from webdataset.tariterators import group_by_keys, tar_file_expander

    def checked(name: str) -> bool:
        key, _, extension = name.partition(".")
        if not _KEY.match(key) or not _EXTENSION.match(extension):
            raise ValueError(f"member {name!r} is not KEY.json or KEY.POSITION.EXTENSION")
        return True

    where = "at its start"
    try:
        with open(path, "rb") as stream:
            if stream.read(263)[257:262] != b"ustar":
                raise ValueError("not an uncompressed tar file; was it cut off?")
            stream.seek(0)
            entries = tar_file_expander(
                [{"url": path.name, "stream": stream}], select_files=checked
            )
            for sample in group_by_keys(entries):
                key = sample["__key__"]
                where = f"sample {key}"
                yield key, _document(key, sample)
                where = f"after sample {key}"
    except OSError as error:
        raise ValueError(f"shard {path} cannot be read: {error.strerror or error}") from None
    except (ValueError, tarfile.TarError) as error:
        reason = str(error.args[0] if error.args else error).split(" @ <")[0]  # webdataset's note
        raise ValueError(f"shard {path}, {where}: {reason}") from error


def _document(key: str, sample: dict[str, Any]) -> Document:
    media = {
        f"{key}.{extension}": data
        for extension, data in sample.items()
        if not extension.startswith("__") and extension != "json"
    }
    unused = set(media)

    def read(name: str) -> bytes:
        if name not in media:
            raise ValueError(f"media file {name!r} is not in the shard")
        unused.discard(name)
        return media[name]

    if "json" not in sample:
        raise ValueError(f"there is no {key}.json")
    try:
        obj = json.loads(sample["json"])
    except ValueError as error:
        raise ValueError(f"{key}.json is not JSON: {error}") from None
    document = Document.from_parts(obj, read)
    if unused:
        raise ValueError(f"there is media that the document does not use: {sorted(unused)}")
    return document

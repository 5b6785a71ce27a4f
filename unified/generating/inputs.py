"""What is to be filled: documents of JSON lines and of shards, in parts that become a shard each.

A JSON line is a document's JSON object (`unified_data.document`), its media files named from the
folder of the lines; it may have a "key" for its sample and a "seed" of its own. The JSON of a
shard's sample may have a "seed" as well. Documents are numbered over all inputs, from 0.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from unified.dataloading.source_samples import find_shards
from unified.dataloading.stored_codes import read_stored_codes
from unified_base.arguments import seed_of
from unified_base.checksums import file_sha256
from unified_base.files import open_regular, read_bytes
from unified_base.shard_sums import read_sums
from unified_base.structured import MAX_JSON, parse_json
from unified_base.text import quoted
from unified_data.document import Document
from unified_data.shard_file import ShardFile
from unified_data.shard_index import is_shard_name, split_and_kind
from unified_data.shards import document_of

__all__ = ["InputDocument", "InputFile", "InputPart", "Unfilled", "list_inputs", "read_part"]

LINES = (".jsonl", ".ndjson")
_KEY = re.compile(r"[A-Za-z0-9_-]{1,200}\Z")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class InputPart:
    """Documents that become one shard.

    Attributes:
        path: of the file that has them.
        target: name of the shard that they become. split, kind: of it.
        first: number of the first of them, over all inputs.
        count: how many there are.
        start, line: where they begin in a file of JSON lines, in bytes and lines; a shard is a part
            as a whole.
    """

    path: str
    target: str
    split: str
    kind: str
    first: int
    count: int
    start: int = 0
    line: int = 1

    @property
    def of_lines(self) -> bool:
        """Whether it is of a file of JSON lines."""
        return Path(self.path).suffix in LINES


@dataclass(frozen=True)
class InputFile:
    """A file of documents. sha256: of its bytes; documents: how many it has."""

    name: str
    sha256: str
    documents: int


@dataclass(frozen=True)
class InputDocument:
    """A document to be filled. seed: its own; None: it has none."""

    number: int
    key: str
    document: Document
    seed: int | None


@dataclass(frozen=True)
class Unfilled:
    """A document that cannot be filled, and why. number: None for the rest of a damaged shard, of
    which nobody knows how many there were."""

    number: int | None
    key: str
    reason: str


def list_inputs(
    inputs: Sequence[str | Path], per_shard: int, split: str
) -> tuple[list[InputFile], list[InputPart]]:
    """The files that inputs name, and their parts in order.

    Args:
        inputs: files of JSON lines (.jsonl), and shards: tar files, patterns, folders with index.
        per_shard: documents of JSON lines that become a shard. A shard becomes one of its name.
        split: of the shards that become of JSON lines.

    Raises:
        ValueError: there is no such file, it holds codes or nothing at all, or two parts would
            become shards of one name.
    """
    files: list[InputFile] = []
    parts: list[InputPart] = []
    number = 0
    for source in inputs:
        if Path(source).suffix in LINES:
            listed = [_lines_of(Path(source), number, per_shard, split)]
        else:
            listed = []
            for path in find_shards([str(source)]):
                listed.append(_shard_of(path, number + sum(each.documents for each, _ in listed)))
        for file, own in listed:
            files.append(file)
            parts += own
            number += file.documents
    if not number:
        raise ValueError("there are no documents in " + ", ".join(str(each) for each in inputs))
    targets: dict[str, str] = {}
    for part in parts:
        if part.target in targets:
            raise ValueError(
                f"{targets[part.target]} and {part.path} would both become {part.target}; fill"
                " them into folders of their own"
            )
        targets[part.target] = part.path
    return files, parts


def _lines_of(
    path: Path, first: int, per_shard: int, split: str
) -> tuple[InputFile, list[InputPart]]:
    kind = re.sub(r"[^A-Za-z0-9_-]", "_", path.stem) or "documents"
    digest, count = hashlib.sha256(), 0
    parts: list[InputPart] = []
    with open_regular(path, "JSON lines") as file:
        for start, number, _ in _lines(file, digest):
            if count % per_shard == 0:
                target = f"{split}-{kind}-{len(parts):05d}.tar"
                at = InputPart(str(path), target, split, kind, first + count, 0, start, number)
                parts.append(at)
            count += 1
    for number, part in enumerate(parts):
        size = min(per_shard, count - number * per_shard)
        parts[number] = InputPart(**{**vars(part), "count": size})
    return InputFile(path.name, digest.hexdigest(), count), parts


def _lines(
    file: BufferedReader, digest: Any = None, start: int = 0, line: int = 1
) -> Iterator[tuple[int, int, bytes | None]]:
    """(offset, number, content) of the lines that are not blank; None for one that is too long."""
    file.seek(start)
    while data := file.readline(MAX_JSON + 1):
        content: bytes | None = data.removeprefix(_BOM) if not start else data
        size = len(data)
        if digest is not None:
            digest.update(data)
        if len(data) > MAX_JSON and not data.endswith(b"\n"):
            content = None
            while data and not data.endswith(b"\n"):
                data = file.readline(MAX_JSON)
                size += len(data)
                if digest is not None:
                    digest.update(data)
        if content is None or content.strip():
            yield start, line, content
        start, line = start + size, line + 1


def _shard_of(path: Path, first: int) -> tuple[InputFile, list[InputPart]]:
    if not is_shard_name(path.name):
        raise ValueError(
            f"{path} is neither JSON lines ({', '.join(LINES)}) nor a shard, whose name has"
            " letters, digits, '.', '-' and '_' and ends in .tar"
        )
    if read_stored_codes(path.parent) is not None:
        raise ValueError(f"{path.parent} holds codes, expected documents")
    with ShardFile(path, tolerant=True) as shard:
        count = len(shard)
    sums = read_sums(path)
    digest = sums.sha256 if sums is not None else file_sha256(path, "shard")
    split, kind = split_and_kind(path)
    part = InputPart(str(path), path.name, split, kind, first, count)
    return InputFile(path.name, digest, count), [part]


def read_part(part: InputPart) -> Iterator[InputDocument | Unfilled]:
    """The documents of a part, in order; what cannot be read is an `Unfilled`.

    Raises ValueError where the file cannot be opened, or has fewer documents than before.
    """
    keys: set[str] = set()
    for entry in _of_lines(part) if part.of_lines else _of_shard(part):
        if entry.key in keys:
            yield Unfilled(entry.number, entry.key, "its key stands in this shard already")
            continue
        keys.add(entry.key)
        yield entry


def _of_lines(part: InputPart) -> Iterator[InputDocument | Unfilled]:
    path, count = Path(part.path), 0
    with open_regular(path, "JSON lines") as file:
        for _, line, data in _lines(file, None, part.start, part.line):
            if count == part.count:
                return
            number, count = part.first + count, count + 1
            key = f"{number:09d}"
            where = f"line {line}"
            try:
                if data is None:
                    raise ValueError(f"it is longer than {MAX_JSON:,} bytes")
                row = parse_json(data, "it")
                if isinstance(row, dict) and "key" in row:
                    key = _key(row.pop("key"))
                yield _document(number, key, row, path.parent)
            except ValueError as error:
                yield Unfilled(number, key, f"{where}: {error}")
    if count < part.count:
        raise ValueError(f"{path} has become shorter since it was first read; begin again")


def _key(value: Any) -> str:
    if not isinstance(value, str) or not _KEY.match(value):
        raise ValueError(f"key is {quoted(value)}, expected up to 200 letters, digits, - and _")
    return value


def _document(number: int, key: str, row: Any, media: Path | dict[str, bytes]) -> InputDocument:
    """media: the folder of its files, or their bytes by name."""
    seed = None
    if isinstance(row, dict) and "seed" in row:
        row = dict(row)
        seed = seed_of(row.pop("seed"))
    if isinstance(media, Path):
        folder = media
        document = Document.from_parts(row, lambda name: read_bytes(folder / name, "media file"))
    else:
        document = document_of(key, row, media)
    return InputDocument(number, key, document, seed)


def _of_shard(part: InputPart) -> Iterator[InputDocument | Unfilled]:
    with ShardFile(part.path, tolerant=True) as shard:
        if len(shard) != part.count:
            raise ValueError(f"shard {part.path} has changed since it was first read; begin again")
        for index in range(len(shard)):
            number, key = part.first + index, shard.key(index)
            where = f"shard {part.path}, sample {key}: "
            try:
                key, row, media = shard.parts(index)
                yield _document(number, key, row, media)
            except ValueError as error:
                yield Unfilled(number, key, str(error).removeprefix(where))
        if shard.damage is not None:
            yield Unfilled(None, "", shard.damage)

"""Reading a source with bounded memory: lines, items of a JSON list, files below a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from unified_base.files import open_regular
from unified_base.structured import MAX_JSON, parse_json
from unified_data.importers.builder import DocumentBuilder, Sample, Skipped, make_key
from unified_data.importers.embedded import Embedded, Name, media_name
from unified_data.importers.json_stream import json_items
from unified_data.importers.media_folder import MediaFolder

_CHUNK = 1 << 20
_BOM = b"\xef\xbb\xbf"

IDS = ("id", "data_id")
"""Fields that name a record: its documents' keys have them."""

Build = Callable[[dict[str, Any], DocumentBuilder], None]
"""build(record, builder): puts the document of one JSON object together, or raises ValueError."""

Make = Callable[[str, dict[str, Any], MediaFolder], tuple[Sample, ...]]
"""make(key, record, media): the documents of one JSON object, all of them or a ValueError."""


def source_files(source: Path, endings: Iterable[str]) -> list[Path]:
    """The source itself, or where it is a folder the files right in it with such an ending."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ValueError(f"there is no {source} to import")
    endings = tuple(endings)
    paths = sorted(path for path in source.iterdir() if path.name.endswith(endings))
    if not paths:
        raise ValueError(f"folder {source} has no files ending in {', '.join(endings)}")
    return paths


def read_records(source: Path, images: Path | None, build: Build) -> Iterator[Sample | Skipped]:
    """The documents of JSONL files or JSON files that hold a list, built by `build`.

    source: a file, or a folder of .jsonl and .json files. Media is below `images`, or else below
    the source's own folder. The key has the record's `id` (or `data_id`).
    """

    def make(key: str, record: dict[str, Any], media: MediaFolder) -> tuple[Sample]:
        builder = DocumentBuilder(key, media.read)
        build(record, builder)
        return (builder.sample(),)

    return read_groups(source, images, make)


def read_groups(source: Path, images: Path | None, make: Make) -> Iterator[Sample | Skipped]:
    """As `read_records`, of records that make several documents each."""
    files = source_files(source, (".jsonl", ".json", ".ndjson"))
    media = MediaFolder(images or (source if source.is_dir() else source.parent))
    number = 0
    for path in files:
        for where, text in _texts(path):
            key = make_key(number)
            results: Iterable[Sample | Skipped]
            try:
                if isinstance(text, ValueError):
                    raise text
                record = parse_json(text, "it")
                if not isinstance(record, dict):
                    raise ValueError(f"it is {kind_of(record)}, expected a JSON object")
                key = make_key(number, next((record[n] for n in IDS if n in record), None))
                results = make(key, record, media)
            except ValueError as error:
                results = (Skipped.because(key, f"{path.name} {where}: {error}"),)
            yield from results
            number += 1


def expect(record: dict[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    """A field of a record. Raises ValueError where it is missing or of another kind."""
    if name not in record:
        raise ValueError(f"it has no {name!r}")
    value = record[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(_NAMES[item] for item in kinds)
        raise ValueError(f"{name!r} is {kind_of(value)}, expected {wanted}")
    return value


def names_of(record: dict[str, Any], *names: str) -> list[Name]:
    """Media of a field that is a name or a list of them; nothing where it is absent or null.

    names: of the field; of several one alone may be filled.
    """
    filled = [name for name in names if record.get(name) not in (None, [], "")]
    if len(filled) > 1:
        raise ValueError(f"it has {' and '.join(map(repr, filled))}, expected one of them")
    if not filled:
        return []
    value = record[filled[0]]
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | Embedded) for item in values):
        raise ValueError(f"{filled[0]!r} is {kind_of(value)}, expected file names")
    return [media_name(item) if isinstance(item, str) else item for item in values]


_NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def kind_of(value: Any) -> str:
    return _NAMES.get(type(value), type(value).__name__)


def _texts(path: Path) -> Iterator[tuple[str, bytes | ValueError]]:
    """Where each record stands in a file, and its JSON text; blank lines are no records."""
    with open_source(path) as stream:
        start = stream.read(_CHUNK)
        stream.seek(len(_BOM) if start.startswith(_BOM) else 0)
        if start.removeprefix(_BOM).lstrip()[:1] == b"[":
            for number, item in enumerate(json_items(stream), 1):
                yield f"item {number}", item
        else:
            for number, line in enumerate(lines(stream), 1):
                text = line if isinstance(line, ValueError) else line.strip()
                if text:
                    yield f"line {number}", text


@contextmanager
def open_source(path: Path) -> Iterator[IO[bytes]]:
    """A file of a source, opened; a failure to read it is a ValueError, too."""
    with open_regular(path, "source") as stream:
        try:
            yield stream
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def lines(stream: IO[bytes], limit: int = MAX_JSON) -> Iterator[bytes | ValueError]:
    """The lines of a file; a ValueError stands for one that is longer than the limit."""
    while line := stream.readline(limit + 1):
        if len(line) <= limit:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(_CHUNK)
        yield ValueError(f"it is longer than {limit:,} bytes")

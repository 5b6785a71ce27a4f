"""Pairs in a table: a text with a picture, a sound or both, as CSV or TSV with a header, or JSONL.

Columns `text` (or `caption`), `image`, `audio`, and `id` if there is one; others are counted.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from unified_base.structured import MAX_JSON
from unified_base.text import quoted
from unified_data.importers.builder import DocumentBuilder, Sample, Skipped, make_key
from unified_data.importers.media_folder import MediaFolder
from unified_data.importers.records import (
    IDS,
    expect,
    lines,
    names_of,
    open_source,
    read_records,
)

MAX_FIELD = MAX_JSON
"""Bytes of a table's field, and of a line of its file."""
MAX_ROW = 4 * MAX_JSON
"""Bytes of a row, whose fields may go over many lines."""
_TEXTS = ("text", "caption")
_MEDIA = ("image", "audio")
_TABLES = {".csv": ",", ".tsv": "\t"}


def read(source: Path, images: Path | None = None) -> Iterator[Sample | Skipped]:
    """One document a row: the text is prompt, the media response.

    source: .csv, .tsv or .jsonl, or a folder of tables or of JSON.
    """
    inside = [source] if source.is_file() else sorted(source.iterdir()) if source.is_dir() else []
    tables = [path for path in inside if path.suffix.lower() in _TABLES]
    if not tables:
        yield from read_records(source, images, build)
        return
    if others := [path for path in inside if path.suffix.lower() in (".jsonl", ".json", ".ndjson")]:
        raise ValueError(
            f"folder {source} has tables and JSON ({tables[0].name}, {others[0].name}); "
            "import one after the other"
        )
    media = MediaFolder(images or (source if source.is_dir() else source.parent))
    number = 0
    for path in tables:
        for result in _table(path, media, number):
            yield result
            number += 1


def build(record: dict[str, Any], builder: DocumentBuilder) -> None:
    """Put the document of one record together."""
    texts = [name for name in _TEXTS if record.get(name) not in (None, "")]
    if len(texts) > 1:
        raise ValueError(f"it has {' and '.join(map(repr, texts))}, expected one of them")
    text = expect(record, texts[0], str).strip() if texts else ""
    if not text:
        raise ValueError("it has no text")
    names = {kind: names_of(record, kind, f"{kind}s") for kind in _MEDIA}
    if not any(names.values()):
        raise ValueError("it has neither an image nor an audio")
    builder.ignore_others(record, (*IDS, *_TEXTS, *_MEDIA, *(f"{kind}s" for kind in _MEDIA)))
    builder.text(text, "prompt")
    for kind in _MEDIA:
        for name in names[kind]:
            builder.add(kind, name, "response")


def _table(path: Path, media: MediaFolder, number: int) -> Iterator[Sample | Skipped]:
    with open_source(path) as stream:
        for row_number, row in enumerate(_rows(stream, path), 1):
            key = make_key(number)
            try:
                if isinstance(row, ValueError):
                    raise row
                key = make_key(number, row.get("id"))
                builder = DocumentBuilder(key, media.read)
                build(row, builder)
                result: Sample | Skipped = builder.sample()
            except ValueError as error:
                result = Skipped.because(key, f"{path.name} row {row_number}: {error}")
            yield result
            number += 1


def _rows(stream: IO[bytes], path: Path) -> Iterator[dict[str, Any] | ValueError]:
    """The rows by column; a ValueError stands for one that cannot be read.

    Quotes must be as RFC 4180 has them: a lenient reader would change fields without a word.
    """
    csv.field_size_limit(MAX_FIELD)  # of the whole process; Python's own limit is 131,072
    text = _TextLines(stream)
    reader = csv.reader(text, delimiter=_TABLES[path.suffix.lower()], strict=True)
    try:
        header = next(reader, [])
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{path} has no header that can be read: {error}") from None
    if not {*_TEXTS} & {*header} or not {"image", "audio", "images", "audios"} & {*header}:
        raise ValueError(f"{path} has columns {quoted(header, 300)}, expected text with image or "
                         "audio")  # fmt: skip
    if len(set(header)) != len(header):
        raise ValueError(f"{path} has two columns of one name: {quoted(header, 300)}")
    while True:
        before, text.size = reader.line_num, 0
        try:
            row = next(reader, None)
        except (csv.Error, ValueError) as error:
            more = reader.line_num > before + 1
            lost = f", nor can lines {before + 1} to {reader.line_num} of the file" if more else ""
            yield ValueError(f"it cannot be read{lost}: {error}")
            continue
        if row is None:
            return
        if row and len(row) != len(header):
            yield ValueError(f"it has {len(row)} columns, the header {len(header)}")
        elif row:
            yield dict(zip(header, row))


class _TextLines:
    """Lines as text; what is not UTF-8 stays a lone surrogate, which no document takes.

    A line that is too long raises its ValueError, and the next call goes on after it, as no
    generator could. size: bytes since it was last set to 0.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._lines = lines(stream)
        self._encoding = "utf-8-sig"
        self.size = 0

    def __iter__(self) -> _TextLines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        if isinstance(line, ValueError):
            raise line
        self.size += len(line)
        if self.size > MAX_ROW:
            raise ValueError(f"it is longer than {MAX_ROW:,} bytes")
        text = line.decode(self._encoding, "surrogateescape")
        self._encoding = "utf-8"
        return text

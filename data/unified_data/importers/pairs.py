"""Pairs in a table: a text with a picture, a sound or both, as CSV with a header or as JSONL.

Columns `text`, `image`, `audio`, and `id` if there is one; others are not looked at.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from unified_data.importers.builder import DocumentBuilder, Sample, Skipped, make_key
from unified_data.importers.source import MediaFolder, lines, read_records, source_files

_COLUMNS = {"text", "image", "audio"}


def read(source: Path, images: Path | None = None) -> Iterator[Sample | Skipped]:
    """One document a row: the text is prompt, the media response. source: .csv or .jsonl."""
    if source.is_dir() or source.suffix.lower() != ".csv":
        yield from read_records(source, images, _build)
        return
    (path,) = source_files(source, (".csv",))
    media = MediaFolder(images or path.parent)
    try:
        with open(path, "rb") as stream:
            for number, row in enumerate(_rows(stream, path)):
                key = make_key(number)
                try:
                    if isinstance(row, ValueError):
                        raise row
                    key = make_key(number, row.get("id"))
                    builder = DocumentBuilder(key, media.read)
                    _build(row, builder)
                    result: Sample | Skipped = builder.sample()
                except ValueError as error:
                    result = Skipped.because(key, f"{path.name} row {number + 1}: {error}")
                yield result
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def _build(record: dict[str, Any], builder: DocumentBuilder) -> None:
    text, names = record.get("text"), [record.get(name) or None for name in ("image", "audio")]
    if not isinstance(text, str) or not text.strip():
        raise ValueError("it has no text")
    if names == [None, None]:
        raise ValueError("it has neither an image nor an audio")
    builder.text(text.strip(), "prompt")
    for name, add in zip(names, (builder.image, builder.audio)):
        if name is not None:
            add(name, "response")


def _rows(stream: IO[bytes], path: Path) -> Iterator[dict[str, Any] | ValueError]:
    reader = csv.reader(_TextLines(stream))
    try:
        header = next(reader, [])
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{path} has no header that can be read: {error}") from None
    if "text" not in header or not _COLUMNS - {"text"} & set(header):
        raise ValueError(f"{path} has columns {header[:20]}, expected text with image or audio")
    if len(set(header)) != len(header):
        raise ValueError(f"{path} has two columns of one name: {header[:20]}")
    while True:
        try:
            row = next(reader, None)
        except (csv.Error, ValueError) as error:
            yield ValueError(f"it cannot be read: {error}")
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
    generator could.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._lines = lines(stream)
        self._encoding = "utf-8-sig"

    def __iter__(self) -> _TextLines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        if isinstance(line, ValueError):
            raise line
        text = line.decode(self._encoding, "surrogateescape")
        self._encoding = "utf-8"
        return text

"""Shots from files: a document, JSON lines of them, shards, or a folder of media with texts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from unified.tasks.shots import MOST_SHOTS
from unified_base.files import read_bytes, read_text
from unified_base.structured import parse_json
from unified_data.document import Document

__all__ = ["read_shots"]

_LINES = (".jsonl", ".ndjson")
_MOST_BYTES = 16 << 20


def read_shots(path: Path) -> tuple[Document, ...]:
    """The documents of a file or folder, in order: `.json` one, `.jsonl` one a line, `.tar` a
    shard, a folder with an index its shards, and another folder pictures and sounds with their
    texts beside them (`unified_data.importers.folder`).

    Raises ValueError where there are none, more than `MOST_SHOTS`, or one that cannot be read.
    """
    documents = tuple(islice(_documents(path), MOST_SHOTS + 1))
    if not documents:
        raise ValueError(f"{path} holds no documents; a shot is a prompt and its answer")
    if len(documents) > MOST_SHOTS:
        raise ValueError(
            f"{path} holds more than {MOST_SHOTS} documents, which no request has as shots; pick"
            " some of them"
        )
    return documents


def _documents(path: Path) -> Iterator[Document]:
    from unified_data.shards import INDEX, read_shards

    if path.is_dir():
        if (path / INDEX).exists():
            yield from (document for _, document in read_shards(path))
        else:
            yield from _of_folder(path)
        return
    suffix = path.suffix.lower()
    if suffix == ".tar":
        yield from (document for _, document in read_shards([path]))
    elif suffix == ".json":
        yield _of_json(read_text(path, "shots", _MOST_BYTES), path, str(path))
    elif suffix in _LINES:
        lines = read_text(path, "shots", _MOST_BYTES).split("\n")
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _of_json(line, path, f"{path}, line {number}")
    else:
        raise ValueError(
            f"{path} is no file of shots, expected a document (.json), JSON lines of them"
            f" ({', '.join(_LINES)}), a shard (.tar) or a folder"
        )


def _of_json(source: str, path: Path, where: str) -> Document:
    try:
        return Document.from_parts(
            parse_json(source.encode(), "it"), lambda name: read_bytes(path.parent / name, "media")
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _of_folder(path: Path) -> Iterator[Document]:
    from unified_data.importers.builder import Skipped
    from unified_data.importers.folder import read
    from unified_data.shards import document_of

    for sample in read(path):
        if isinstance(sample, Skipped):
            raise ValueError(f"{path}: {sample.reason}")
        yield document_of(sample.key, sample.obj, sample.media)

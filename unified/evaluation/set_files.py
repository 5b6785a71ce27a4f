"""Reading sets of questions, captions and recordings that a user has on disk.

What such a file lacks is told in one line with the file and its line (or entry), and nothing is
left out in silence: a set with one record that is none is refused as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from unified_base.files import read_text
from unified_base.structured import parse_json, read_json
from unified_base.text import quoted

__all__ = ["SetPaths", "entries", "field_of", "file_in", "json_lines", "lines"]

Value = TypeVar("Value")
_MOST_TEXT = 1 << 29
"""Bytes of one file; the largest of the known sets, VQAv2's training annotations, has 0.4 GB."""
_LONGEST = 1 << 16
"""Characters of a line."""
_KINDS = {str: "text", int: "a whole number", list: "a list", dict: "an object"}


@dataclass(frozen=True)
class SetPaths:
    """Where a set lies. images: of its pictures. output: where media are written; None: nowhere.

    conditions: those of the part that are measured, so that files of others need not be there.
    """

    folder: Path
    images: Path
    output: Path | None
    conditions: tuple[str, ...]


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a text file that are not blank, each with its place, as `FILE:12`.

    Raises ValueError for what is no such file, and for a line of more than 65,536 characters.
    """
    for number, line in enumerate(read_text(path, "file", _MOST_TEXT).split("\n"), 1):
        where = f"{path}:{number}"
        if len(line) > _LONGEST:
            raise ValueError(f"{where} has {len(line):,} characters, expected at most {_LONGEST:,}")
        if line.strip():
            yield where, line.rstrip("\r")


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a file of JSON lines, each with its place. Raises ValueError as `lines`."""
    for where, line in lines(path):
        record = parse_json(line, where, _LONGEST * 4)
        if not isinstance(record, dict):
            raise ValueError(f"{where} holds {type(record).__name__}, expected an object")
        yield where, record


def entries(path: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a list inside a JSON file, each with its place, as `FILE: questions[3]`.

    Raises ValueError for what is no JSON, and where no list of objects has that name.
    """
    rows = field_of(read_json(path, _MOST_TEXT), name, list, str(path))
    for index, record in enumerate(rows):
        where = f"{path}: {name}[{index}]"
        if not isinstance(record, dict):
            raise ValueError(f"{where} holds {type(record).__name__}, expected an object")
        yield where, record


def field_of(record: Mapping[str, Any], name: str, kind: type[Value], where: str) -> Value:
    """An entry of a record. kind: str, int, list or dict; a text must not be empty.

    Raises ValueError where it is missing or of another kind.
    """
    value = record.get(name)
    if not isinstance(value, kind) or isinstance(value, bool) or value == "":
        got = "missing" if value is None else quoted(value)
        raise ValueError(f"{where}: {name} is {got}, expected {_KINDS[kind]}")
    return value


def file_in(folder: Path, name: str, where: str) -> Path:
    """The path of a file that a record names, which must be there, inside a folder.

    Raises ValueError for a name that leads out of the folder, and where there is no such file.
    """
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts or "\0" in name or "\\" in name:
        raise ValueError(f"{where} names {quoted(name)}, expected a file inside {folder}")
    path = folder / inside
    if not path.is_file():
        raise ValueError(f"{where} names {quoted(name)}, but there is no file {path}")
    return path

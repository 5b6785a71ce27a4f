"""Where the columns of a Parquet file lie and what its pages declare, read by ourselves.

A reader makes room for what a page's header claims. The footer says how large columns are, too, but
nothing binds the two together, so every header is looked at before anything is decompressed. And
pyarrow gives no words for a footer with wrong statistics: it ends the process. The fields are those
of parquet.thrift, https://github.com/apache/parquet-format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from unified_base.text import quoted
from unified_data.importers.thrift import CutOffError, Struct, read_struct

__all__ = ["ColumnChunk", "Group", "Page", "pages", "row_groups"]

_WINDOWS = (1 << 14, 1 << 23)
"""Bytes that a page's header may have: first tried, then at most (it may hold statistics)."""
_BYTE_ARRAY = 6

Read = Callable[[int, int], bytes]
"""read(offset, count): the bytes of the file there."""


@dataclass(frozen=True)
class ColumnChunk:
    """A column of one row group. path: its names from the outermost inwards; [start, end): bytes of
    the file; is_binary: strings of bytes."""

    path: tuple[str, ...]
    start: int
    end: int
    is_binary: bool


@dataclass(frozen=True)
class Group:
    """A row group."""

    rows: int
    chunks: tuple[ColumnChunk, ...]


@dataclass(frozen=True)
class Page:
    """size: bytes when decompressed. values: how many it holds."""

    size: int
    values: int


def row_groups(footer: bytes, size: int) -> list[Group]:
    """The row groups that a footer tells of, in a file of `size` bytes.

    Raises ValueError where it is no footer, or a column lies elsewhere or in another file.
    """
    try:
        fields, _ = read_struct(footer)
    except ValueError as error:
        raise ValueError(f"its footer cannot be read: {error}") from None
    groups = []
    for number, group in enumerate(_of(fields, 4, list)):
        chunks, rows = _of(group, 1, list), _of(group, 3, int)
        if rows < 0:
            raise ValueError(f"row group {number} has {rows} rows")
        groups.append(Group(rows, tuple(_chunk(chunk, number, size) for chunk in chunks)))
    return groups


def _chunk(chunk: Any, group: int, size: int) -> ColumnChunk:
    about = _of(chunk, 3, dict)
    parts = _of(about, 3, list)
    if not parts or not all(isinstance(part, bytes) for part in parts):
        raise ValueError(f"a column of row group {group} has no name")
    path = tuple(part.decode("utf-8", "replace") for part in parts)
    if chunk.get(1):
        raise ValueError(f"column {quoted('.'.join(path))} lies in another file")
    start = _of(about, 9, int)
    if isinstance(dictionary := about.get(11), int) and dictionary > 0:
        start = min(start, dictionary)
    end = start + _of(about, 7, int)
    if not 4 <= start <= end <= size:
        raise ValueError(
            f"column {quoted('.'.join(path))} of row group {group} lies from byte {start} to {end} "
            f"of {size:,}"
        )
    return ColumnChunk(path, start, end, about.get(1) == _BYTE_ARRAY)


def _of(struct: Any, number: int, kind: type) -> Any:
    value = struct.get(number) if isinstance(struct, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"its footer has no sound field {number}")
    return value


def pages(read: Read, start: int, end: int) -> Iterator[Page]:
    """The pages between two offsets. Raises ValueError where there is something else."""
    while start < end:
        header, length = _header(read, start, end)
        size, compressed = header.get(2), header.get(3)
        # Of a data page, a dictionary, and a data page of version 2.
        inner = [header[number] for number in (5, 7, 8) if isinstance(header.get(number), dict)]
        values = inner[0].get(1) if len(inner) == 1 else None
        if (
            type(size) is not int
            or type(compressed) is not int
            or type(values) is not int
            or min(size, compressed, values) < 0
        ):
            raise ValueError(f"there is no sound page header at byte {start}")
        yield Page(size, values)
        start += length + compressed
    if start > end:
        raise ValueError(f"a page reaches beyond its column's end at byte {end}")


def _header(read: Read, start: int, end: int) -> tuple[Struct, int]:
    """The fields of the header at an offset, and its length in bytes."""
    for window in _WINDOWS:
        try:
            return read_struct(read(start, min(window, end - start)))
        except CutOffError:
            continue
        except ValueError as error:
            raise ValueError(f"the page header at byte {start}: {error}") from None
    raise ValueError(f"there is no sound page header at byte {start}")

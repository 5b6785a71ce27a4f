"""What the pages of a Parquet file say of their size, found without decompressing any.

A reader makes room for what a page's header claims. The file's footer says how large its columns
are, too, but nothing binds the two together, so every header is looked at. Headers are structs of
Thrift's compact protocol, https://github.com/apache/thrift/blob/master/doc/specs; their fields are
those of parquet.thrift, https://github.com/apache/parquet-format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Page", "pages"]

_WINDOWS = (1 << 14, 1 << 23)
"""Bytes that a header may have: first tried, then at most (it may hold statistics)."""
_MAX_DEPTH = 8
_BOOLEANS, _WHOLE, _LISTS = (1, 2), (3, 4, 5, 6), (9, 10)
_DOUBLE, _BINARY, _STRUCT = 7, 8, 12
_SIZE, _COMPRESSED = 2, 3
_HEADERS = (5, 7, 8)
"""Fields of a page header that are themselves headers, whose first field is a number of values."""

Read = Callable[[int, int], bytes]
"""read(offset, count): the bytes of the file there."""
Value = int | dict[int, "Value"] | None


@dataclass(frozen=True)
class Page:
    """size: bytes when decompressed. values: how many it holds."""

    size: int
    values: int


def pages(read: Read, start: int, end: int) -> Iterator[Page]:
    """The pages between two offsets. Raises ValueError where there is something else."""
    while start < end:
        header, length = _header(read, start, end)
        size, compressed = header.get(_SIZE), header.get(_COMPRESSED)
        counts = [inner.get(1) for name in _HEADERS if isinstance(inner := header.get(name), dict)]
        values = counts[0] if len(counts) == 1 else None
        if (
            not isinstance(size, int) or not isinstance(compressed, int)
            or not isinstance(values, int) or min(size, compressed, values) < 0
        ):  # fmt: skip
            raise ValueError(f"there is no sound page header at byte {start}")
        yield Page(size, values)
        start += length + compressed
    if start > end:
        raise ValueError(f"a page reaches beyond its column's end at byte {end}")


def _header(read: Read, start: int, end: int) -> tuple[dict[int, Value], int]:
    """The fields of the header at an offset, and its length in bytes."""
    for window in _WINDOWS:
        data = read(start, min(window, end - start))
        try:
            fields, length = _struct(data, 0, 0)
        except IndexError:
            continue
        return fields, length
    raise ValueError(f"there is no sound page header at byte {start}")


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Value], int]:
    if depth > _MAX_DEPTH:
        raise ValueError("a page header is nested too deeply")
    fields: dict[int, Value] = {}
    number = 0
    while data[at]:
        kind, step = data[at] & 15, data[at] >> 4
        at += 1
        if step:
            number += step
        else:
            raw, at = _varint(data, at)
            number = _signed(raw)
        fields[number], at = (None, at) if kind in _BOOLEANS else _value(data, at, kind, depth)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Value, int]:
    """A value, of which only integers and structs are kept."""
    if kind == 3 or kind in _BOOLEANS:  # a byte; so are truth values in lists
        return data[at], at + 1
    if kind in _WHOLE:
        raw, at = _varint(data, at)
        return _signed(raw), at
    if kind == _DOUBLE:
        return None, _inside(data, at + 8)
    if kind == _BINARY:
        length, at = _varint(data, at)
        return None, _inside(data, at + length)
    if kind == _STRUCT:
        return _struct(data, at, depth + 1)
    if kind in _LISTS:
        count, inner = data[at] >> 4, data[at] & 15
        at += 1
        if count == 15:
            count, at = _varint(data, at)
        for _ in range(count):
            _, at = _value(data, at, inner, depth + 1)
        return None, at
    raise ValueError(f"a page header has a value of kind {kind}")


def _inside(data: bytes, at: int) -> int:
    if at > len(data):
        raise IndexError
    return at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("a page header has a number of more than 64 bits")


def _signed(raw: int) -> int:
    return (raw >> 1) ^ -(raw & 1)

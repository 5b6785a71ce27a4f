"""Structs of Thrift's compact protocol as plain values, for Parquet's footer and page headers.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md. Nothing is known
of what the fields mean: a struct is a dict by field number.
"""

from __future__ import annotations

from typing import Any

__all__ = ["CutOffError", "read_struct"]

_MAX_DEPTH = 16
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _MAP, _STRUCT = 1, 2, 3, 7, 8, 11, 12
_WHOLE, _LISTS = (4, 5, 6), (9, 10)

Struct = dict[int, Any]


class CutOffError(ValueError):
    """The data ends inside a struct."""


def read_struct(data: bytes) -> tuple[Struct, int]:
    """The struct that data begins with, and how many bytes it takes.

    Integers are int, strings bytes, lists list, structs dict; floating-point numbers and maps,
    which Parquet has none of there, are None.

    Raises:
        CutOffError: the data ends too early.
        ValueError: there is something else.
    """
    try:
        return _struct(data, 0, 0)
    except IndexError:
        raise CutOffError("it is cut off") from None


def _struct(data: bytes, at: int, depth: int) -> tuple[Struct, int]:
    if depth > _MAX_DEPTH:
        raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")
    fields: Struct = {}
    number = 0
    while data[at]:
        kind, step = data[at] & 15, data[at] >> 4
        at += 1
        if step:
            number += step
        else:
            raw, at = _varint(data, at)
            number = _signed(raw)
        if kind in (_TRUE, _FALSE):
            fields[number] = kind == _TRUE
        else:
            fields[number], at = _value(data, at, kind, depth)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (_TRUE, _FALSE, _BYTE):  # in lists a truth value is a byte
        return data[at], at + 1
    if kind in _WHOLE:
        raw, at = _varint(data, at)
        return _signed(raw), at
    if kind == _STRUCT:
        return _struct(data, at, depth + 1)
    if kind == _BINARY:
        length, at = _varint(data, at)
        return data[at : _inside(data, at + length)], at + length
    if kind == _DOUBLE:
        return None, _inside(data, at + 8)
    if kind in _LISTS and depth <= _MAX_DEPTH:
        count, inner = data[at] >> 4, data[at] & 15
        at += 1
        if count == 15:
            count, at = _varint(data, at)
        _inside(data, at + count)  # each takes a byte at least
        values = []
        for _ in range(count):
            value, at = _value(data, at, inner, depth + 1)
            values.append(value)
        return values, at
    if kind == _MAP:
        return _map(data, at, depth)
    raise ValueError(f"it has a value of kind {kind}")


def _map(data: bytes, at: int, depth: int) -> tuple[None, int]:
    count, at = _varint(data, at)
    if count:
        kinds, at = data[at], at + 1
        _inside(data, at + count)
        for _ in range(count):
            _, at = _value(data, at, kinds >> 4, depth + 1)
            _, at = _value(data, at, kinds & 15, depth + 1)
    return None, at


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
    raise ValueError("it has a number of more than 64 bits")


def _signed(raw: int) -> int:
    return (raw >> 1) ^ -(raw & 1)

"""JSON files of any size, a part at a time: items of a list, members of an object."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from unified_base.structured import MAX_JSON, parse_json

__all__ = ["json_items", "json_members"]

_CHUNK = 1 << 20
_MAX_NAME = 4_096
_MAX_MEMBERS = 10_000


def json_items(
    stream: IO[bytes], limit: int = MAX_JSON, alone: bool = True
) -> Iterator[bytes | ValueError]:
    """The JSON texts of the items of the next list of a file, found without parsing them.

    alone: nothing may come after the list. A ValueError stands for an item longer than the limit,
    and for a list that does not end well.
    """
    item = bytearray()
    size = depth = count = 0
    in_string = escaped = False
    opened = False
    while chunk := stream.read(_CHUNK):
        at = start = 0
        if not opened:
            at = start = chunk.find(b"[") + 1
            opened = start > 0
            if not opened:
                continue
        while at < len(chunk):
            if escaped:
                escaped = False
                at += 1
                continue
            match = (_IN_STRING if in_string else _OUTSIDE).search(chunk, at)
            if match is None:
                break
            mark, at = match[0], match.end()
            if mark == b'"':
                in_string = not in_string
            elif mark == b"\\":
                escaped = True
            elif mark in b"[{":
                depth += 1
            elif mark in b"]}" and depth:
                depth -= 1
            elif depth == 0 and mark in b",]":
                piece = chunk[start : at - 1]
                size += len(piece)
                item += piece if size <= limit else b""
                count += 1
                if size > limit:
                    yield ValueError(f"it is longer than {limit:,} bytes")
                elif item.strip() or mark == b"," or count > 1:
                    yield bytes(item)
                item.clear()
                size, start = 0, at
                if mark == b"]":
                    if alone and (chunk[at:].strip() or stream.read(_CHUNK).strip()):
                        yield ValueError("there is something after the list's end")
                    return
        size += len(chunk) - start
        item += chunk[start:] if size <= limit else b""
    yield ValueError("the file ends inside the list; was it cut off?")


_IN_STRING = re.compile(rb'["\\]')
_OUTSIDE = re.compile(rb'["\[\]{},]')
_MARKS = re.compile(rb'["\[\]{}:,]')


def json_members(stream: IO[bytes], name: str) -> dict[str, int]:
    """Where the value of each member of a file's object begins, found without parsing the values.

    The values themselves are not looked at beyond their brackets and quotes. name: for errors.

    Raises ValueError for a file that holds no object or one cut off, a name that stands twice or is
    longer than 4,096 bytes, and more than 10,000 members.
    """
    members: dict[str, int] = {}
    depth, in_string, escaped, offset = 0, False, False, 0
    text: bytearray | None = None  # of the name that is being read, between its quotes
    is_name = True  # whether the next string right in the object is a name
    while chunk := stream.read(_CHUNK):
        if not offset and chunk.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] != b"{":
            raise ValueError(f"{name} is no JSON object")
        at = 0
        while at < len(chunk):
            if escaped:
                escaped, start, at = False, at, at + 1
                if text is not None:
                    text += chunk[start:at]
                continue
            match = (_IN_STRING if in_string else _MARKS).search(chunk, at)
            end = len(chunk) if match is None else match.start()
            if text is not None:
                text += chunk[at:end]
                if len(text) > _MAX_NAME:
                    raise ValueError(f"{name} has a member's name of more than {_MAX_NAME:,} bytes")
            if match is None:
                break
            mark, at = match[0], match.end()
            if mark == b"\\":
                escaped = True
                text = None if text is None else text + mark
            elif mark == b'"' and in_string:
                in_string = False
                if text is not None:
                    _add_member(members, bytes(text), name)
                    text, is_name = None, False
            elif mark == b'"':
                in_string = True
                text = bytearray() if depth == 1 and is_name else None
            elif mark in b"{[":
                depth += 1
            elif mark in b"}]":
                depth -= 1
                if depth == 0:
                    if chunk[at:].strip() or stream.read(_CHUNK).strip():
                        raise ValueError(f"{name} has something after its object's end")
                    return members
            elif mark == b":" and depth == 1:
                if not members:
                    raise ValueError(f"{name} is not JSON: it has a value without a name")
                members[next(reversed(members))] = offset + at
            elif mark == b"," and depth == 1:
                is_name = True
        offset += len(chunk)
    raise ValueError(f"{name} ends inside its object; was it cut off?")


def _add_member(members: dict[str, int], text: bytes, name: str) -> None:
    member = parse_json(b'"' + text + b'"', name)
    if member in members:
        raise ValueError(f"{name} has the member {member!r} a second time")
    if len(members) >= _MAX_MEMBERS:
        raise ValueError(f"{name} has more than {_MAX_MEMBERS:,} members")
    members[member] = 0

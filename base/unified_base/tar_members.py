"""The members of an uncompressed tar file: where each lies, without reading what it holds.

POSIX ustar headers, with the extensions that common writers use: pax headers ("x": a long path, a
fraction of a second; "g": a comment) and GNU's long name ("L"). Nothing is ever extracted, and
every size is checked against the file before it is used. The layout is that of POSIX.1-2017, pax,
"ustar Interchange Format".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

BLOCK = 512
_ZEROS = bytes(BLOCK)
_MAX_EXTENSION = 65_536
"""Bytes that a pax header or a long name may have."""
_MAX_TAIL = 1 << 20
"""Bytes that may follow the end mark: writers fill up to a whole record."""

Read = Callable[[int, int], bytes]
"""read(offset, count): the bytes of the file there, fewer only at its end."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member. start: where its headers begin; offset, size: bytes of its content."""

    name: str
    kind: str
    start: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        """Where the next member's headers begin."""
        return self.offset + -(-self.size // BLOCK) * BLOCK


_SPARSE = "sparse file"
# Type flags other than those of a regular file, "0" and NUL.
_KINDS = {
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "device",
    b"4": "device",
    b"5": "folder",
    b"6": "pipe",
    b"S": _SPARSE,
}
_EMPTY = (b"1", b"2", b"3", b"4", b"5", b"6")


def scan_members(read: Read, start: int, end: int, whole: bool = True) -> Iterator[Member]:
    """The members between two offsets, in order; kind "file" is a regular file.

    whole: [start, end) reaches to the file's end, so that there must be an end mark with nothing
    but zeros after it; otherwise the members must fill [start, end) exactly.

    Raises ValueError at the first header that is not sound, or content that reaches past `end`:
    what follows it cannot be found.
    """
    offset = start
    while offset < end or whole:
        block = read(offset, BLOCK)
        if block == _ZEROS and whole:
            _check_tail(read, offset + BLOCK, end)
            return
        begin, names = offset, {}
        kind, name, size = _header(block, offset)
        while kind in (b"x", b"L", b"g"):
            if size > min(_MAX_EXTENSION, end - offset - BLOCK):
                raise ValueError(f"the header at byte {offset} has an extension of {size:,} bytes")
            content = read(offset + BLOCK, size)
            if len(content) != size:
                raise ValueError(f"the tar file ends inside a header at byte {offset}; cut off?")
            if kind == b"L":
                names["path"] = _text(content)
            elif kind == b"x":
                names |= _pax(content, offset)
            elif _pax(content, offset):  # "g" is about all that follow: one path for all of them?
                raise ValueError(f"the global header at byte {offset} gives a path or size")
            offset += BLOCK + -(-size // BLOCK) * BLOCK
            kind, name, size = _header(read(offset, BLOCK), offset)
        if "size" in names:
            if not (names["size"].isascii() and names["size"].isdigit()):
                raise ValueError(f"the header at byte {offset} has size {names['size'][:40]!r}")
            size = int(names["size"][:20])
        if kind == b"\0" and name.endswith("/"):  # as tar files had folders before ustar
            kind = b"5"
        what = "file" if kind in (b"0", b"\0") else _KINDS.get(kind, f"member of type {kind!r}")
        if "sparse" in names:
            what = _SPARSE
        at = offset + BLOCK
        if kind == b"S" and read(offset + 482, 1) != b"\0":
            at = _after_map(read, at)
        # Links and the like have no content, whatever size they give.
        member = Member(
            names.get("path", name),
            what,
            begin,
            at,
            size if kind not in _EMPTY else 0,
        )
        if member.offset + member.size > end:
            raise ValueError(
                f"member {member.name[:200]!r} is {member.size:,} bytes long but "
                f"{max(0, end - member.offset):,} are left in the file; was it cut off?"
            )
        yield member
        offset = member.end


def _after_map(read: Read, offset: int) -> int:
    """Where the map of GNU's older sparse files ends, whose blocks say whether another follows."""
    while True:
        block = read(offset, BLOCK)
        offset += BLOCK
        if block[504:505] in (b"", b"\0"):
            return offset


def _header(block: bytes, offset: int) -> tuple[bytes, str, int]:
    """Type flag, name and size of one header block."""
    if len(block) < BLOCK:
        raise ValueError(f"the tar file ends at byte {offset + len(block)} without an end mark; "
                         "was it cut off?")  # fmt: skip
    magic = block[257:262]
    if magic != b"ustar" or _octal(block[148:156]) != (
        sum(block) - sum(block[148:156]) + 8 * ord(" ")  # the sum counts its own field as spaces
    ):
        raise ValueError(f"there is no sound tar header at byte {offset}")
    size = _octal(block[124:136])
    if size is None:
        raise ValueError(f"the tar header at byte {offset} has no size")
    name = _text(block[:100])
    if block[262] == 0 and block[345]:  # POSIX; GNU's older header has other fields there
        name = f"{_text(block[345:500])}/{name}"
    return block[156:157], name, size


def _octal(field: bytes) -> int | None:
    """The number in a header's field, None where it is none; sizes of 8 GiB and more are binary."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip()
    if not digits:
        return 0
    try:
        return int(digits, 8) if digits.isdigit() else None
    except ValueError:
        return None


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _pax(content: bytes, offset: int) -> dict[str, str]:
    """The path and size among a pax header's records, each "LENGTH KEY=VALUE" and a newline."""
    records = {}
    while content:
        length, blank, _ = content[:12].partition(b" ")
        count = int(length) if length.isdigit() and blank else 0
        record, content = content[len(length) + 1 : count], content[count:]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise ValueError(f"the pax header at byte {offset} is not sound")
        if key == b"GNU.sparse.name":
            records["path"] = _text(value[:-1])
        if key in (b"path", b"size") and not (key == b"path" and "sparse" in records):
            records[key.decode()] = _text(value[:-1])
        elif key.startswith(b"GNU.sparse"):
            records["sparse"] = ""
    return records


def _check_tail(read: Read, offset: int, end: int) -> None:
    if end - offset > _MAX_TAIL:
        raise ValueError(f"there are {end - offset:,} bytes after the end mark at byte {offset}")
    if read(offset, end - offset).strip(b"\0"):
        raise ValueError(
            f"there is data after the end mark at byte {offset}; joined tar files cannot be read"
        )

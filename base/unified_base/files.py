"""Opening files that strangers may have put there: regular files of bounded size, nothing else.

A FIFO, a device or a folder answers at once with its reason, and a size is compared with its limit
before a byte is read. Every file that the project opens for reading goes through here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

__all__ = ["MAX_FILE", "MAX_TEXT", "open_regular", "read_bytes", "read_text", "regular"]

MAX_FILE = 1 << 30
"""Bytes of a file that is read whole, where its reader names no limit of its own."""
MAX_TEXT = 64 << 20
"""Bytes of a text file that is read whole, likewise."""


@contextmanager
def open_regular(path: str | os.PathLike[str], what: str = "file") -> Iterator[BufferedReader]:
    """A regular file opened for reading, whatever its size.

    what: how an error calls it, such as "picture".

    Raises:
        ValueError: there is no such file, it cannot be opened, or it is no regular file.
    """
    try:
        # Without waiting: a named pipe would never answer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ValueError(f"cannot read {what} {Path(path)}: {reason}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"cannot read {what} {Path(path)}: it is not a regular file")
    with open(descriptor, "rb") as file:
        yield file


def regular(path: str | os.PathLike[str], what: str = "file", limit: int | None = None) -> Path:
    """The path itself, of a regular file that can be opened: for libraries that open it anew.

    Raises:
        ValueError: as `open_regular`, or the file has more than `limit` bytes.
    """
    with open_regular(path, what) as file:
        size = os.fstat(file.fileno()).st_size
    if limit is not None and size > limit:
        raise ValueError(
            f"cannot read {what} {Path(path)}: it is {size:,} bytes long, expected at most "
            f"{limit:,}"
        )
    return Path(path)


def read_bytes(path: str | os.PathLike[str], what: str = "file", limit: int = MAX_FILE) -> bytes:
    """The bytes of a regular file.

    Raises:
        ValueError: as `open_regular`, or the file has more than `limit` bytes.
    """
    with open_regular(path, what) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise ValueError(
                f"cannot read {what} {Path(path)}: it is {size:,} bytes long, expected at most "
                f"{limit:,}"
            )
        try:
            # One byte more: the file may have grown since it was measured, or be one of those of
            # the system that have no size and no end.
            data = file.read(size + 1)
        except OSError as error:
            raise ValueError(f"cannot read {what} {Path(path)}: {error.strerror}") from None
    if len(data) > size:
        raise ValueError(
            f"cannot read {what} {Path(path)}: it has {size:,} bytes and gives more; wait until it "
            "is written, or copy it to an ordinary file"
        )
    return data


def read_text(path: str | os.PathLike[str], what: str = "file", limit: int = MAX_TEXT) -> str:
    """The text of a regular UTF-8 file, a byte order mark left out.

    Raises:
        ValueError: as `read_bytes`, or it is not UTF-8.
    """
    try:
        return read_bytes(path, what, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"cannot read {what} {Path(path)}: it is not UTF-8 text (byte {error.start})"
        ) from None

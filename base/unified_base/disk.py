"""A disk that is full, said in one line with the file's name."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["FULL", "full_disk", "naming_full_disk"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The system's numbers for: no space, the quota is used up, the file would be too large."""


def full_disk(path: str | os.PathLike[str], number: int, advice: str = "") -> ValueError:
    """The error of a file that does not fit. number: one of `FULL`."""
    rest = advice or "free some space and run the command again"
    return ValueError(f"cannot write {os.fspath(path)}: {os.strerror(number)}; {rest}")


@contextmanager
def naming_full_disk(path: str | os.PathLike[str], advice: str = "") -> Iterator[None]:
    """OSErrors of a full disk in the block become a ValueError that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise full_disk(path, error.errno, advice) from None

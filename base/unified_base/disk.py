"""A disk that is full, said in one line with the file's name."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["FULL", "FullDiskError", "full_disk", "naming_full_disk"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The system's numbers for: no space, the quota is used up, the file would be too large."""


class FullDiskError(ValueError):
    """A file that does not fit onto its disk."""


def full_disk(path: str | os.PathLike[str], number: int, advice: str = "") -> FullDiskError:
    """The error of such a file. number: one of `FULL`. advice: what to do beside freeing space."""
    what = f"cannot write {os.fspath(path)}: {os.strerror(number)}"
    return FullDiskError(f"{what}; free some space, {advice or 'then run the command again'}")


@contextmanager
def naming_full_disk(path: str | os.PathLike[str], advice: str = "") -> Iterator[None]:
    """OSErrors of a full disk in the block become a `FullDiskError` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise full_disk(path, error.errno, advice) from None

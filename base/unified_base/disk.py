"""Errors of a full disk as one line that names the file."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["FULL", "FullDiskError", "full_disk", "naming_full_disk", "quiet_threads"]

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


@contextmanager
def quiet_threads() -> Iterator[None]:
    """Threads that a full disk ends in the block print no traceback.

    For writers that hand the error on to whoever gives them more to write, as TensorBoard's does.
    """
    before = threading.excepthook

    def hook(ended: threading.ExceptHookArgs) -> None:
        if not (isinstance(ended.exc_value, OSError) and ended.exc_value.errno in FULL):
            before(ended)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before

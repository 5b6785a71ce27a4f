"""A lock on a folder that one process at a time writes to; it goes with its process."""

from __future__ import annotations

import errno
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["LOCK", "hold_folder"]

LOCK = "lock"
"""Name of the lock's file in the folder. It stays behind, unlocked."""
_TAKEN = (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN)


@contextmanager
def hold_folder(folder: str | Path, doing: str = "trains") -> Iterator[None]:
    """Hold a folder, made if it is not there, against other processes while the block runs.

    The lock is the system's, on FOLDER/lock, whose text is the process's number: it is given back
    however the process ends. Where a file system has no locks a warning says so.

    doing: what the error says that the other process does.

    Raises:
        ValueError: another process holds the folder (its number is named), it cannot be made, or
            its lock cannot be written.
    """
    path = Path(folder) / LOCK
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        # Without waiting: a named pipe would never answer.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(path, flags, 0o644)
    except OSError as error:
        where = folder if error.filename in (None, str(folder)) else error.filename
        raise ValueError(
            f"cannot write to {where}: {error.strerror}; choose a folder you can write to"
        ) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path} is not a regular file; remove it")
        _lock(descriptor, path, doing)
        # For the message of the process that comes second. A full disk must not prevent a run from
        # starting: what it writes itself says so soon enough.
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            warnings.warn(f"the process's number cannot be written into {path}", stacklevel=3)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path, doing: str) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        warnings.warn(
            f"this system has no locks: make sure that nothing else {doing} in {path.parent}",
            stacklevel=4,
        )
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _TAKEN:
            warnings.warn(
                f"{path} cannot be locked ({error.strerror}): make sure that nothing else {doing}"
                f" in {path.parent}",
                stacklevel=4,
            )
            return
        number = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        which = f" ({number})" if number.isdigit() else ""
        raise ValueError(
            f"another process{which} {doing} in {path.parent}; wait for it, or end it first"
        ) from None

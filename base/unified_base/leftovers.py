"""Names of partial files, and removing those whose writer was killed.

A file or folder that is not complete lies beside its destination as `.NAME.TOKEN.partial`, locked
by the process that writes it. The system releases the lock however the process ends: a partial file
without a lock is a leftover, and the next write to the same destination removes it.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

__all__ = ["claim", "is_partial", "partial_path", "remove_leftovers", "remove_leftovers_of",
           "short_name"]  # fmt: skip

_TAKEN = (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN)
_TOKEN = "[0-9a-f]+"
# Of the 255 bytes of a name: dots, token and ending take 18.
_LONGEST = 230


def partial_path(target: Path) -> Path:
    """A new name beside a place. Long names are cut: the token tells them apart."""
    return target.parent / f".{short_name(target)}.{secrets.token_hex(4)}.partial"


def is_partial(name: str) -> bool:
    """Whether a file or folder of this name is, or was, being written."""
    return re.fullmatch(rf"\..*\.{_TOKEN}\.partial", name) is not None


def claim(descriptor: int) -> bool | None:
    """Lock an open file or folder. False: another process has; None: there are no locks here."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _TAKEN else None
    return True


def remove_leftovers(target: Path) -> None:
    """Remove what processes that are gone had begun to write to a place.

    What cannot be told from the work of a living process, or cannot be removed, stays.
    """
    pattern = re.compile(rf"\.{re.escape(short_name(target))}\.{_TOKEN}\.partial")
    with suppress(OSError):
        for name in os.listdir(target.parent):
            if pattern.fullmatch(name):
                _remove_dead(target.parent / name)


def remove_leftovers_of(folder: Path, ending: str) -> None:
    """Remove what processes that are gone had begun to write in a folder, of files ending so."""
    pattern = re.compile(rf"\..*{re.escape(ending)}\.(?:{_TOKEN}\.)?partial")
    with suppress(OSError):
        for name in os.listdir(folder):
            if pattern.fullmatch(name):
                _remove_dead(folder / name)


def _remove_dead(path: Path) -> None:
    with suppress(OSError):
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(path, flags)
        try:
            if not claim(descriptor):
                return
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def short_name(target: Path) -> str:
    """The name of a place, so much of it as fits."""
    return os.fsencode(target.name)[:_LONGEST].decode("utf-8", "ignore")

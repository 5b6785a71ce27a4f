"""Where an output will lie, and why it cannot: links, devices, names that are too long, full disks.

An error about an output is one line that names it: `cannot write OUT: REASON`.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unified_base.disk import FULL
from unified_base.text import safe

__all__ = ["cannot_write", "disk_reason", "output_file", "output_folder", "writing"]

_LONG = 200
_KINDS = (
    (stat.S_ISCHR, "it is a device"),
    (stat.S_ISBLK, "it is a device"),
    (stat.S_ISFIFO, "it is a named pipe"),
    (stat.S_ISSOCK, "it is a socket"),
)
_OPEN_FILES = re.compile(r"/dev/(stdin|stdout|stderr|fd/.*)\Z|/proc/.*")
_FULL = (*FULL, errno.EIO, errno.EROFS)
# How libraries written in Rust (safetensors, tokenizers) tell of an error of the system.
_OS_ERROR = re.compile(r"\(os error (\d{1,4})\)")


def cannot_write(path: str | os.PathLike[str], reason: str | None) -> ValueError:
    """The error that an output cannot be written, its name cut short."""
    name = safe(str(path)).replace("\n", "\\n")
    if len(name) > _LONG:
        name = f"{name[: _LONG // 2]}...{name[-_LONG // 4 :]}"
    return ValueError(f"cannot write {name}: {reason or 'the system does not say why'}")


def disk_reason(error: BaseException) -> str | None:
    """Why the disk took no more (full, over its quota, a file too large, broken); None for any
    other error."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (match := _OS_ERROR.search(str(error))):
        number = int(match[1])
    if number not in _FULL:
        return None
    advice = "; free some space, then run the command again" if number in FULL else ""
    return f"{os.strerror(number)}{advice}"


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """A block whose every OSError is about this output. Raises it as a ValueError that says so."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error.strerror) from None


def output_file(path: str | os.PathLike[str]) -> Path:
    """The file that writing to `path` will make or replace: absolute, symbolic links followed.

    A link that leads to nothing gives the file that it names.

    Raises:
        ValueError: it is a device, a named pipe, a socket, a folder, read-only, standard output
            ("-", /dev/stdout), in a folder that is not there, or no name that the system takes.
    """
    target, status = _follow(path)
    if status is not None:
        if stat.S_ISDIR(status.st_mode):
            raise cannot_write(path, "it is a folder; give a file name")
        # What nobody may write is refused to the superuser, too.
        if not status.st_mode & 0o222 or not os.access(target, os.W_OK):
            raise cannot_write(path, "it is read-only; remove it, or give another name")
    if not target.parent.is_dir():
        raise cannot_write(path, f"there is no folder {target.parent}; create it first")
    return target


def output_folder(path: str | os.PathLike[str]) -> Path:
    """The folder that writing to `path` will make or fill: absolute, symbolic links followed.

    Raises:
        ValueError: something else than a folder is there, or as `output_file` does.
    """
    target, status = _follow(path)
    if status is not None and not stat.S_ISDIR(status.st_mode):
        raise cannot_write(path, "it is a file; give the name of a folder")
    return target


def _follow(path: str | os.PathLike[str]) -> tuple[Path, os.stat_result | None]:
    """Where a path leads, and what is there: nothing, or a regular file or a folder."""
    if str(path) == "-" or _OPEN_FILES.match(os.path.abspath(path)):
        raise cannot_write(path, "results go into files only; give the name of one")
    try:
        target = Path(os.path.realpath(path))
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return target, None
    except OSError as error:
        raise cannot_write(path, error.strerror) from None
    except ValueError as error:  # a NUL in the name
        raise cannot_write(path, str(error)) from None
    for is_kind, reason in _KINDS:
        if is_kind(status.st_mode):
            raise cannot_write(path, f"{reason}; give a file name")
    return target, status

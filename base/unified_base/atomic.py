"""Files written beside their destination and renamed into place: all or nothing."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unified_base.disk import naming_full_disk

__all__ = ["atomic_path", "atomic_write"]


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A path to write to; renamed to `path` when the block ends well, removed when it does not.

    The file lies beside `path` under a name ending in ".partial", so the rename is atomic and a
    failure or Ctrl-C leaves whatever stood at `path` untouched.

    Raises ValueError when the folder is missing or cannot be written to, or the disk is full.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"cannot write {path}: it is a folder; give a file name")
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {path}: there is no folder {path.parent}; create it first")
    partial = path.parent / f".{path.name}.{secrets.token_hex(4)}.partial"
    try:
        partial.touch(exist_ok=False)
    except OSError as error:
        raise ValueError(
            f"cannot write {path}: {error.strerror}; choose a folder you can write to"
        ) from None
    try:
        with naming_full_disk(path):
            yield partial
        try:
            os.replace(partial, path)
        except OSError as error:
            raise ValueError(f"cannot write {path}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def atomic_write(path: str | Path, data: bytes) -> None:
    """Write bytes to a file, all or nothing. Raises ValueError as `atomic_path` does."""
    with atomic_path(path) as partial:
        try:
            partial.write_bytes(data)
        except OSError as error:
            raise ValueError(f"cannot write {path}: {error.strerror}") from None

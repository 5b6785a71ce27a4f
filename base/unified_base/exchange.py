"""Swapping two folders of one file system, atomically where the system can."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from unified_base.leftovers import short_name

__all__ = ["exchange", "restore"]

_HERE = -100  # AT_FDCWD
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS


def exchange(first: Path, other: Path) -> None:
    """Swap the names of two folders.

    Where the file system cannot do this in one step, `other` is first renamed to `.NAME.replaced`,
    so that for an instant neither folder has its name.

    Raises OSError.
    """
    swap = _system_call()
    if swap is not None and swap(os.fsencode(first), os.fsencode(other)) == 0:
        return
    aside = _aside(other)
    os.rename(other, aside)
    try:
        os.rename(first, other)
    except BaseException:
        os.rename(aside, other)
        raise
    os.rename(aside, first)


def restore(folder: Path) -> None:
    """Finish or undo an exchange that was interrupted by a kill."""
    aside = _aside(folder)
    if aside.is_dir() and not folder.exists():
        os.rename(aside, folder)
    elif aside.is_dir():
        shutil.rmtree(aside)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{short_name(folder)}.replaced")


def _system_call() -> Callable[[bytes, bytes], int] | None:
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "linux" and hasattr(library, "renameat2"):
        return lambda first, other: library.renameat2(
            _HERE, ctypes.c_char_p(first), _HERE, ctypes.c_char_p(other), ctypes.c_uint(_EXCHANGE)
        )
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        return lambda first, other: library.renamex_np(
            ctypes.c_char_p(first), ctypes.c_char_p(other), ctypes.c_uint(_EXCHANGE)
        )
    return None

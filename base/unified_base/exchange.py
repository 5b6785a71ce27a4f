"""Two folders of one file system change places, in one step where the system can."""

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
    """Each gets the other's name.

    Where the system cannot do this in one step (a file system that does not know it) `other` is
    missing for an instant: it then lies beside, as `.NAME.replaced`, and `one` has its name at once
    after.

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
    """Undo what is half done: a process was killed while `folder` was missing, or just after."""
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

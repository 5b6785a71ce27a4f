"""numpy's matrix products on the calling thread alone.

OpenBLAS, which numpy's wheels bring along, cuts every product for its own threads, and waits for
them without sleeping. Beside threads that sample, or another process, such a product takes ten
times as long: an article took 12 s on two busy cores, and 4 s so. Products of a picture or a second
of sound are small.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["one_blas_thread"]

# What numpy's wheels have called it, newest first.
_NAMES = tuple(
    (f"{start}openblas_get_num_threads{end}", f"{start}openblas_set_num_threads{end}")
    for start in ("scipy_", "")
    for end in ("64_", "")
)
_lock = threading.Lock()
_inside = 0
_before = 0


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Compute numpy's products without OpenBLAS's threads, in all threads of this process, until
    nobody is inside any more. Other libraries than OpenBLAS are left as they are."""
    functions = _functions()
    if functions is None:
        yield
        return
    global _inside, _before
    get, set_ = functions
    with _lock:
        if _inside == 0:
            _before = get()
            set_(1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                set_(_before)


@cache
def _functions() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """What gets and sets the number of threads of the OpenBLAS that numpy has loaded."""
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        for path in sorted(folder.glob("*openblas*")):
            try:
                library: Any = ctypes.CDLL(str(path))  # loaded already: the same one
            except OSError:
                continue
            for get, set_ in _NAMES:
                if hasattr(library, get) and hasattr(library, set_):
                    return getattr(library, get), getattr(library, set_)
    return None

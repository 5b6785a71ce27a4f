"""Keep the warnings, logs and progress bars of libraries off the command line's terminal.

They are about deprecated names, kernels that a processor lacks and optional packages: nothing that
a user of a command can act upon. Our own warnings go through.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["hush", "no_progress_bars", "our_warnings_alone"]

_OURS = ("unified", "unified_base", "unified_data", "unified_tokenizers")
# Read by libraries when they are imported, and by processes that are started from here.
_ENVIRONMENT = {
    "ABSL_MIN_LOG_LEVEL": "2",
    "DIFFUSERS_VERBOSITY": "error",
    "GRPC_VERBOSITY": "ERROR",
    "HF_HUB_VERBOSITY": "error",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # A fork after its threads have run is told of, unless the choice was made.
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "TRANSFORMERS_VERBOSITY": "error",
}


def hush() -> None:
    """Silence libraries in this process and in those that it starts; what is set already stays.

    Loggers speak from the level of errors on, and Python's warnings are dropped in processes that
    are started from here; in this one, see `our_warnings_alone`.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    logging.disable(logging.WARNING)


@contextmanager
def our_warnings_alone(tell: Callable[[str], None]) -> Iterator[None]:
    """While inside, `tell` has the text of each warning that our code gives; others are dropped."""

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        text = str(message)
        # What torch warns of in C++ seems to come of the line that called it.
        if issubclass(category, UserWarning) and "Triggered internally" not in text and _ours():
            tell(text)

    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield


def _ours() -> bool:
    """Whether the code that called `warnings.warn` is ours, whatever line the warning points at."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__") in ("warnings", "_py_warnings"):
        frame = frame.f_back
    name = "" if frame is None else str(frame.f_globals.get("__name__", ""))
    return name.split(".")[0] in _OURS


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """transformers shows none for a while; afterwards as its user has chosen."""
    from transformers.utils import logging as theirs

    # It is one setting for all threads: the last that leaves puts it back.
    with _bars.lock:
        if not _bars.threads:
            _bars.enabled = theirs.is_progress_bar_enabled()
            theirs.disable_progress_bar()
        _bars.threads += 1
    try:
        yield
    finally:
        with _bars.lock:
            _bars.threads -= 1
            if not _bars.threads and _bars.enabled:
                theirs.enable_progress_bar()


class _Bars:
    """How many are inside `no_progress_bars`, and whether there were any before."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.threads = 0
        self.enabled = True


_bars = _Bars()

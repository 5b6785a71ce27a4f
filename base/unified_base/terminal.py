"""The one way to stdout and stderr: nothing in a text acts on the terminal, all of it is written.

Names, paths, markers and answers are strangers' words. Control characters and what turns or hides
text are written as escapes, and so is what the stream's encoding does not have; what looks like the
markup of rich (`[/x]`, `:cat:`) is text.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from unified_base.text import safe

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "as_json",
    "console",
    "escape_what_cannot_be_written",
    "is_quiet",
    "one_place",
    "quiet",
    "say",
    "tell",
]

_quiet = False


def say(text: str, end: str = "\n") -> None:
    """Write a text to stdout."""
    print(safe(text), end=end, flush=True)


def tell(text: str, end: str = "\n", error: bool = False) -> None:
    """Write a text to stderr; inside `quiet`, only where it is an error."""
    if _quiet and not error:
        return
    print(safe(text), end=end, file=sys.stderr, flush=True)


@contextmanager
def quiet(enabled: bool = True) -> Iterator[None]:
    """While inside, progress and notes are not written; results on stdout and errors are."""
    global _quiet
    before, _quiet = _quiet, enabled
    try:
        yield
    finally:
        _quiet = before


def is_quiet() -> bool:
    """Whether progress and notes are switched off (`unified --quiet`)."""
    return _quiet


def as_json(value: Any) -> str:
    """JSON of which nothing acts on a terminal, for programs the same value."""
    utf8 = (getattr(sys.stdout, "encoding", None) or "ascii").lower().startswith("utf")
    text = json.dumps(value, ensure_ascii=not utf8)
    if text.isprintable():
        return text
    return "".join(c if safe(c) == c else json.dumps(c)[1:-1] for c in text)


def console(stderr: bool = False) -> Console:
    """A console of rich's that takes every text as it is: no markup, no emoji by name."""
    return _kind()(
        stderr=stderr, quiet=stderr and _quiet, markup=False, emoji=False, highlight=False
    )


@lru_cache(maxsize=1)
def _kind() -> Any:
    from rich.console import Console
    from rich.text import Text

    class PlainConsole(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(safe(text), **options)

    return PlainConsole


def one_place() -> bool:
    """Whether stdout and stderr end in one file, pipe or terminal, as after `2>&1`."""
    try:
        out, err = (os.fstat(stream.fileno()) for stream in (sys.stdout, sys.stderr))
    except (OSError, ValueError, AttributeError):  # streams that are no files
        return False
    return (out.st_dev, out.st_ino) == (err.st_dev, err.st_ino)


def escape_what_cannot_be_written() -> None:
    """Let stdout and stderr escape characters that their encoding does not have."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")

"""Calls of other libraries on strangers' files: whatever they raise becomes one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from unified_base.text import safe

__all__ = ["foreign", "one_line"]


def one_line(error: BaseException, limit: int = 300) -> str:
    """What an error says, on one line, cut, with nothing in it that a terminal obeys."""
    text = safe(" ".join(str(error)[: 4 * limit].split()))
    kind = type(error).__name__
    if type(error) not in (ValueError, OSError):
        text = f"{kind}: {text}" if text else kind
    return text if len(text) <= limit else text[:limit] + "..."


@contextmanager
def foreign(what: str) -> Iterator[None]:
    """Everything that is raised inside is a ValueError "WHAT: reason".

    For calls of other people's code on other people's data alone: such code raises whatever its
    parsers meet, overflows the stack and asks for memory that there is not. What is raised by hand
    (Ctrl-C, a signal's exit) passes through.
    """
    try:
        yield
    except Exception as error:  # MemoryError and RecursionError are among them
        raise ValueError(f"{what}: {one_line(error)}") from None
    except BaseException as error:
        # What Rust code raises when it panics derives from BaseException.
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"{what}: {one_line(error)}") from None

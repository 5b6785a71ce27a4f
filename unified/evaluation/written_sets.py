"""Folders of media that a model made of a set's texts, for a scorer of somebody else's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from unified_base.whole_folder import whole_folder
from unified_data.document import Document, Segment

__all__ = ["NothingMadeError", "check_output", "made_folder", "made_of"]

Medium = TypeVar("Medium", bound=Segment)


class NothingMadeError(Exception):
    """Raised inside `made_folder` where there is nothing to write: no folder is left then."""


def check_output(path: Path) -> None:
    """Raises ValueError for a folder that is not empty, before hours are spent on what fills it."""
    if path.exists() and not (path.is_dir() and not os.listdir(path)):
        raise ValueError(f"cannot write {path}: there is something already; give another name")


@contextmanager
def made_folder(path: Path, marker: str) -> Iterator[Path]:
    """A folder that appears as a whole when the block ends well, and not for nothing.

    marker: the file that is written last. Raises ValueError where it cannot be written.
    """
    with suppress(NothingMadeError), whole_folder(path, marker) as folder:
        yield folder


def made_of(result: Document | str, kind: type[Medium]) -> Medium | str:
    """The picture or sound that a completed document ends in, or why there is none."""
    last = result if isinstance(result, str) else result.segments[-1]
    return last if isinstance(last, kind | str) else "nothing came"

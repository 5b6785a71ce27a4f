"""The names of labels: what a segment of one of a few names may be called."""

from __future__ import annotations

import re

from unified_base.text import quoted

__all__ = ["check_label"]

_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}\Z")


def check_label(name: object) -> str:
    """A label's name. Raises ValueError for what is none."""
    if not isinstance(name, str) or not _NAME.match(name):
        raise ValueError(
            f"a label is {quoted(name)}, expected lower case letters, digits and '-', 64 at most"
        )
    return name

"""The words that a task puts around a user's: text with placeholders, `Draw a picture: {text}`.

What a user says is put in verbatim: it is never read for placeholders, braces or markers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from unified_base.text import quoted

__all__ = ["PLACEHOLDERS", "fill", "placeholders_of"]

PLACEHOLDERS = {
    "text": "what to draw, to say or to write about",
    "question": "what is asked about a picture or a sound",
    "voice": "the name of a voice",
    "name": "of what an example shows",
    "images": "the number of pictures of an article",
    "height": "of a picture, in pixels",
    "width": "of a picture, in pixels",
}
"""What a template may name, and what stands there."""

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@lru_cache(maxsize=256)
def _pieces(template: str) -> tuple[tuple[str, str | None], ...]:
    """(literal text, None) or ("", name of a placeholder), in order.

    Raises ValueError for an unknown placeholder and a brace that stands alone.
    """
    pieces: list[tuple[str, str | None]] = []
    end = 0
    for match in _PIECE.finditer(template):
        pieces.append((template[end : match.start()], None))
        end = match.end()
        if match[0] in ("{{", "}}"):
            pieces.append((match[0][0], None))
        elif match[1] is None:
            raise ValueError(
                f"{quoted(template)} has a {match[0]} that belongs to no placeholder; write"
                f" {match[0] * 2} for the character itself"
            )
        elif match[1] not in PLACEHOLDERS:
            raise ValueError(
                f"{quoted(template)} has the placeholder {quoted(match[1])}, expected one of"
                f" {', '.join(PLACEHOLDERS)}"
            )
        else:
            pieces.append(("", match[1]))
    pieces.append((template[end:], None))
    return tuple(piece for piece in pieces if piece != ("", None))


def placeholders_of(template: str) -> tuple[str, ...]:
    """The placeholders of a template, in order. Raises ValueError as for one that is not valid."""
    return tuple(name for _, name in _pieces(template) if name is not None)


def fill(template: str, values: Mapping[str, str | int | None]) -> str:
    """The text of a template with values in the place of its placeholders.

    Raises KeyError, with its name, for a placeholder without a value (None, or left out).
    """
    parts = []
    for literal, name in _pieces(template):
        if name is None:
            parts.append(literal)
            continue
        value = values.get(name)
        if value is None:
            raise KeyError(name)
        parts.append(str(value))
    return "".join(parts)

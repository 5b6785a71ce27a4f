"""Text of strangers, as it may reach a terminal or a message: cut short, nothing in it acts."""

from __future__ import annotations

import unicodedata

__all__ = ["counted", "quoted", "safe"]

_SHORT = 80
# Joiners, without which emoji of several parts and Persian fall apart; they hide and turn nothing.
_JOINERS = "\u200c\u200d"


def safe(text: str) -> str:
    """Text with every character that a terminal might obey written as an escape.

    Control characters (newline and tab left out), line separators, surrogates, and those that
    reorder or hide text (bidirectional marks, zero-width spaces, other format characters) become
    `\\x1b`, `\\u202e` and the like; all that is printed as it is stays.
    """
    if text.isprintable():
        return text
    return "".join(c if _harmless(c) else c.encode("unicode_escape").decode() for c in text)


def quoted(value: object, limit: int = _SHORT) -> str:
    """A value as a message quotes it: `repr`, at most `limit` characters of it, on one line."""
    if isinstance(value, str):
        cut = len(value) > limit
        return _one_line(repr(value[:limit])) + ("..." if cut else "")
    try:
        text = _one_line(repr(value))
    except ValueError:  # an integer of more than 4,300 digits, alone or inside
        text = f"a {type(value).__name__} too long to write"
    return text if len(text) <= limit else text[:limit] + "..."


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """ "1 shard", "2 shards", "1,234 shards". plural: where it is more than the noun and an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _harmless(c: str) -> bool:
    return c in "\n\t" or c.isprintable() or c in _JOINERS or unicodedata.category(c) == "Zs"


def _one_line(text: str) -> str:
    """`safe`, newlines and tabs escaped as well."""
    return safe(text).replace("\n", "\\n").replace("\t", "\\t")

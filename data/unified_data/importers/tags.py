"""<image> and <audio> in the texts of a conversation: places of files, or words.

A conversation has so many files of a kind. Where it has as many tags, all are places. Otherwise
those that stand apart (at the beginning or end of a line) are, where these are as many, and the
others are words: "<image>\\nWhat does <image> mean?" has one place. Anything else is refused.
A backslash before a tag makes it a word: \\<image>.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["Place", "Tags", "count_tags", "split_at_tags"]

_BREAK = r"\r\n|\n|\r"
_TAG = re.compile(
    rf"(?P<before>{_BREAK})?(?P<escape>\\)?<(?P<kind>image|audio)>(?P<after>{_BREAK})?"
)


@dataclass(frozen=True)
class Place:
    """Where the next file of a kind ("image" or "audio") goes. index: which that must be."""

    kind: str
    index: int | None = None


@dataclass(frozen=True)
class Tags:
    """How many tags of one kind there are: all that are not escaped, and those standing apart."""

    every: int = 0
    apart: int = 0

    def __add__(self, other: Tags) -> Tags:
        return Tags(self.every + other.every, self.apart + other.apart)

    def only_apart(self, files: int) -> bool:
        """Whether only those that stand apart are places, where there are so many files."""
        return self.every != files and self.apart == files

    def places(self, only_apart: bool) -> int:
        return self.apart if only_apart else self.every


def count_tags(texts: Iterable[str], kind: str) -> Tags:
    """The tags of a kind in texts."""
    every = apart = 0
    for text in texts:
        for match, stands_apart in _tags(text):
            if match["kind"] == kind and not match["escape"]:
                every += 1
                apart += stands_apart
    return Tags(every, apart)


def split_at_tags(text: str, only_apart: dict[str, bool]) -> tuple[list[str | Place], list[str]]:
    """A text and its places in order, and the kinds of the tags that are left as words.

    only_apart: by each kind that can have places whether only tags that stand apart are some. The
    line break beside a place goes with it.
    """
    pieces: list[str | Place] = []
    words: list[str] = []
    start = 0
    for match, stands_apart in _tags(text):
        kind = match["kind"]
        if kind not in only_apart:
            continue
        if match["escape"]:
            pieces.append(text[start : match.start("escape")])
            start = match.end("escape")
        elif only_apart[kind] and not stands_apart:
            words.append(kind)
        else:
            pieces += [text[start : match.start()], Place(kind)]
            start = match.end()
    pieces.append(text[start:])
    return _joined(pieces), words


def _joined(pieces: list[str | Place]) -> list[str | Place]:
    """Neighbouring texts as one."""
    joined: list[str | Place] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if isinstance(piece, str) and isinstance(last, str):
            joined[-1] = last + piece
        else:
            joined.append(piece)
    return joined


def _tags(text: str) -> Iterator[tuple[re.Match[str], bool]]:
    """The tags of a text, and whether each stands at the beginning or the end of a line."""
    end, last_apart = 0, True
    for match in _TAG.finditer(text):
        begins = match["before"] is not None or (match.start() == end and last_apart)
        ends = match["after"] is not None or match.end() == len(text)
        last_apart = begins or ends
        end = match.end()
        yield match, last_apart

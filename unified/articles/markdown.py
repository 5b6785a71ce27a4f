"""Markdown, as language models write it, in blocks of lines.

Headings (`## A`, underlined, or a line in bold), lists, quotes, rules and fences; what is none of
these is a paragraph. Of inline marks only emphasis goes: all other characters stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["TextBlock", "TextKind", "plain_text", "text_blocks"]

TextKind = Literal["heading", "paragraph", "quote", "list", "numbered"]

# Not str.splitlines: it takes separators for line ends that no Markdown knows.
_LINE_END = re.compile(r"\r\n|\r|\n")
_HEADING = re.compile(r"(#{1,6}) +(.*?)(?: +#+)?")
_BOLD_LINE = re.compile(r"(?:\*\*([^*]+)\*\*|__([^_]+)__):?")
_UNDERLINE = re.compile(r"=+|-{2,}")
_RULE = re.compile(r"(?:[-*_] *){3,}")
_ITEM = re.compile(r"(?:[-*+•]|(\d{1,3})[.)]) +(\S.*)")
_FENCE = re.compile(r"`{3,}\w*|~{3,}\w*")
# Emphasis touches the word inside it: "2 * 3 * 4" and snake_case_names have none.
_BOLD = re.compile(r"\*\*(?=\S)([^*\n]+?)(?<=\S)\*\*|(?<!\w)__(?=\S)([^_\n]+?)(?<=\S)__(?!\w)")
_EMPHASIS = re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]+?)(?<=[^\s*])\*(?![\w*])")


@dataclass(frozen=True)
class TextBlock:
    """Lines that belong together. level: of a heading, 1 to 6; 0 for everything else."""

    kind: TextKind
    lines: tuple[str, ...]
    level: int = 0


def plain_text(text: str) -> str:
    """A text without the marks of emphasis."""
    text = _BOLD.sub(lambda match: match[1] or match[2], text)
    return _EMPHASIS.sub(r"\1", text)


def text_blocks(text: str) -> list[TextBlock]:
    """The blocks of a text in order. Rules between them and empty ones are left out."""
    blocks: list[TextBlock] = []
    is_open = False  # whether the next line may go on with the last block
    for line in _unfenced([line.strip(" \t") for line in _LINE_END.split(text)]):
        if not line:
            is_open = False
            continue
        last = blocks[-1] if blocks else None
        if is_open and last is not None and _underlines(line, last):
            blocks[-1] = TextBlock("heading", last.lines, 1 if line[0] == "=" else 2)
            is_open = False
            continue
        if _RULE.fullmatch(line):
            is_open = False
            continue
        kind, content, level = _read_line(line)
        if not content:
            continue
        if is_open and last is not None and last.kind == kind and kind != "heading":
            blocks[-1] = TextBlock(kind, (*last.lines, content))
        else:
            blocks.append(TextBlock(kind, (content,), level))
        is_open = kind != "heading"
    return blocks


def _underlines(line: str, last: TextBlock) -> bool:
    """Whether a line makes the one before it a heading."""
    return bool(_UNDERLINE.fullmatch(line)) and last.kind == "paragraph" and len(last.lines) == 1


def _read_line(line: str) -> tuple[TextKind, str, int]:
    """The kind of block that a line belongs to, the line without its mark, a heading's level."""
    if match := _HEADING.fullmatch(line):
        return "heading", match[2], len(match[1])
    if match := _BOLD_LINE.fullmatch(line):
        return "heading", (match[1] or match[2]).strip(), 2
    if line.startswith(">"):
        return "quote", line.lstrip("> "), 0
    if match := _ITEM.fullmatch(line):
        return ("numbered" if match[1] else "list"), match[2], 0
    return "paragraph", line, 0


def _unfenced(lines: list[str]) -> Iterator[str]:
    """The lines without the fences of code: a chat model may put a whole article into one."""
    return (line for line in lines if not _FENCE.fullmatch(line))

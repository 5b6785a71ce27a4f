"""An article's segments as blocks: headings, paragraphs, quotes, narrations and figures.

The text of a response is Markdown by convention (`unified_data.pocket.articles`): a line
`![caption]` right before a picture is its caption, a quote `> (ben) sentence` right before a sound
its transcript and voice. What does not follow the convention is kept as a plain paragraph.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from unified_data.document import Audio, Document, Image, Slot, Text

__all__ = ["Block", "Figure", "Heading", "Narration", "Paragraph", "Quote", "read_blocks"]


@dataclass(frozen=True)
class Heading:
    """level: 1 (the title) to 6."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Quote:
    text: str


@dataclass(frozen=True)
class Figure:
    """A picture and its caption, which may be empty."""

    image: Image
    caption: str


@dataclass(frozen=True)
class Narration:
    """A sound, what is said in it and by which voice; both may be empty."""

    audio: Audio
    transcript: str
    voice: str


Block = Heading | Paragraph | Quote | Figure | Narration

_HEADING = re.compile(r"(#{1,6}) +(.*?)(?: +#+)?")
_CAPTION = re.compile(r"!\[(.*)\]")
_VOICED = re.compile(r"\((\w+)\) (.*)", re.DOTALL)


def read_blocks(document: Document) -> tuple[Block, ...]:
    """The blocks of a document's response; of the whole document where nothing is a response.

    Raises ValueError for a document with slots: there is nothing to show in them yet.
    """
    segments = [segment for segment in document if segment.role == "response"]
    blocks: list[Block] = []
    for segment in segments or document.segments:
        if isinstance(segment, Text):
            blocks += _text_blocks(segment.text)
        elif isinstance(segment, Slot):
            raise ValueError("the document has slots still to be filled; sample it first")
        elif isinstance(segment, Image):
            blocks.append(Figure(segment, _caption(blocks)))
        elif isinstance(segment, Audio):
            blocks.append(Narration(segment, *_transcript(blocks)))
        else:  # media that no page can show
            blocks.append(Paragraph(f"[{segment.noun}]"))
    return tuple(blocks)


def _caption(blocks: list[Block]) -> str:
    """Take the caption that the last block is, if it is one."""
    if blocks and isinstance(blocks[-1], Paragraph):
        before, _, last = blocks[-1].text.rpartition("\n")
        if match := _CAPTION.fullmatch(last):
            blocks.pop()
            if before:
                blocks.append(Paragraph(before))
            return match[1].strip()
    return ""


def _transcript(blocks: list[Block]) -> tuple[str, str]:
    """Take (transcript, voice) from the last block, if it is a quote."""
    if not blocks or not isinstance(blocks[-1], Quote):
        return "", ""
    text = blocks[-1].text
    blocks.pop()
    match = _VOICED.fullmatch(text)
    return (match[2], match[1]) if match else (text, "")


def _text_blocks(text: str) -> list[Block]:
    blocks: list[Block] = []
    open_kind: type[Paragraph] | type[Quote] | None = None
    # Not str.splitlines: it takes separators for line ends that no Markdown knows.
    for line in re.split(r"\r\n|\r|\n", text):
        line = line.strip(" \t")
        kind: type[Paragraph] | type[Quote] = Paragraph
        if not line:
            open_kind = None
            continue
        if match := _HEADING.fullmatch(line):
            blocks.append(Heading(len(match[1]), match[2]))
            open_kind = None
            continue
        if line.startswith(">"):
            kind, line = Quote, line.lstrip("> ")
        last = blocks[-1] if blocks else None
        if kind is open_kind and isinstance(last, Paragraph | Quote):
            blocks[-1] = kind(f"{last.text}\n{line}")
        else:
            blocks.append(kind(line))
        open_kind = kind
    return [block for block in blocks if block.text]  # type: ignore[union-attr]

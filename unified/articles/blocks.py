"""An article's segments as blocks: headings, paragraphs, lists, quotes, narrations and figures.

The text of a response is Markdown, or paragraphs apart by empty lines. The pocket world's articles
(`unified_data.pocket.articles`) have a line `![caption]` right before a picture and a quote
`> (ben) sentence` right before a sound; those of the world of free scenes have a line of its
phonemes, `/ɪt ɪz/`, between the quote and the sound. Other models leave captions out, put them
behind the picture ("Figure 1: a panda"), mark pictures ("[Image]"), or give no headings at all;
what can be told apart becomes a caption or a heading, and everything else stays text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from unified.articles.markdown import TextBlock, plain_text, text_blocks
from unified_data.document import Audio, Document, Image, Slot, Text

__all__ = ["Block", "Figure", "Heading", "Listing", "Narration", "Paragraph", "Quote",
           "check_substance", "headings_of", "read_blocks"]  # fmt: skip

LEAST_LETTERS = 20
"""Letters and digits that an article without media holds at least, beside its headings."""


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
class Listing:
    """The items of a list, numbered from 1 or not."""

    items: tuple[str, ...]
    numbered: bool = False


@dataclass(frozen=True)
class Figure:
    """A picture and its caption, which may be empty."""

    image: Image
    caption: str


@dataclass(frozen=True)
class Narration:
    """A sound, what is said in it and by which voice; both may be empty. phonemes: that the model
    wrote before it spoke, which no page shows."""

    audio: Audio
    transcript: str
    voice: str
    phonemes: str = ""


Block = Heading | Paragraph | Quote | Listing | Figure | Narration

_LABEL = r"(?:figure|fig\.?|image|picture|photo|illustration|caption)"
_MARKED_CAPTION = re.compile(r"!\[(.*)\](?:\(.*\))?")
_LABELLED_CAPTION = re.compile(rf"{_LABEL}(?: *\d+)? *[:.–—-] *(.+)", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    rf"<\W*{_LABEL}(?: *\d+)?\W*>|[\[(] *{_LABEL}(?: *\d+)?(?: *[:–—-] *(.*?))? *[\])]",
    re.IGNORECASE,
)
_ITALIC = re.compile(r"\*(?!\*)([^*]+)\*|_(?!_)([^_]+)_")
_VOICED = re.compile(r"\((\w+)\) (.*)", re.DOTALL)
_PHONEMES = re.compile(r"(?:(.*)\n)?/([^/\n]+)/", re.DOTALL)
_SPOKEN = re.compile(r"([a-z]{2,20}): (\S.*)")
_TITLE = re.compile(r"title *: *(.+)", re.IGNORECASE)
_MOST_TITLE = 80
_LEAST_PROSE = 80  # characters of a paragraph under a line that is taken for its heading


def read_blocks(document: Document) -> tuple[Block, ...]:
    """The blocks of a document's response; of the whole document where nothing is a response.

    Raises ValueError for a document with slots: there is nothing to show in them yet.
    """
    segments = [segment for segment in document if segment.role == "response"]
    blocks: list[Block] = []
    for segment in segments or document.segments:
        if isinstance(segment, Text):
            _add_text(blocks, segment.text)
        elif isinstance(segment, Slot):
            raise ValueError("the document has slots still to be filled; sample it first")
        elif isinstance(segment, Image):
            blocks.append(Figure(segment, _caption_before(blocks)))
        elif isinstance(segment, Audio):
            blocks.append(Narration(segment, *_transcript(blocks)))
        else:  # media that no page can show
            blocks.append(Paragraph(f"[{segment.noun}]"))
    return tuple(_plain(block) for block in _with_title(blocks))


def headings_of(document: Document) -> tuple[str, ...]:
    """The section headings of an article (level 2), in order; errors as those of `read_blocks`."""
    blocks = read_blocks(document)
    return tuple(b.text for b in blocks if isinstance(b, Heading) and b.level == 2)


def check_substance(document: Document) -> None:
    """Raises ValueError for an article of next to nothing: no media, and hardly a sentence."""
    blocks = read_blocks(document)
    if any(isinstance(block, Figure | Narration) for block in blocks):
        return
    texts = [" ".join(b.items) if isinstance(b, Listing) else b.text for b in blocks
             if isinstance(b, Paragraph | Quote | Listing)]  # fmt: skip
    letters = sum(map(str.isalnum, "".join(texts)))
    if letters < LEAST_LETTERS:
        raise ValueError(
            f"the article holds next to nothing ({letters} letters of text, no picture, no sound); "
            "try another seed or another prompt"
        )


def _add_text(blocks: list[Block], text: str) -> None:
    """Add a text's blocks; its first line may be the caption of a picture just before it."""
    parts = text_blocks(text)
    last = blocks[-1] if blocks else None
    if parts and isinstance(last, Figure) and not last.caption:
        first, *rest = parts[0].lines
        caption = _caption_of(first, behind=True) if parts[0].kind == "paragraph" else None
        if caption:
            blocks[-1] = replace(last, caption=caption)
            parts = [replace(parts[0], lines=tuple(rest)), *parts[1:]] if rest else parts[1:]
    blocks += [_block(part) for part in parts]


def _block(part: TextBlock) -> Block:
    """A text's block, marks of emphasis and all: what is a caption they help to tell."""
    if part.kind == "heading":
        return Heading(part.level, part.lines[0])
    if part.kind in ("list", "numbered"):
        return Listing(part.lines, part.kind == "numbered")
    return (Quote if part.kind == "quote" else Paragraph)("\n".join(part.lines))


def _plain(block: Block) -> Block:
    """A block without marks of emphasis."""
    if isinstance(block, Listing):
        return replace(block, items=tuple(map(plain_text, block.items)))
    if isinstance(block, Figure):
        return replace(block, caption=plain_text(block.caption))
    if isinstance(block, Narration):
        return replace(block, transcript=plain_text(block.transcript))
    return replace(block, text=plain_text(block.text))


def _caption_of(line: str, behind: bool) -> str | None:
    """The caption that a line is, "" for a mere mark of a picture; None for any other line.

    behind: the line follows its picture; those before one may be in italics as well.
    """
    if not behind and (match := _MARKED_CAPTION.fullmatch(line)):
        return match[1].strip()
    if not behind and (match := _PLACEHOLDER.fullmatch(line)):
        return (match[1] or "").strip()
    if match := _LABELLED_CAPTION.fullmatch(plain_text(line).strip("*_ ")):
        return match[1].strip()
    if match := _ITALIC.fullmatch(line):
        return (match[1] or match[2]).strip()
    return None


def _caption_before(blocks: list[Block]) -> str:
    """Take the caption of a picture from the end of the last block, if there is one."""
    if not blocks or not isinstance(blocks[-1], Paragraph):
        return ""
    before, _, line = blocks[-1].text.rpartition("\n")
    caption = _caption_of(line, behind=False)
    if caption is None:
        return ""
    blocks.pop()
    if before:
        blocks.append(Paragraph(before))
    return caption


def _transcript(blocks: list[Block]) -> tuple[str, str, str]:
    """Take (transcript, voice, phonemes) from the last blocks: a quote, or one line "voice:
    sentence", and the line of phonemes behind either."""
    phonemes = ""
    spoken = blocks[-1] if blocks else None
    if isinstance(spoken, Paragraph | Quote) and (match := _PHONEMES.fullmatch(spoken.text)):
        phonemes = match[2]
        blocks.pop()
        if match[1]:
            blocks.append(replace(spoken, text=match[1]))
    return (*_said(blocks), phonemes)


def _said(blocks: list[Block]) -> tuple[str, str]:
    last = blocks[-1] if blocks else None
    if isinstance(last, Paragraph) and (match := _SPOKEN.fullmatch(last.text)):
        blocks.pop()
        return match[2], match[1]
    if not isinstance(last, Quote):
        return "", ""
    blocks.pop()
    match = _VOICED.fullmatch(last.text)
    return (match[2], match[1]) if match else (last.text, "")


def _with_title(blocks: list[Block]) -> list[Block]:
    """The blocks with a title where one can be told: a heading above all others, or a first line.

    An article that has a heading of level 1 stays as it is.
    """
    levels = [block.level for block in blocks if isinstance(block, Heading)]
    if 1 in levels:
        return blocks
    if levels:
        if levels[0] >= min(levels[1:], default=7):
            return blocks
        up = levels[0] - 1
        return [replace(b, level=b.level - up) if isinstance(b, Heading) else b for b in blocks]
    return _plain_headings(blocks)


def _plain_headings(blocks: list[Block]) -> list[Block]:
    """Short lines of an article without Markdown as its title and headings."""
    titled: list[Block] = []
    for number, block in enumerate(blocks):
        following = blocks[number + 1] if number + 1 < len(blocks) else None
        if not isinstance(block, Paragraph) or following is None:
            titled.append(block)
        elif not number and (match := _TITLE.fullmatch(block.text)):
            titled.append(Heading(1, match[1]))
        elif not _is_short_line(block.text):
            titled.append(block)
        elif not number:
            cut = isinstance(following, Figure) and _goes_on(blocks[1:])
            titled.append(block if cut else Heading(1, block.text))
        elif isinstance(following, Paragraph) and len(following.text) >= _LEAST_PROSE:
            titled.append(Heading(2, block.text))
        else:
            titled.append(block)
    return titled


def _goes_on(blocks: list[Block]) -> bool:
    """Whether the next paragraph goes on with a sentence that a picture broke off."""
    paragraph = next((block for block in blocks if isinstance(block, Paragraph)), None)
    return paragraph is not None and paragraph.text[:1].islower()


def _is_short_line(text: str) -> bool:
    """Whether a paragraph looks like a heading: one short line without a sentence's end."""
    short = len(text) <= _MOST_TITLE and "\n" not in text
    return short and text[:1].isupper() and text[-1] not in ".,;:!?…\"')"

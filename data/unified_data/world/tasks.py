"""What people ask of a model of the world, as documents; prompts as the pocket model's, and more.

Training documents and requests are made by the same functions: a request passes a `Slot` where
training passes the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unified_data.document import Box, Document, Image, Segment, Slot, Text
from unified_data.pocket.tasks import ask_document, describe_document, draw_document

__all__ = [
    "DESCRIBE_ZH", "FIND", "NOT_KNOWN", "NOT_KNOWN_ZH", "ask_document", "describe_document",
    "describe_zh_document", "draw_document", "edit_document", "ground_document",
    "names_document", "region_document",
]  # fmt: skip

DESCRIBE_ZH = "描述"
"""What stands behind a picture that is to be described in Chinese."""
FIND = "Find: "
"""What stands before the words for what is to be found in a picture."""
NOT_KNOWN = "I do not know what this is."
NOT_KNOWN_ZH = "我不知道这是什么。"
"""What is said of a picture that shows nothing of the world."""


def _prompt(segment: Segment) -> Segment:
    return replace(segment, role="prompt", loss=0.0)


def _response(segment: Segment) -> Segment:
    return replace(segment, role="response", loss=1.0)


def describe_zh_document(picture: Image, answer: Text | Slot) -> Document:
    """Image to text: the answer is the caption in Chinese."""
    return Document((_prompt(picture), _prompt(Text(DESCRIBE_ZH)), _response(answer)))


def edit_document(picture: Image, wish: str, answer: Image | Slot) -> Document:
    """Image and text to image: `wish` says what is to change, with its `Edit:` or `修改：`."""
    return Document((_prompt(picture), _prompt(Text(wish)), _response(answer)))


def ground_document(picture: Image, text: str, answer: Sequence[Text | Box] | Slot) -> Document:
    """Image and text to boxes: where the things of `text` are, or that there are none.

    answer: boxes, each with its name before it where `text` does not say it; or a text.
    """
    parts = [answer] if isinstance(answer, Slot) else answer
    prompt = (_prompt(picture), _prompt(Text(f"{FIND}{text}")))
    return Document((*prompt, *map(_response, parts)))


def region_document(picture: Image, question: str, box: Box, answer: Text | Slot) -> Document:
    """Image, question and box to text: the answer is about what is in the box."""
    asked = (_prompt(picture), _prompt(Text(question)), _prompt(box))
    return Document((*asked, _response(answer)))


def names_document(
    examples: Sequence[tuple[Image, str]], picture: Image, answer: Text | Slot
) -> Document:
    """Pictures with made-up names, (picture, name) each, and one to be named by them.

    Raises ValueError when there is no example.
    """
    if not examples:
        raise ValueError("a document of names needs at least one example")
    segments: list[Segment] = []
    for example, name in examples:
        segments += [_prompt(example), _prompt(Text(f"This is a {name}."))]
    segments += [_prompt(picture), _prompt(Text("What is this?")), _response(answer)]
    return Document(tuple(segments))

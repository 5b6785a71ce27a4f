"""What people ask of the pocket model, as documents.

Training documents and requests are built by the same functions: a request passes a `Slot` where
training passes the answer. Prompts have role "prompt" and loss 0, answers role "response".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unified_data.document import Audio, Document, Image, Segment, Slot, Text
from unified_data.pocket.scenes import SIDE
from unified_data.pocket.speech import find_voice

__all__ = [
    "ask_document",
    "describe_document",
    "draw_document",
    "draw_prompt",
    "image_slot",
    "listen_document",
    "speak_document",
    "speak_prompt",
]


def draw_prompt(caption: str) -> str:
    """`![a cat]`: what stands before a picture, in articles too."""
    return f"![{caption}]"


def speak_prompt(sentence: str, voice: str) -> str:
    """`> (ben) It is a cat.`: what stands before a narration, in articles too.

    Raises ValueError for an unknown voice.
    """
    return f"> ({find_voice(voice).name}) {sentence}"


def image_slot() -> Slot:
    """A slot for a picture of the world's size, 96x96."""
    return Slot("image", height=SIDE, width=SIDE)


def _prompt(segment: Segment) -> Segment:
    return replace(segment, role="prompt", loss=0.0)


def _response(segment: Segment) -> Segment:
    return replace(segment, role="response", loss=1.0)


def draw_document(caption: str, answer: Image | Slot) -> Document:
    """Text to image."""
    return Document((_prompt(Text(draw_prompt(caption))), _response(answer)))


def describe_document(picture: Image, answer: Text | Slot) -> Document:
    """Image to text: the answer is the caption."""
    return Document((_prompt(picture), _response(answer)))


def ask_document(picture: Image, turns: Sequence[tuple[str, str | Slot]]) -> Document:
    """Questions about a picture, each (question, answer); a slot stands for an answer wanted.

    Raises ValueError when there is no question.
    """
    if not turns:
        raise ValueError("a document of questions needs at least one question")
    segments = [_prompt(picture)]
    for question, answer in turns:
        segments.append(_prompt(Text(question)))
        segments.append(_response(Text(answer) if isinstance(answer, str) else answer))
    return Document(tuple(segments))


def speak_document(sentence: str, voice: str, answer: Audio | Slot) -> Document:
    """Text to speech. Raises ValueError for an unknown voice."""
    return Document((_prompt(Text(speak_prompt(sentence, voice))), _response(answer)))


def listen_document(sound: Audio, answer: Text | Slot) -> Document:
    """Speech to text: the answer is the sentence."""
    return Document((_prompt(sound), _response(answer)))

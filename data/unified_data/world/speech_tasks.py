"""What people ask of a model of the world with sound in it, as documents.

Between text and sound stand phonemes, both ways: a model that speaks writes them first, and one
that listens writes what it heard before it writes words. Training documents and requests are made
by the same functions: a request passes slots where training passes answers.
"""

from __future__ import annotations

from dataclasses import replace

from unified_data.document import Audio, Document, Image, Segment, Slot, Text
from unified_data.world.phonemes import format_phonemes
from unified_data.world.voices import find_speaker

__all__ = [
    "NOTHING_SAID", "ask_spoken_document", "draw_spoken_document", "listen_document",
    "say_picture_document", "speak_document", "spoken_prompt", "transcript",
]  # fmt: skip

NOTHING_SAID = "Nothing is said."
"""What is written down of silence and of noise alone."""


def _prompt(segment: Segment) -> Segment:
    return replace(segment, role="prompt", loss=0.0)


def _response(segment: Segment) -> Segment:
    return replace(segment, role="response", loss=1.0)


def spoken_prompt(voice: str, sentence: str = "") -> str:
    """`> (ben) It is a cat.`; without a sentence `> (ben)`. Raises ValueError for another voice."""
    return f"> ({find_speaker(voice).name}) {sentence}".rstrip()


def transcript(phonemes: str, sentence: str) -> str:
    """Two lines: what was heard and what it means.

    /ɪt ɪz ɐ kæt/
    It is a cat.
    """
    return f"{format_phonemes(phonemes)}\n{sentence}"


def speak_document(
    sentence: str, voice: str, phonemes: Text | Slot, answer: Audio | Slot
) -> Document:
    """Text to phonemes and speech. Raises ValueError for an unknown voice."""
    prompt = Text(spoken_prompt(voice, sentence))
    return Document((_prompt(prompt), _response(phonemes), _response(answer)))


def listen_document(sound: Audio, answer: Text | Slot) -> Document:
    """Speech to text: the answer is a `transcript`, or `NOTHING_SAID`."""
    return Document((_prompt(sound), _response(answer)))


def draw_spoken_document(caption: Audio, answer: Image | Slot) -> Document:
    """A caption said aloud to its picture."""
    return Document((_prompt(caption), _prompt(Text("![]")), _response(answer)))


def say_picture_document(
    picture: Image, voice: str, phonemes: Text | Slot, answer: Audio | Slot
) -> Document:
    """A picture to its caption, said aloud. Raises ValueError for an unknown voice."""
    prompt = Text(spoken_prompt(voice))
    return Document((_prompt(picture), _prompt(prompt), _response(phonemes), _response(answer)))


def ask_spoken_document(picture: Image, question: Audio, answer: Text | Slot) -> Document:
    """A picture and a question about it, said aloud; the answer is as that of `ask`."""
    return Document((_prompt(picture), _prompt(question), _response(answer)))

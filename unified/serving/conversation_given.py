"""What a client says and wants to have, as one of the things that a model can be asked.

Both chat completions and responses bring messages of words, pictures and sounds; a model is asked
by a verb (`unified.tasks`). Which one follows from what is given and what is wanted:

    words                 text                  write, without pictures and sound
                          text and image, ...   write, with what is wanted
                          image / audio alone   draw / speak
    a picture             text                  describe; with words: ask
    a sound               text                  listen; with words: ask
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unified.serving.api_errors import ApiError
from unified.tasks.asking import Turn
from unified.tasks.task import Verb
from unified_data.document import Audio

__all__ = ["MODALITIES", "Asking", "Message", "choose_verb", "without_effect"]

MODALITIES = ("text", "image", "audio")
_NO_DIRECTIONS = "the model takes no directions beside what it is asked"
_ASKED_ALONE = "the model is asked one thing at a time, without what was said before"


@dataclass(frozen=True, eq=False)
class Message:
    """Something that was said.

    role: "system" (also "developer"), "user" or "assistant". param: where it stands in the request.
    """

    role: str
    text: str
    param: str
    pictures: tuple[np.ndarray, ...] = ()
    sounds: tuple[Audio, ...] = ()

    @property
    def media(self) -> int:
        """How many pictures and sounds it has."""
        return len(self.pictures) + len(self.sounds)


@dataclass(frozen=True, eq=False)
class Asking:
    """A verb with what `UnifiedModel.request` takes for it. param: the field that it came from."""

    verb: Verb
    param: str
    inputs: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


def choose_verb(
    messages: Sequence[Message], wanted: Sequence[str], param: str = "messages"
) -> Asking:
    """The verb of a conversation whose last message is a user's.

    wanted: some of `MODALITIES`. param: the field of the messages, for errors.

    Raises ApiError for a conversation that no verb is for.
    """
    if not messages or messages[-1].role != "user":
        param = messages[-1].param if messages else param
        raise ApiError(400, "the last message is not a user's, so nothing is asked", param=param)
    modalities = set(wanted)
    warnings = []
    if any(message.role == "system" and message.text for message in messages):
        warnings.append(f"system and developer messages have no effect here: {_NO_DIRECTIONS}")
    dialogue = [message for message in messages if message.role != "system"]
    of_media = [
        at for at, message in enumerate(dialogue) if message.role == "user" and message.media
    ]
    if of_media:
        if modalities != {"text"}:
            raise ApiError(
                400,
                f"modalities is {sorted(modalities)}, expected text alone: what is asked about"
                " a picture or a sound is answered in text",
                param="modalities",
            )
        asking = _about_media(dialogue[of_media[-1] :])
        earlier = of_media[-1] > 0
    else:
        asking = _by_words(dialogue[-1], modalities)
        earlier = len(dialogue) > 1
    if earlier:
        warnings.append(f"earlier messages have no effect here: {_ASKED_ALONE}")
    return Asking(asking.verb, asking.param, asking.inputs, [*warnings, *asking.warnings])


def without_effect(asking: Asking, guidance: float | None, stops: Sequence[str] = ()) -> list[str]:
    """What was chosen about the sampling of something that is not made, in words."""
    warnings = []
    if guidance is not None and asking.verb == "write" and asking.inputs.get("images") == 0:
        warnings.append("guidance has no effect here: it is of pictures, and none are wanted")
    if stops and asking.verb in ("draw", "speak"):
        warnings.append("stop has no effect here: it is of texts, and none is the answer")
    return warnings


def _by_words(message: Message, modalities: set[str]) -> Asking:
    if not message.text.strip():
        raise ApiError(400, "the last message says nothing", param=message.param)
    text = {"text": message.text}
    if modalities == {"image"}:
        return Asking("draw", message.param, text)
    if modalities == {"audio"}:
        return Asking("speak", message.param, text)
    images = None if "image" in modalities else 0
    sounds = None if "audio" in modalities else 0
    return Asking("write", message.param, {**text, "images": images, "sounds": sounds})


def _about_media(dialogue: Sequence[Message]) -> Asking:
    """What is asked about the media of the first message, perhaps after other questions."""
    first, last = dialogue[0], dialogue[-1]
    if first.media > 1:
        raise ApiError(
            400,
            f"the message has {first.media} pictures and sounds, expected one: the model is asked"
            " about one at a time",
            param=first.param,
        )
    inputs: dict[str, Any] = (
        {"image": first.pictures[0]} if first.pictures else {"audio": first.sounds[0]}
    )
    if len(dialogue) == 1 and not first.text.strip():
        return Asking("describe" if first.pictures else "listen", first.param, inputs)
    questions = [m for m in dialogue if m.role == "user" and m.text.strip()]
    if not last.text.strip():
        raise ApiError(400, "the last message says nothing", param=last.param)
    turns, warnings = _turns(dialogue)
    if len(turns) < len(questions) - 1:
        warnings.append("a question without an answer has no effect here: it is not asked again")
    inputs |= {"question": last.text, "turns": turns}
    return Asking("ask", last.param, inputs, warnings)


def _turns(dialogue: Sequence[Message]) -> tuple[tuple[Turn, ...], list[str]]:
    """Questions before the last that were answered."""
    turns, warnings = [], []
    question = ""
    for message in dialogue[:-1]:
        if message.role == "user":
            question = message.text
        elif question.strip() and message.text.strip():
            turns.append(Turn(question, message.text))
            question = ""
        else:
            warnings.append("an answer without a question has no effect here")
    return tuple(turns), warnings

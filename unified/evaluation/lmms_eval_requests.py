"""What lmms-eval asks, as requests to a model of ours: messages to a verb and its inputs.

lmms-eval (https://github.com/EvolvingLMMs-Lab/lmms-eval) hands a chat model messages of text,
pictures and sounds, and the settings of its task. This file knows their form alone, so that it is
read and tested without lmms-eval; `lmms_eval_model` has the class that it runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from unified.tasks.asking import Turn
from unified.tasks.task import Verb
from unified_base.foreign import foreign
from unified_base.images import load_image
from unified_base.media_source import media_kind
from unified_base.sounds import load_audio
from unified_base.text import quoted
from unified_data.document import Audio, Document, Image, Text

__all__ = ["LmmsRequest", "answer_text", "cut_at", "read_messages", "read_settings"]

_IGNORED = ("num_beams", "use_cache", "return_dict_in_generate", "image_aspect_ratio")
"""Settings of lmms-eval's tasks that change nothing here at the values that are let through."""


@dataclass(frozen=True, eq=False)
class LmmsRequest:
    """A verb and what it is given, for `UnifiedModel.request`."""

    verb: Verb
    inputs: dict[str, Any]


@dataclass
class _Read:
    texts: list[str] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)
    sounds: list[Audio] = field(default_factory=list)

    @property
    def words(self) -> str:
        return "\n".join(self.texts).strip()


def read_messages(
    messages: Sequence[Mapping[str, Any]], asks_of_sound: bool = False, write_down: bool = False
) -> LmmsRequest:
    """The request of a conversation whose last message is a user's.

    A picture with words is asked about, one without words described; a sound is written down; words
    alone are written to. Turns before the last are questions and answers about the one picture.

    Args:
        messages: {"role": ..., "content": [{"type": "text", "text": ...}, {"type": "image", "url":
            picture or path}, {"type": "audio", "url": ...}]}.
        asks_of_sound: whether the model answers questions about sounds.
        write_down: whether a sound is written down whatever the words beside it say.

    Raises ValueError for what no verb takes: several media, a video, words of a system.
    """
    if not messages or messages[-1].get("role") != "user":
        raise ValueError("the conversation does not end with a user's message")
    turns: list[tuple[str, str]] = []
    media = _Read()
    question: str | None = None
    for message in messages:
        role, read = message.get("role"), _content(message)
        if role == "user" and question is None:
            question = read.words
            media.images += read.images
            media.sounds += read.sounds
        elif role == "assistant" and question is not None and not (read.images or read.sounds):
            turns.append((question, read.words))
            question = None
        else:
            raise ValueError(f"a message of {quoted(role)} stands where no verb takes one")
    assert question is not None
    return _verb(question, media, turns, asks_of_sound, write_down)


def _verb(
    question: str,
    media: _Read,
    turns: list[tuple[str, str]],
    asks_of_sound: bool,
    write_down: bool,
) -> LmmsRequest:
    number = len(media.images) + len(media.sounds)
    if number > 1:
        raise ValueError(f"the conversation has {number} media, expected one picture or sound")
    before = {"turns": tuple(Turn(*turn) for turn in turns)} if turns else {}
    if media.images:
        if question:
            inputs = {"image": media.images[0], "question": question, **before}
            return LmmsRequest("ask", inputs)
        return LmmsRequest("describe", {"image": media.images[0]})
    if turns:
        raise ValueError("the conversation has turns, which are of questions about a picture")
    if media.sounds:
        if question and asks_of_sound and not write_down:
            return LmmsRequest("ask", {"audio": media.sounds[0], "question": question})
        if question and not write_down:
            raise ValueError(
                f"the model answers no questions about sounds, such as {quoted(question)}; with"
                " listen=True among --model_args a sound is written down whatever the words say"
            )
        return LmmsRequest("listen", {"audio": media.sounds[0]})
    if not question:
        raise ValueError("the message is empty, expected words, a picture or a sound")
    return LmmsRequest("write", {"text": question})


def _content(message: Mapping[str, Any]) -> _Read:
    read = _Read()
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list):
        raise ValueError(f"content is {quoted(content)}, expected a list of parts")
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text":
            read.texts.append(str(part.get("text", "")))
        elif kind == "image":
            read.images.append(_picture(part.get("url")))
        elif kind == "audio" or (kind == "video" and _is_sound(part.get("url"))):
            read.sounds.append(_sound(part.get("url")))
        else:
            raise ValueError(f"a part of a message is {quoted(kind)}, expected text, image, audio")
    return read


def _is_sound(value: Any) -> bool:
    """Whether what lmms-eval's own messages call a video is a sound of a data set."""
    if isinstance(value, str):
        return media_kind(value) == "audio"
    return isinstance(value, Mapping) and "array" in value


def _picture(value: Any) -> np.ndarray:
    """A picture of PIL's, or a file's: uint8 (H, W, 3)."""
    if isinstance(value, PillowImage.Image):
        with foreign("a picture"):
            return np.asarray(value.convert("RGB"))
    if isinstance(value, str | Path):
        return load_image(value)
    raise ValueError(f"a picture is {type(value).__name__}, expected PIL's or a path")


def _sound(value: Any) -> Audio:
    """A sound as Hugging Face's datasets decode it, or a file's."""
    if isinstance(value, Mapping) and "array" in value:
        with foreign("a sound"):
            wave = np.atleast_2d(np.asarray(value["array"], np.float32))
            return Audio(wave, int(value["sampling_rate"]))
    if isinstance(value, Mapping) and isinstance(value.get("path"), str):
        value = value["path"]
    if isinstance(value, str | Path):
        return Audio(*load_audio(value))
    if hasattr(value, "get_all_samples"):  # datasets from 4.0 on, by torchcodec
        with foreign("a sound"):
            samples = value.get_all_samples()
            return Audio(np.atleast_2d(samples.data.numpy()), int(samples.sample_rate))
    raise ValueError(f"a sound is {type(value).__name__}, expected an array with its rate, a path")


def read_settings(settings: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...], list[str]]:
    """A task's `generation_kwargs` as choices of a verb, the texts to stop at, and what was left.

    Greedy where `do_sample` is false or the temperature 0; nothing said: as the model samples.

    Raises ValueError for beam search, which there is none of.
    """
    choices: dict[str, Any] = {}
    left = []
    until: tuple[str, ...] = ()
    for name, value in settings.items():
        if value is None:
            continue
        if name in ("max_new_tokens", "max_gen_toks"):
            choices["max_text_ids"] = int(value)
        elif name in ("temperature", "top_p", "top_k"):
            choices[name] = value
        elif name == "until":
            until = (value,) if isinstance(value, str) else tuple(value)
        elif name == "num_beams" and int(value) > 1:
            raise ValueError(f"num_beams is {value}, expected 1: there is no beam search here")
        elif name == "do_sample":
            continue
        elif name not in _IGNORED:
            left.append(name)
    if settings.get("do_sample") is False or choices.get("temperature") == 0:
        choices["temperature"] = 0.0
        for name in ("top_p", "top_k"):  # of sampling, which there is none of
            choices.pop(name, None)
    return choices, until, left


def cut_at(text: str, until: Sequence[str]) -> str:
    """A text up to the first of the texts to stop at, as lmms-eval's models cut theirs."""
    for stop in until:
        if stop:
            text = text.split(stop)[0]
    return text


def answer_text(document: Document, until: Sequence[str], name: Any) -> str | list[dict[str, str]]:
    """What a model answered: its text; of a document with media the segments of
    `interleaved_answers`.

    name: called with a picture or sound, gives the path that it was written to.
    """
    answered = [segment for segment in document.segments if segment.role != "prompt"]
    if not any(isinstance(segment, Image | Audio) for segment in answered):
        last = document.segments[-1]
        return cut_at(last.text, until) if isinstance(last, Text) else ""
    parts: list[dict[str, str]] = []
    for segment in answered:
        if isinstance(segment, Text):
            parts.append({"type": "text", "text": segment.text})
        elif isinstance(segment, Image | Audio):
            parts.append({"type": segment.modality, "url": str(name(segment))})
    return parts

"""A task and what a user says become a document: with a slot to ask, with the answer to train.

The same function makes both, so that a model is asked with the very ids it was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unified.formats.coded import Coded, CodedMedia, CodedText
from unified.tasks.size_rule import read_size, write_size
from unified.tasks.task import MediaPart, Refusal, SlotPart, Task, TextPart
from unified.tasks.template import fill
from unified_base.arguments import prompt, whole_or_none
from unified_base.arguments import text as of_text
from unified_base.text import quoted
from unified_data.document import (
    MAX_MEDIA,
    Audio,
    Box,
    Document,
    Image,
    Media,
    Segment,
    Slot,
    Text,
    Video,
)

__all__ = ["Example", "Inputs", "Shot", "Turn", "ask_document", "form_of", "segments_of"]

AnySegment = Segment | Coded
Answer = str | AnySegment | list[AnySegment] | tuple[AnySegment, ...]


@dataclass(frozen=True)
class Turn:
    """A question that was answered before, in the same conversation."""

    question: str
    answer: str


@dataclass(frozen=True, eq=False)
class Example:
    """Something shown with its name, before a question about another.

    image: uint8 (H, W, 3), or an Image or its codes. audio: an Audio or its codes.
    """

    name: str
    image: np.ndarray | AnySegment | None = None
    audio: AnySegment | None = None


@dataclass(frozen=True, eq=False)
class Shot:
    """An answered request that stands before another one; see `unified.tasks.shots`."""

    inputs: Inputs
    answer: tuple[AnySegment, ...]


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a user says and gives.

    text: to draw, to say, to write about. question: asked about a picture or a sound.
    image: uint8 (H, W, 3), or an Image or its codes. audio: an Audio or its codes.
    voice: a name. size: of the picture made, (width, height) or "640x480".
    images, sounds: how many of them an article shall hold; None: as the model likes.
    turns: questions and answers before the question.
    language: of what is made, such as "zh"; None: the task's own.
    examples: shown before everything else.
    box: in the picture that is given, what is asked about.
    video: a Video or its codes. frames: how many, of a video that is made; None: a picture is made.
    shots: answered requests of the same task, in order, before everything else.
    """

    text: str | None = None
    question: str | None = None
    image: np.ndarray | AnySegment | None = None
    audio: AnySegment | None = None
    voice: str | None = None
    size: Any = None
    images: int | None = None
    sounds: int | None = None
    turns: tuple[Turn, ...] = ()
    language: str | None = None
    examples: tuple[Example, ...] = ()
    box: Box | None = None
    video: AnySegment | None = None
    frames: int | None = None
    shots: tuple[Shot, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """The names of what there is of "text", "question", "image", "audio", "box", "video" and
        "frames"."""
        names = ("text", "question", "image", "audio", "box", "video", "frames")
        return frozenset(name for name in names if getattr(self, name) is not None)


def ask_document(task: Task | Refusal, inputs: Inputs, answer: Answer | None = None) -> Document:
    """The document of a task, its slot to be filled; with an answer, the one to train on.

    answer: a text, a picture or a sound; several segments for a slot of "any", and for a task of
        several slots, one for each of them.

    Raises ValueError as `segments_of`, and for media in codes, which no Document holds.
    """
    return Document(segments_of(task, inputs, answer))  # type: ignore[arg-type]


def segments_of(
    task: Task | Refusal, inputs: Inputs, answer: Answer | None = None
) -> tuple[AnySegment, ...]:
    """The segments of a task; media in codes stay codes. The prompt has loss 0, the answer 1.

    Raises ValueError for a refused task; for inputs that it needs and lacks, or has no use for; for
    a voice, a size or a number of pictures that it cannot have; and an answer of another kind.
    """
    if isinstance(task, Refusal):
        raise ValueError(task.reason)
    task = form_of(task, inputs)
    values = _values(task, inputs)
    start = _first_question(task) if inputs.turns else 0
    segments: list[AnySegment] = []
    for shot in inputs.shots:
        answered = segments_of(task, shot.inputs, shot.answer)
        segments += [replace(segment, loss=0.0) for segment in answered]
    segments += _examples(task, inputs)
    for part in task.prompt[:start]:
        segments += _segments(part, inputs, values)
    for turn in inputs.turns:  # each laid out as the last question is
        earlier = {**values, "question": prompt("question", turn.question)}
        for part in task.prompt[start:]:
            segments += _segments(part, inputs, earlier)
        segments += _answer(task, turn.answer)
    for part in task.prompt[start:]:
        segments += _segments(part, inputs, values)
    segments += _slots(task, inputs) if answer is None else _answer(task, answer)
    return tuple(segments)


def form_of(task: Task, inputs: Inputs) -> Task:
    """The form of a task for what is given. Raises ValueError as `Task.form_for`."""
    names = inputs.names
    forms = (task, *task.forms)
    if "video" in names and not any("video" in form.takes for form in forms):
        names = names - {"video"} | {"image"}  # its frames, as pictures
    return task.form_for(names, inputs.language)


def _first_question(task: Task) -> int:
    """Where the parts begin that each further question repeats: behind the media."""
    if task.verb != "ask" or "question" not in task.takes:
        raise ValueError(f"turns are of questions in words: to {task.verb} takes none here")
    return 1 + max(at for at, part in enumerate(task.parts) if isinstance(part, MediaPart))


def _examples(task: Task, inputs: Inputs) -> list[AnySegment]:
    """The shots of a task, once for each example."""
    if inputs.examples and not task.shots:
        raise ValueError(
            f"examples are given, but nothing says how to {task.verb} after examples here"
        )
    segments: list[AnySegment] = []
    for example in inputs.examples:
        values: dict[str, str | int | None] = {"name": prompt("name", example.name, "name it")}
        example_inputs = Inputs(image=example.image, audio=example.audio)
        for part in task.shots:
            segments += _segments(part, example_inputs, values)
    return segments


def _values(task: Task, inputs: Inputs) -> dict[str, str | int | None]:
    """What stands for the placeholders. Raises ValueError for inputs that the task cannot take."""
    names = task.placeholders
    values: dict[str, str | int | None] = {"voice": _voice(task, inputs.voice)}
    for kind, media, name in _media_of(task, inputs):
        if media is not None and kind not in task.media:
            raise ValueError(f"to {task.verb} takes no {name}{_ways(task)}")
    for name in ("text", "question"):
        words = getattr(inputs, name)
        if name in names:
            if words is None:
                raise ValueError(f"{name} is None, expected words to {task.verb}; {_example(task)}")
            values[name] = prompt(name, words, _example(task))
        elif words is not None:
            raise ValueError(f"to {task.verb} takes no {name}{_ways(task)}")
    for kind, media, name in _media_of(task, inputs):
        if media is None and kind in task.media and not task.slot.listens:
            raise ValueError(f"to {task.verb} needs a {name}")
    for name in ("images", "sounds"):
        number = whole_or_none(name, getattr(inputs, name), 0, MAX_MEDIA)
        if number is not None and task.verb != "write":
            raise ValueError(f"{name} is of articles: to {task.verb} makes no number of them")
    values["images"] = inputs.images
    size = _size(task, inputs)
    if size is not None:
        values["width"], values["height"] = size
    return values


def _media_of(task: Task, inputs: Inputs) -> tuple[tuple[str, Any, str], ...]:
    image, video = inputs.image, inputs.video
    if _as_pictures(task, inputs):
        image, video = video, None
    return (
        ("image", image, "picture"), ("audio", inputs.audio, "sound"), ("box", inputs.box, "box"),
        ("video", video, "video"),
    )  # fmt: skip


def _as_pictures(task: Task, inputs: Inputs) -> bool:
    """Whether a video is shown as its frames: to a task that takes pictures and no videos."""
    return (
        inputs.video is not None
        and inputs.image is None
        and "image" in task.media
        and "video" not in task.media
    )


def _ways(task: Task) -> str:
    """What a task of several forms may be given instead: "; it takes text, or audio"."""
    ways = dict.fromkeys(" and ".join(sorted(form.takes)) for form in (task, *task.forms))
    return f" beside the rest; it takes {', or '.join(ways)}" if len(ways) > 1 else ""


def _voice(task: Task, voice: str | None) -> str | None:
    """The voice asked for, or the task's own. Raises ValueError for one that it does not have."""
    if voice is None:
        return task.voice
    if "voice" not in task.placeholders:
        raise ValueError(f"voice is {quoted(voice)}, but nothing here says whose voice it shall be")
    name = prompt("voice", of_text("voice", voice), "name a voice").strip()
    if task.voices:
        by_name = {each.lower(): each for each in task.voices}
        if name.lower() not in by_name:
            raise ValueError(
                f"there is no voice {quoted(name)}, expected one of {', '.join(task.voices)}"
            )
        return by_name[name.lower()]
    return name


def _size(task: Task, inputs: Inputs) -> tuple[int, int] | None:
    """The size of the pictures that are made; None: as the model likes."""
    if inputs.frames is not None and task.slot.kind != "video":
        raise ValueError(
            f"frames is {quoted(inputs.frames)}, but to {task.verb} makes no videos here"
        )
    if task.slot.kind not in ("image", "any", "video") or task.verb == "ground":
        if inputs.size is not None:
            raise ValueError(f"size is {quoted(inputs.size)}, but to {task.verb} makes no pictures")
        return None
    if task.size is not None:
        return task.size.choose(inputs.size)
    return None if inputs.size is None else read_size(inputs.size)


def _example(task: Task) -> str:
    return f"for example {quoted(task.example)}" if task.example else "say what is wanted"


def _segments(
    part: TextPart | MediaPart | SlotPart, inputs: Inputs, values: dict[str, str | int | None]
) -> list[AnySegment]:
    if isinstance(part, TextPart):
        return [_words(part, values)]
    assert isinstance(part, MediaPart)
    if part.kind == "image" and inputs.image is None and isinstance(inputs.video, Video):
        return _frames(part, inputs.video)
    return [_medium(part, getattr(inputs, part.kind, None))]


def _frames(part: MediaPart, video: Video) -> list[AnySegment]:
    """The frames of a video as pictures, each behind its time as text."""
    segments: list[AnySegment] = []
    for time, picture in zip(video.times, video.pictures()):
        segments.append(Text(f"{time:.1f} s", part.role, 0.0))
        segments.append(replace(picture, role=part.role, loss=0.0))
    return segments


def _medium(part: MediaPart, media: Any) -> AnySegment:
    if isinstance(media, np.ndarray):
        media = Image(media)
    if not isinstance(media, Media | CodedMedia) or media.modality != part.kind:
        raise ValueError(f"{part.kind} is {type(media).__name__}, expected media of that kind")
    segment: AnySegment = replace(media, role=part.role, loss=0.0)
    return segment


def _words(part: TextPart, values: dict[str, str | int | None]) -> Text:
    try:
        words = fill(part.text, values)
    except KeyError as missing:
        if part.otherwise is None:
            raise ValueError(f"{missing.args[0]} is missing: nothing stands for it") from None
        try:
            words = fill(part.otherwise, values)
        except KeyError as again:
            raise ValueError(f"{again.args[0]} is missing: nothing stands for it") from None
    return Text(words, part.role, 0.0)


def _slots(task: Task, inputs: Inputs) -> list[AnySegment]:
    return [_slot(task, inputs, slot) for slot in task.slots]


def _slot(task: Task, inputs: Inputs, slot: SlotPart) -> Slot:
    if slot.listens:
        return Slot("audio", role=slot.role, listener=_listener(inputs.audio))
    if slot.kind in ("text", "audio"):
        return Slot(slot.kind, role=slot.role)
    if task.verb == "ground":  # words and boxes alone
        return Slot("any", num_images=0, num_audios=0, role=slot.role)
    size = _size(task, inputs)
    width, height = size if size is not None else (None, None)
    if slot.kind == "image":
        return Slot("image", height, width, role=slot.role)
    if slot.kind == "video":
        number = whole_or_none("frames", inputs.frames, 1, MAX_MEDIA)
        if number is None:
            raise ValueError("to draw makes videos here: say of how many frames (frames)")
        return Slot("video", height, width, role=slot.role, frames=number)
    return Slot("any", height, width, inputs.images, inputs.sounds, role=slot.role)


def _listener(sound: Any) -> Audio | None:
    """The sound that is heard beside what is made; None: silence."""
    if sound is not None and not isinstance(sound, Audio):
        raise ValueError(f"audio is {type(sound).__name__}, expected a sound, not its codes")
    return sound


def _answer(task: Task, answer: Answer) -> list[AnySegment]:
    """The segments that stand in the slots' place. Raises ValueError for those of another kind."""
    segments: list[AnySegment]
    if isinstance(answer, str):
        segments = [Text(answer)]
    elif isinstance(answer, list | tuple):
        segments = [*answer]
    else:
        segments = [answer]
    if not segments:
        raise ValueError("the answer holds no segments, expected at least one")
    slots = list(task.slots)
    if task.slot.kind == "any":
        slots += [task.slot] * (len(segments) - len(slots))
    if len(segments) != len(slots):
        raise ValueError(
            f"segments of the answer is {len(segments)}, expected {len(slots)}:"
            f" {', '.join(slot.kind for slot in slots)}"
        )
    answered: list[AnySegment] = []
    for slot, segment in zip(slots, segments):
        kind = _kind_of(segment)
        if slot.kind not in ("any", kind):
            raise ValueError(f"the answer holds {kind}, expected {slot.kind}")
        answered.append(replace(segment, role=slot.role, loss=1.0))
    return answered


def _kind_of(segment: AnySegment) -> str:
    """The modality of a segment. Raises ValueError for what fills no slot."""
    if isinstance(segment, Text | CodedText):
        return "text"
    if isinstance(segment, Media | CodedMedia):
        return segment.modality
    raise ValueError(f"the answer holds a {type(segment).__name__}, expected what fills a slot")


def describe_size(task: Task) -> str:
    """The sizes of a task's pictures, in words: "720x720; multiples of 8, ..."."""
    rule = task.size
    if {"image", "video"} & {*task.media}:
        return "any, made to fit" if rule is None else f"any, made to fit {rule.words}"
    if rule is None:
        return "as the model likes"
    if rule.fixed or rule.default is None:
        return rule.words
    return f"{write_size(rule.default)}; {rule.words}"

"""A verb and what a user says become a request to a model; Python and command line share it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from unified.engine.request import Sampling
from unified.formats.limits import BudgetError
from unified.models.grounding import NamedBox, boxes_in, fit_box
from unified.models.known_pictures import KnownPictures
from unified.sequence.preprocess import fit_picture, fit_sound, fit_video
from unified.sequence.sequencer import Sequencer
from unified.tasks.asking import Inputs, Shot, ask_document, form_of
from unified.tasks.choices import Choices, choose_sampling
from unified.tasks.penalties import check_penalties
from unified.tasks.response import Response, response_of
from unified.tasks.shots import MOST_SHOTS, check_in_a_row, shot_of
from unified.tasks.task import Task, Verb
from unified.tasks.task_plugin import Reading, load_plugin
from unified.tasks.task_table import Tasks
from unified_base.arguments import real, several
from unified_base.frame_times import uniform_frames
from unified_base.text import counted
from unified_data.document import Audio, Document, Image, Slot, Text, Video

if TYPE_CHECKING:
    from unified_tokenizers.base import ImageTokenizer

__all__ = ["AskedRequest", "Outlook", "build_document_request", "build_request", "fit_image",
           "fit_segment",
           "reply_choices"]  # fmt: skip

_MOST_SECONDS = 86_400.0  # of a reply


class Outlook(NamedTuple):
    """What will be seen of a document while it is sampled.

    pictures: how many; None: that is not known, or none. is_text: a text is the answer. thinks:
    what is written before the answer are thoughts.
    """

    pictures: int | None
    is_text: bool
    thinks: bool


@dataclass(frozen=True)
class AskedRequest:
    """What a model is asked, ready to be sampled: `model.stream([document], sampling, ...)`.

    verb: None for a document of one's own. negative: what guidance has in place of the prompt.
    inputs: what was asked, as the model's plug-in read it and its tokenizers take it. notes: for
    the user, of what was changed. finish: notes on a document that came of it.
    """

    verb: Verb | None
    document: Document
    sampling: Sampling
    negative: str | None
    inputs: Inputs
    notes: tuple[str, ...]
    finish: Callable[[Document], tuple[str, ...]]
    task: Task | None = None
    strange: str | None = None

    @property
    def outlook(self) -> Outlook:
        """What will be seen of it while it is sampled."""
        slots = [segment for segment in self.document if isinstance(segment, Slot)]
        last = slots[-1]
        if last.modality == "any":
            return Outlook(last.num_images, False, False)
        pictures = sum(slot.modality == "image" for slot in slots)
        is_text = self.verb is not None and last.modality == "text"
        return Outlook(pictures or None, is_text, self.task is not None and self.task.thinks)

    def boxes(self, document: Document, size: tuple[int, int]) -> tuple[list[NamedBox], list[str]]:
        """The boxes of a document that came of a request to ground, and notes; see `boxes_in`.

        size: (height, width) of the picture before it was made to fit.
        """
        image, text = self.inputs.image, self.inputs.text
        assert isinstance(image, Image)
        assert text is not None
        return boxes_in(document.segments[len(self.document) - 1 :], text, image, size)

    def explain(self, error: BudgetError) -> ValueError:
        """The error that a user is told where the request does not fit."""
        if not (number := len(self.inputs.shots)):
            return error
        fewer = "fewer shots" if number > 1 else "no shot"
        return ValueError(f"the request does not fit behind {counted(number, 'shot')}: {error}, or"
                          f" give {fewer}")  # fmt: skip

    def response(self, document: Document) -> Response:
        """The answer in a document that came of it, apart from its thoughts.

        Where the picture is strange the answer is that it is not known, and what the model said is
        a thought.
        """
        response = response_of(self.task, document)
        if self.strange is None or not response.known:
            return response
        assert self.task is not None
        assert self.task.unknown is not None
        answered = response.document.segments[-1]
        assert isinstance(answered, Text)
        answer = replace(answered, text=self.task.unknown)
        return Response(document, answer, answered.text, known=False)


def build_request(
    tasks: Tasks,
    sequencer: Sequencer,
    sampling: Sampling,
    verb: Verb,
    inputs: Inputs,
    choices: Choices,
    plugin: str | None = None,
    directory: Path | None = None,
) -> AskedRequest:
    """The request of a verb. sampling: the model's. plugin: its name; directory: the model's.

    Raises ValueError, before anything is sampled: the model cannot do this, and what it can; what
    its plug-in does not know; inputs, sizes, voices and settings that the task does not take.
    """
    whole = tasks.task(verb)
    notes: tuple[str, ...] = ()
    finish: Callable[[Document], tuple[str, ...]] = _nothing
    if plugin is not None and directory is not None:
        reader = load_plugin(plugin)
        reading: Reading = reader.read(verb, inputs, directory)
        inputs, notes = reading.inputs, reading.notes

        def finish(document: Document) -> tuple[str, ...]:
            return reader.finish(verb, reading, document)

    task = form_of(whole, inputs)
    inputs, changes = _fit_media(task, inputs, sequencer)
    inputs, of_shots = _fit_shots(task, inputs, choices.get("shots") or (), sequencer)
    changes = (*changes, *of_shots)
    strange = _strange(task, inputs, sequencer, directory)
    if strange is not None:
        changes = (*changes, strange)
    spans = sequencer.grammar.format.spans
    kinds = {kind: span.modality for kind, span in spans.items()}
    chosen, negative = choose_sampling(
        (task.slot.kind,), task.sampling_over(sampling), kinds, choices, task.negative
    )
    if chosen.max_thought_ids is not None and not chosen.thought_ends:
        chosen = replace(chosen, thought_ends=task.thought_ends)
    check_penalties(chosen, (task.sampling_over(sampling),), kinds)
    document = ask_document(whole, inputs)
    if inputs.shots:
        check_in_a_row(document, len(inputs.shots), sequencer)
    return AskedRequest(
        verb, document, chosen, negative, inputs, (*notes, *changes), finish, task, strange
    )


def build_document_request(
    sequencer: Sequencer, sampling: Sampling, document: Document, choices: Choices
) -> AskedRequest:
    """The request to fill a document of one's own; what it says of the media is not changed.

    Raises ValueError for a document without slots, and choices as `choose_sampling` does.
    """
    answers = {segment.modality for segment in document if isinstance(segment, Slot)}
    if not answers:
        raise ValueError("the document has no slots, so there is nothing to sample; add a Slot")
    spans = sequencer.grammar.format.spans
    kinds = {kind: span.modality for kind, span in spans.items()}
    if choices.get("shots"):
        raise ValueError(
            "shots are of verbs; put their segments into the document, before the slot"
        )
    chosen, negative = choose_sampling(sorted(answers), sampling, kinds, choices)
    return AskedRequest(None, document, chosen, negative, Inputs(), (), _nothing)


def reply_choices(
    task: Task,
    sequencer: Sequencer,
    sampling: Sampling,
    sound: Audio | None,
    seconds: float | None,
    choices: Choices,
) -> Choices:
    """Choices with the number of frames that a reply shall have.

    Where they say it themselves it stays; None seconds are the sound and the model's own number
    of frames behind it.
    """
    settings: dict[str, Any] = dict(choices.get("settings") or {})
    if "max_audio_frames" in settings or (seconds is None and choices.get("sampling") is not None):
        if seconds is not None:
            raise ValueError("seconds and max_audio_frames say the same; give one of them")
        return choices
    codec = sequencer.tokenizer("audio")
    if seconds is not None:
        length = real("seconds", seconds, 0.001, _MOST_SECONDS)
        frames = _up(length * codec.frame_rate)
    else:
        frames = task.sampling_over(sampling).max_audio_frames or 0
        if sound is not None:
            frames += _up(sound.waveform.shape[1] / sound.sample_rate * codec.frame_rate)
    return {**choices, "settings": {**settings, "max_audio_frames": max(1, frames)}}


def _up(frames: float) -> int:
    """Whole frames that hold so many; what floats add is no frame."""
    return math.ceil(round(frames, 6))


def _nothing(document: Document) -> tuple[str, ...]:
    return ()


def _strange(
    task: Task, inputs: Inputs, sequencer: Sequencer, directory: Path | None
) -> str | None:
    """Why a picture that is given is not known; None where it may be, or nobody measured it."""
    if task.unknown is None or directory is None or not isinstance(inputs.image, Image):
        return None
    if sequencer.reads_continuous("image"):  # which no tokenizer gives back
        return None
    known = KnownPictures.load(directory)
    return None if known is None else known.strange(inputs.image.pixels, sequencer)


def _fit_media(task: Task, inputs: Inputs, sequencer: Sequencer) -> tuple[Inputs, tuple[str, ...]]:
    """Pictures and sounds as the model's tokenizers take them, and notes on what was changed."""
    notes: tuple[str, ...] = ()
    # An encoder prepares media itself, as it was trained on them.
    codes_image, codes_audio = (not sequencer.reads_continuous(m) for m in ("image", "audio"))
    if inputs.image is not None and "image" in task.media and codes_image:
        image, notes = _fit_given(task, inputs.image, sequencer)
        if inputs.box is not None or task.verb == "ground":
            original: Any = inputs.image
            before = original if isinstance(original, np.ndarray) else original.pixels
            inputs = replace(inputs, box=fit_box(inputs.box, before, image, sequencer))
        inputs = replace(inputs, image=image)
    elif isinstance(inputs.image, np.ndarray):
        inputs = replace(inputs, image=Image(inputs.image))
    examples = []
    for example in inputs.examples:
        if example.image is not None and task.shots and codes_image:
            example_image, changes = _fit_given(task, example.image, sequencer)
            notes = (*notes, *changes)
            examples.append(replace(example, image=example_image))
        else:
            examples.append(example)
    inputs = replace(inputs, examples=tuple(examples))
    audio: Any = inputs.audio
    if audio is not None and "audio" in task.media and codes_audio:
        rate = sequencer.tokenizer("audio").sample_rate
        waveform, of_sound = fit_sound(audio.waveform, audio.sample_rate, rate)
        inputs = replace(inputs, audio=Audio(waveform, rate))
        notes = (*notes, *of_sound)
    if isinstance(inputs.video, Video):
        video, of_video = _fit_video(task, inputs.video, sequencer)
        inputs = replace(inputs, video=video)
        notes = (*notes, *of_video)
    return inputs, notes


def _fit_shots(
    task: Task, inputs: Inputs, documents: Sequence[Document], sequencer: Sequencer
) -> tuple[Inputs, tuple[str, ...]]:
    """Inputs with documents as their shots, media as the model's tokenizers take them; notes."""
    shots: list[Shot] = []
    notes: dict[str, None] = {}
    if len(documents := several("shots", documents, Document)) > MOST_SHOTS:
        raise ValueError(f"shots is {len(documents):,} documents, expected {MOST_SHOTS} at most")
    for number, document in enumerate(documents):
        try:
            shot = shot_of(task, document.segments)
            fitted, changes = _fit_media(task, shot.inputs, sequencer)
            answer = []
            for segment in shot.answer:
                own, of_answer = fit_segment(task, segment, sequencer)
                answer.append(own)
                changes = (*changes, *of_answer)
        except ValueError as error:
            raise ValueError(f"shot {number}: {error}") from None
        shots.append(Shot(fitted, tuple(answer)))
        notes.update(dict.fromkeys(f"shots: {each}" for each in changes))
    return replace(inputs, shots=tuple(shots)), tuple(notes)


def fit_segment(
    task: Task | None, segment: Any, sequencer: Sequencer
) -> tuple[Any, tuple[str, ...]]:
    """A text, picture or sound as the model's tokenizers take it, with notes on what was changed.

    task: whose sizes pictures shall have; None: any that divides into codes. Role and loss weight
    of what is changed are lost.
    """
    if isinstance(segment, Image):
        return _fit_given(task, segment, sequencer)
    if isinstance(segment, Audio):
        rate = sequencer.tokenizer("audio").sample_rate
        waveform, notes = fit_sound(segment.waveform, segment.sample_rate, rate)
        return Audio(waveform, rate), tuple(notes)
    return segment, ()


_MOST_PICTURES = 8
"""Frames of a video that are shown to a model which knows pictures alone."""


def _fit_video(task: Task, video: Video, sequencer: Sequencer) -> tuple[Video, tuple[str, ...]]:
    """A video as the model's video tokenizer takes it, or some frames as its image tokenizer does;
    and notes on what was changed."""
    if "video" not in task.media:
        if "image" not in task.media:
            return video, ()  # refused where the document is made, with what the verb takes
        chosen = uniform_frames(len(video.frames), _MOST_PICTURES)
        notes: tuple[str, ...] = ()
        fitted = []
        for frame in video.frames[chosen]:
            pixels, notes = fit_image(task, frame, sequencer.tokenizer("image"))
            fitted.append(pixels)
        if len(chosen) < len(video.frames):
            spread = f"{len(chosen)} of the video's {len(video.frames)} frames are looked at"
            notes = (*notes, spread)
        return Video(np.stack(fitted), video.times[chosen]), notes
    if "video" not in sequencer.tokenizers and sequencer.reads_continuous("video"):
        return video, ()  # its encoder takes what it needs of any video
    tokenizer: Any = sequencer.tokenizer("video")
    stride = int(tokenizer.stride)
    height, width = video.frames.shape[1:3]
    if task.size is not None:
        width, height = task.size.nearest((width, height))
    height, width = (max(1, round(side / stride)) * stride for side in (height, width))
    span = sequencer.grammar.span_grammars["video"]
    most = span.most(span.axes[0][0]) if len(span.axes) == 3 else None
    frames, of_video = fit_video(
        video.frames, video.times, tokenizer.frame_rate, tokenizer.group, height, width,
        None if most is None else 1 + (most - 1) * tokenizer.group,
    )  # fmt: skip
    return Video.at_rate(frames, tokenizer.frame_rate), of_video


def _fit_given(
    task: Task | None, image: Any, sequencer: Sequencer
) -> tuple[Image, tuple[str, ...]]:
    pixels = Image(image).pixels if isinstance(image, np.ndarray) else image.pixels
    fitted, notes = fit_image(task, pixels, sequencer.tokenizer("image"))
    return Image(fitted), notes


def fit_image(
    task: Task | None, pixels: np.ndarray, tokenizer: ImageTokenizer
) -> tuple[np.ndarray, tuple[str, ...]]:
    """A picture, uint8 (H, W, 3), as its tokenizer's published processor makes it; then of a size
    that the task has, or that divides into codes. With notes on what was changed."""
    processed = tokenizer.preprocess(pixels) if hasattr(tokenizer, "preprocess") else pixels
    notes = []
    before, after = pixels.shape[:2], processed.shape[:2]
    if before != after:
        notes.append(
            f"the picture of {before[1]}x{before[0]} became {after[1]}x{after[0]} pixels, as the"
            " model's own processor makes it"
        )
    if task is not None and task.size is not None:
        width, height = task.size.nearest((after[1], after[0]))
    else:
        stride = int(tokenizer.stride)
        height, width = (max(1, round(side / stride)) * stride for side in after)
    fitted, note = fit_picture(processed, height, width)
    return fitted, (*notes, note) if note else tuple(notes)

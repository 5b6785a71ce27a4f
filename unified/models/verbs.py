"""What people do with a model: draw, edit, describe, ask, ground, speak, listen, write, reply. One
request each."""

from __future__ import annotations

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, Unpack

import numpy as np

from unified.engine import events
from unified.engine.events import Event, TextCut, completions
from unified.engine.request import Sampling
from unified.formats.limits import BudgetError
from unified.matching.best_of import Scorer, check_best_of, rank
from unified.models.asking_models import (
    AskedRequest,
    build_document_request,
    build_request,
    reply_choices,
)
from unified.models.grounding import NamedBox
from unified.sequence.sequencer import Sequencer
from unified.tasks.asking import Example, Inputs, Turn
from unified.tasks.choices import Choices
from unified.tasks.response import Response
from unified.tasks.task import Verb
from unified.tasks.task_table import Tasks
from unified_base.arguments import flag, item, seeds_from, whole
from unified_data.document import Audio, Box, Dialogue, Document, Image, Text, Video

__all__ = ["MOST_SAMPLES", "Verbs"]

MOST_SAMPLES = 100_000  # of one document in one call
S = TypeVar("S", Text, Image, Audio, Dialogue, Video)
AnySize = str | tuple[int, int] | None


class Verbs(ABC):
    """The verbs of `UnifiedModel`; the command line has them by the same names and options.

    Each makes a request (`UnifiedModel.request`) and samples it with seeds seed, seed + 1, ...
    choices: `unified.tasks.choices.Choices`: guidance, negative, temperature, top_k, top_p,
    max_text_ids, max_repeats, max_thought_ids, shots, settings, sampling.

    What was changed on the way, and what did not come as asked for, is warned of. All raise
    ValueError, before anything is sampled, where the model cannot do it, saying what it can.
    """

    sequencer: Sequencer
    sampling: Sampling
    directory: Path | None
    plugin: str | None
    _tasks: Tasks

    @property
    def tasks(self) -> Tasks:
        """What it can be asked, and how; what its tokenizers rule out is refused, with the reason.

        May be set: the tasks are saved with the model.
        """
        return self._tasks.without_media(self.sequencer.missing)

    @tasks.setter
    def tasks(self, tasks: Tasks) -> None:
        item("tasks", tasks, Tasks, "Tasks").check(self.sequencer.grammar.format)
        self._tasks = tasks

    def request(
        self,
        verb: Verb,
        *,
        text: str | None = None,
        question: str | None = None,
        image: np.ndarray | Image | None = None,
        audio: Audio | None = None,
        voice: str | None = None,
        size: str | tuple[int, int] | None = None,
        images: int | None = None,
        sounds: int | None = None,
        turns: tuple[Turn, ...] = (),
        language: str | None = None,
        examples: tuple[Example, ...] = (),
        box: Box | None = None,
        video: Video | None = None,
        frames: int | None = None,
        **choices: Unpack[Choices],
    ) -> AskedRequest:
        """What a verb asks the model, ready for `stream`; the verbs sample it.

        image: uint8 (H, W, 3). box: in the picture's own pixels. The other inputs: see
        `unified.tasks.asking.Inputs`; choices: see `unified.tasks.choices.Choices`.

        Raises ValueError where the model cannot do this, or not so; it says what it can.
        """
        inputs = Inputs(
            text, question, image, audio, voice, size, images, sounds, turns, language, examples,
            box, video, frames,
        )  # fmt: skip
        return build_request(
            self.tasks, self.sequencer, self.sampling, verb, inputs, choices, self.plugin,
            self.directory,
        )  # fmt: skip

    def request_document(self, document: Document, **choices: Unpack[Choices]) -> AskedRequest:
        """The request to fill the slots of a document of one's own, ready for `stream`."""
        item("document", document, Document, "a Document")
        return build_document_request(self.sequencer, self.sampling, document, choices)

    @abstractmethod
    def stream(
        self,
        documents: Sequence[Document],
        sampling: Sampling | Sequence[Sampling] | None = None,
        seeds: Sequence[int] | None = None,
        negative: str | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[Event]:
        """See `UnifiedModel.stream`."""

    def generate(
        self, document: Document, n: int = 1, seed: int = 0, sampling: Sampling | None = None
    ) -> list[Document]:
        """`n` completions of a document with slots: `stream` run to its end.

        Completion i has seed `seed + i`, so more of them begin with the same ones.
        """
        return self._complete(document, n, seed, sampling, None)

    def sample(
        self, document: Document, n: int = 1, seed: int = 0, **choices: Unpack[Choices]
    ) -> list[Document]:
        """`n` completions of any document with slots; see `generate`."""
        return self._sample(self.request_document(document, **choices), n, seed)

    def respond(self, request: AskedRequest, n: int = 1, seed: int = 0) -> list[Response]:
        """`n` responses to a request, with the thoughts that the verbs leave out."""
        return [request.response(document) for document in self._sample(request, n, seed)]

    def draw(
        self,
        text: str | None = None,
        n: int = 1,
        seed: int = 0,
        *,
        spoken: Audio | None = None,
        size: AnySize = None,
        best_of: int | None = None,
        scorer: Scorer | None = None,
        **choices: Unpack[Choices],
    ) -> list[np.ndarray]:
        """`n` pictures of a text such as "a cat": uint8 (H, W, 3).

        spoken: what to draw, said aloud, in the place of a text. size: (width, height) in pixels,
        or "640x480"; None: the task's, or as the model likes. best_of: so many are drawn, and the
        `n` that a scorer (such as a `matching.tower.Tower`) finds to fit the text best are
        returned, the best first.
        """
        request = self.request("draw", text=text, audio=spoken, size=size, **choices)
        number = n if best_of is None else check_best_of(best_of, n, scorer, text)
        documents = self._sample(request, number, seed)
        pictures = [_last(document, Image).pixels for document in documents]
        if best_of is None or scorer is None or text is None:
            return pictures
        return [pictures[best.number] for best in rank(scorer, text, pictures)[:n]]

    def draw_video(
        self, text: str, frames: int, n: int = 1, seed: int = 0, *, size: AnySize = None,
        **choices: Unpack[Choices],
    ) -> list[Video]:  # fmt: skip
        """`n` videos of a text, of so many frames each. size: as of `draw`."""
        request = self.request("draw", text=text, frames=frames, size=size, **choices)
        return [_last(document, Video) for document in self._sample(request, n, seed)]

    def edit(
        self, pixels: np.ndarray, text: str, n: int = 1, seed: int = 0, *, size: AnySize = None,
        **choices: Unpack[Choices],
    ) -> list[np.ndarray]:  # fmt: skip
        """`n` pictures, uint8 (H, W, 3), of a picture in which a wish such as "make the ground
        red" is granted."""
        request = self.request("edit", image=Image(pixels), text=text, size=size, **choices)
        return [_last(document, Image).pixels for document in self._sample(request, n, seed)]

    def describe(
        self,
        pixels: np.ndarray | Video,
        question: str | None = None,
        seed: int = 0,
        *,
        language: str | None = None,
        **choices: Unpack[Choices],
    ) -> str:
        """A description of a picture or a video; with a question, see `ask`.

        pixels: uint8 (H, W, 3) of any size; it is made to fit as the model's processor does it. A
        `Video` is made to fit likewise; a model that knows pictures alone gets its frames.
        language: such as "zh", of models that have several; None: the model's own.
        """
        if question is not None:
            return self.ask(pixels, question, seed, language=language, **choices)
        request = self.request("describe", **_seen(pixels), language=language, **choices)
        return self._text(request, seed)

    def ask(
        self,
        pixels: np.ndarray | Video,
        question: str | None = None,
        seed: int = 0,
        *,
        spoken: Audio | None = None,
        turns: tuple[tuple[str, str], ...] = (),
        examples: tuple[tuple[str, np.ndarray], ...] = (),
        language: str | None = None,
        box: tuple[float, float, float, float] | None = None,
        **choices: Unpack[Choices],
    ) -> str:
        """The answer to a question about a picture, uint8 (H, W, 3), or a video, without the
        thoughts before it (`respond` has them).

        spoken: the question said aloud, in the place of one in words. turns: (question, answer) of
        before, in order. examples: (name, picture) each, shown before: few-shot. box: (x0, y0, x1,
        y1) in pixels, that the question is about.
        """
        seen = _seen(pixels)
        if box is not None and isinstance(pixels, Video):
            raise ValueError("a box is of a picture; leave it out, or show one frame")
        request = self.request(
            "ask",
            **seen,
            question=question,
            audio=spoken,
            turns=tuple(Turn(*turn) for turn in turns),
            examples=tuple(Example(name, Image(picture)) for name, picture in examples),
            language=language,
            box=None if box is None else Box.of(box, seen["image"].pixels.shape[1::-1]),
            **choices,
        )
        return self._text(request, seed)

    def ground(
        self, pixels: np.ndarray, text: str, seed: int = 0, **choices: Unpack[Choices]
    ) -> list[NamedBox]:
        """Where the things that a text names are in a picture, uint8 (H, W, 3): boxes in its own
        pixels, each with its name. None of them: there are none."""
        request = self.request("ground", image=Image(pixels), text=text, **choices)
        document = self._sample(request, 1, seed)[0]
        boxes, notes = request.boxes(document, pixels.shape[:2])
        for note in notes:
            warnings.warn(note, stacklevel=_caller())
        return boxes

    def speak(
        self,
        text: str | None = None,
        voice: str | None = None,
        seed: int = 0,
        *,
        image: np.ndarray | None = None,
        **choices: Unpack[Choices],
    ) -> tuple[np.ndarray, int]:
        """A text read aloud: waveform float32 (1, S) in [-1, 1], and its sample rate in Hz.

        voice: one of the task's; None: the task's own. image: a picture, uint8 (H, W, 3), that is
        described aloud, in the place of a text.
        """
        picture = None if image is None else Image(image)
        request = self.request("speak", text=text, image=picture, voice=voice, **choices)
        sound = _last(self._sample(request, 1, seed)[0], Audio)
        return sound.waveform, sound.sample_rate

    def listen(
        self, waveform: np.ndarray, rate: int, seed: int = 0, **choices: Unpack[Choices]
    ) -> str:
        """What is said in a sound.

        waveform: float32 (S,) or (channels, S) in [-1, 1]; rate: Hz. Two channels are mixed
        (more are refused) and the rate is changed to the model's, with a warning.
        """
        sound = Audio(np.atleast_2d(waveform), whole("rate", rate, 1))
        return self._text(self.request("listen", audio=sound, **choices), seed)

    def reply(
        self,
        waveform: np.ndarray | None = None,
        rate: int | None = None,
        seed: int = 0,
        *,
        seconds: float | None = None,
        **choices: Unpack[Choices],
    ) -> tuple[str, np.ndarray, int]:
        """An answer to a sound, spoken while the sound is heard.

        waveform: float32 (S,) or (channels, S) in [-1, 1]; None: nobody says anything. rate: Hz of
        it. seconds: of the answer, from the begin of the sound on; behind its end it is silent.
        None: as long as the sound and the model's own number of frames behind it.

        Returns the words that are said, the voice as float32 (1, S), and its sample rate in Hz.
        """
        sound = None
        if waveform is not None:
            sound = Audio(np.atleast_2d(waveform), whole("rate", rate, 1))
        request = self.request_reply(sound, seconds, **choices)
        answer = _last(self._sample(request, 1, seed)[0], Dialogue)
        assert self.sequencer.dialogue is not None
        words = self.sequencer.dialogue.text_of(answer)
        return words, answer.waveform[:1], answer.sample_rate

    def request_reply(
        self, sound: Audio | None, seconds: float | None = None, **choices: Unpack[Choices]
    ) -> AskedRequest:
        """What `reply` asks the model, ready for `stream`."""
        task = self.tasks.task("reply")
        chosen = reply_choices(task, self.sequencer, self.sampling, sound, seconds, choices)
        return self.request("reply", audio=sound, **chosen)

    def write(
        self,
        prompt: str,
        images: int | None = None,
        audio: bool = True,
        seed: int = 0,
        *,
        size: AnySize = None,
        **choices: Unpack[Choices],
    ) -> Document:
        """An illustrated article: the prompt and, as response, text, pictures and sound.

        images: how many pictures; None: as the prompt says, or the model likes. audio: whether it
        may hold sound. size: of every picture, (width, height) or "640x480".
        """
        sounds = None if flag("audio", audio) else 0
        request = self.request(
            "write", text=prompt, images=images, sounds=sounds, size=size, **choices
        )
        return self._sample(request, 1, seed)[0]

    def _text(self, request: AskedRequest, seed: int) -> str:
        return self.respond(request, 1, seed)[0].text

    def _sample(self, request: AskedRequest, n: int, seed: int) -> list[Document]:
        """The documents of a request, its notes as warnings."""
        for note in request.notes:
            warnings.warn(note, stacklevel=_caller())
        asked = request.document, n, seed, request.sampling, request.negative
        try:
            documents = self._complete(*asked)
        except BudgetError as error:
            raise request.explain(error) from None
        for document in documents:
            for note in request.finish(document):
                warnings.warn(note, stacklevel=_caller())
        return documents

    def _complete(
        self,
        document: Document,
        n: int,
        seed: int,
        sampling: Sampling | None,
        negative: str | None,
    ) -> list[Document]:
        """`n` completions, in the order of their seeds."""
        number = whole("n", n, 1, MOST_SAMPLES)
        item("document", document, Document, "a Document")
        rows = [document] * number
        stream = self.stream(rows, sampling, seeds_from(seed, number), negative)
        completed = {done.row: done.document for done in completions(stream, _warn_of_cuts)}
        return [completed[row] for row in sorted(completed)]


def _seen(pixels: np.ndarray | Video) -> dict[str, Any]:
    """What is looked at, by the name of its input."""
    return {"video": pixels} if isinstance(pixels, Video) else {"image": Image(pixels)}


def _warn_of_cuts(event: Event) -> None:
    if isinstance(event, TextCut):
        warnings.warn(event.message, stacklevel=_caller())


def _caller() -> int:
    """How many frames up the caller of a verb stands, for `warnings.warn`."""
    level, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_code.co_filename in (__file__, events.__file__):
        level, frame = level + 1, frame.f_back
    return level


def _last(document: Document, kind: type[S]) -> S:
    segment = document.segments[-1]
    assert isinstance(segment, kind), type(segment)
    return segment

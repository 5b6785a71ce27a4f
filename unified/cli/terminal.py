"""What the commands share: options, notes and progress on stderr, results on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unified_base.arguments import MAX_PROMPT
from unified_base.quiet import our_warnings_alone
from unified_base.terminal import as_json as json_text
from unified_base.terminal import one_place, say, tell

if TYPE_CHECKING:
    from unified.cli.live import LiveView
    from unified.engine.events import Done, Event, ImageRow

__all__ = [
    "DECODERS",
    "AsJson",
    "DecoderName",
    "DecoderSteps",
    "MaxRepeats",
    "MaxTextIds",
    "ModelName",
    "Progress",
    "Seed",
    "check_decoder",
    "follow",
    "model_directory",
    "note",
    "prompt_from",
    "result",
    "stderr_is_terminal",
]

ModelName = Annotated[
    str,
    typer.Option("--model", metavar="NAME_OR_PATH", help="A shipped model or a model's folder."),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed", min=0, max=2**63 - 1, help="The same seed gives the same result.", metavar="N"
    ),
]
MaxTextIds = Annotated[
    int | None,
    typer.Option(
        "--max-text-ids",
        min=1,
        max=10**9,
        help="Ids of each text, at most (default: the model's, or 512).",
    ),
]
MaxRepeats = Annotated[
    int | None,
    typer.Option(
        "--max-repeats",
        min=0,
        max=10**9,
        help="A text ends when it has so many copies of one phrase on end (default: the model's, "
        "or 4; 0: never).",
    ),
]
DECODERS = {"vq": 0, "diffusion": 1, "diffusion-2x": 2}
"""Decoders of pictures by name, and the size of what the diffusion decoders make; 0: the codes'."""
DecoderName = Annotated[
    str,
    typer.Option("--decoder", metavar="NAME", help="Of pictures: vq, diffusion or diffusion-2x."),
]
DecoderSteps = Annotated[
    int | None,
    typer.Option("--steps", min=1, max=50, help="Of the diffusion decoder (default: 8)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def note(text: str) -> None:
    """Tell the user something on stderr."""
    tell(f"note: {' '.join(text.splitlines())}")


def prompt_from(argument: str) -> str:
    """A prompt of the command line; `-` stands for what is on stdin, its last line end left out.

    Raises:
        ValueError: stdin is closed, is not UTF-8, or has more characters than a prompt may have.
    """
    if argument != "-":
        return argument
    if sys.stdin is None:
        raise ValueError("the prompt is -, which is read from stdin, but stdin is closed")
    # Four bytes a character at most; one more byte tells what is too long.
    data = sys.stdin.buffer.read(4 * MAX_PROMPT + 1)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(data) <= 4 * MAX_PROMPT:
            message = f"the prompt on stdin is not UTF-8 text (byte {error.start})"
            raise ValueError(message) from None
        text = data.decode("utf-8-sig", "replace")
    if len(text) > MAX_PROMPT:
        raise ValueError(f"the prompt on stdin has more than {MAX_PROMPT:,} characters")
    return text.removesuffix("\n").removesuffix("\r")


def result(values: dict[str, Any], as_json: bool, plain: str) -> None:
    """Put a result on stdout: the JSON object where a program reads it, else the plain text."""
    say(json_text(values) if as_json else plain)


def warnings_as_notes() -> AbstractContextManager[None]:
    """Warnings of ours become notes, once more each; those of libraries are not told."""
    return our_warnings_alone(note)


def model_directory(name: str) -> Path:
    """The folder of a model, which can be read before the model is loaded."""
    from unified.models import model

    return model.model_directory(name)


def check_decoder(name: str, steps: int | None) -> None:
    """Raises ValueError for an unknown decoder of pictures, and steps for one that has none."""
    if name not in DECODERS:
        raise ValueError(f"there is no decoder {name!r}, expected one of {', '.join(DECODERS)}")
    if steps is not None and not DECODERS[name]:
        raise ValueError(f"--steps {steps} is for a diffusion decoder; add --decoder diffusion")


def stderr_is_terminal() -> bool:
    """Whether there is somebody to show what is under way."""
    return sys.stderr.isatty()


class Progress:
    """Shows on stderr what is being sampled: text as it comes, a line for each picture and sound.

    On a terminal there is also a live view of the picture or sound that is under way. rows: how
    many documents are sampled at once; of several, only finished pictures and sounds are shown,
    since the rest would come in turns. answers: the text is the command's result, too, and is not
    shown where stdout is the same file or terminal. hides_texts: they hold thoughts. images,
    audios: how many there were so far.
    """

    def __init__(
        self,
        rows: int = 1,
        num_images: int | None = None,
        answers: bool = False,
        hides_texts: bool = False,
    ) -> None:
        self._texts = rows == 1 and not hides_texts and not (answers and one_place())
        self.rows = rows
        self.num_images = num_images
        self.images = self.audios = 0
        self._open_line = False
        self._live: LiveView | None = None
        if rows == 1 and stderr_is_terminal():
            from unified.cli.live import LiveView

            self._live = LiveView()

    @classmethod
    def following(cls, rows: int, pictures: int | None, is_text: bool, thinks: bool) -> Progress:
        """Of so many documents of one request; see `models.asking_models.Outlook`."""
        return cls(rows, None if pictures is None else rows * pictures, is_text, thinks)

    def show(self, event: Event) -> None:
        """Show one event."""
        from unified.engine import events

        if isinstance(event, events.TextPiece):
            if self._texts:
                self._write(event.text)
        elif isinstance(event, events.ImageBegun):
            sides = "" if event.width is None else f": {event.width}x{event.height} ..."
            self._update(f"[picture {self._of_images(1)}{sides}]")
        elif isinstance(event, events.ImageRow):
            self._update(f"[picture {self._of_images(1)}: row {event.y + 1}]", event)
        elif isinstance(event, events.ImageDone):
            self.images += 1
            height, width = event.image.pixels.shape[:2]
            self._finish(f"[picture {self._of_images(0)}: {width}x{height}]")
        elif isinstance(event, events.AudioBegun):
            if self._open_line:
                self._write("\n")
        elif isinstance(event, events.AudioFrame):
            if not self._open_line:  # else its own words are shown as they are said
                self._update(f"[sound {self.audios + 1}: {event.seconds:.1f} s]")
        elif isinstance(event, events.AudioDone):
            self.audios += 1
            seconds = event.audio.waveform.shape[1] / event.audio.sample_rate
            self._finish(f"[sound {self.audios}: {seconds:.1f} s]")
        elif isinstance(event, events.Dropped):
            self._finish("")
            note(f"dropped: {event.reason}")
        elif isinstance(event, events.TextCut):
            self._finish("")
            note(event.message)

    def end(self) -> None:
        """End an unfinished line."""
        self._clear()
        if self._open_line:
            self._write("\n")

    def _of_images(self, begun: int) -> str:
        number = self.images + begun
        return f"{number} of {self.num_images}" if self.num_images else f"{number}"

    def _write(self, text: str) -> None:
        self._clear()
        tell(text, end="")
        self._open_line = not text.endswith("\n")

    def _update(self, status: str, row: ImageRow | None = None) -> None:
        if self._live is None:
            return
        if self._open_line:
            self._write("\n")
        self._live.show(status, row)

    def _finish(self, status: str) -> None:
        self._clear()
        if self._open_line:
            self._write("\n")
        if status:
            self._write(status + "\n")

    def _clear(self) -> None:
        if self._live is not None:
            self._live.clear()


def follow(events: Iterable[Event], progress: Progress) -> Iterator[Done]:
    """The completed rows of a stream as they come, all of it shown on stderr.

    Raises ValueError, behind the last one, where rows were dropped.
    """
    from unified.engine.events import completions

    try:
        yield from completions(events, progress.show)
    finally:
        progress.end()

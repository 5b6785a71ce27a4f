"""What a command asks of a model, and what comes of it, whoever answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from unified.cli.options import Chosen

if TYPE_CHECKING:
    from unified.models.model import UnifiedModel
    from unified.tasks.task import Verb

__all__ = ["Answers", "CommandQuestion"]

T = TypeVar("T")


@dataclass(frozen=True)
class CommandQuestion:
    """A verb and all that is said of it on the command line.

    inputs: as `UnifiedModel.request` takes them, but for examples, which are (name, pixels uint8
    (H, W, 3)). seed: of the first of `number` documents. decoder, steps: of pictures. check:
    whether the model is asked about its answer afterwards. prepare: loads what is done with the
    answer, while a server makes it.
    """

    verb: Verb
    inputs: dict[str, Any]
    chosen: Chosen
    seed: int
    number: int = 1
    decoder: str = "vq"
    steps: int | None = None
    check: bool = False
    prepare: Callable[[], None] | None = None

    @property
    def only_here(self) -> str | None:
        """The option for which this process must have the model; None: a server will do."""
        if self.check:
            return "--check"
        if getattr(self.chosen, "shots", None) is not None:
            return "--shots"
        if "box" in self.inputs:
            return "--box"
        if "frames" in self.inputs or "video" in self.inputs:
            return "a video"
        return None if self.steps is None else "--steps"


@dataclass
class Answers(Generic[T]):
    """What came of a question.

    results: one for each document. text, voice: as the model's plug-in read them. vocabulary: the
    hash of the model's. pictures, sounds: how many were made. model: where this process has it.
    """

    results: list[T]
    text: str | None
    voice: str | None
    vocabulary: str
    pictures: int
    sounds: int
    model: UnifiedModel | None = field(default=None, repr=False)

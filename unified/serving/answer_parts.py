"""What a model wrote, part by part in reading order, as the events of its document tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from unified.articles.blocks import Narration, read_blocks
from unified.engine.events import (
    AudioDone,
    Done,
    Dropped,
    Event,
    ImageDone,
    MediaDone,
    TextCut,
    TextPiece,
)
from unified.engine.text_scores import TextScore
from unified.models.asking_models import AskedRequest
from unified_data.document import Audio, Document, Image, Text

__all__ = ["AnswerParts", "SpokenPart", "all_warnings"]

_BUDGETS = ("max_text_ids", "max_ids")


@dataclass(frozen=True, eq=False)
class SpokenPart:
    """A sound and what is said in it."""

    audio: Audio
    transcript: str


AnyPart = str | Image | SpokenPart


class AnswerParts:
    """Gathers one document.

    Attributes:
        parts: so far: texts, pictures and sounds, no two texts beside each other.
        usage: of the document, once it is complete.
        is_cut: whether a budget of ids ended it.
        warnings: of this document.
        scores: of the ids of its words, where they were asked for.
        thought: what was written before the answer, once it is complete; None: nothing.
    """

    def __init__(self, asked: AskedRequest) -> None:
        self.parts: list[AnyPart] = []
        self.usage: dict[str, int] = {}
        self.is_cut = False
        self.warnings: list[str] = []
        self.scores: list[TextScore] = []
        self.thought: str | None = None
        self._asked = asked

    def add(self, event: Event) -> None:
        """The next event of the document."""
        if isinstance(event, TextPiece):
            self.scores += event.scores
            if self.parts and isinstance(self.parts[-1], str):
                self.parts[-1] += event.text
            else:
                self.parts.append(event.text)
        elif isinstance(event, ImageDone):
            self.parts.append(event.image)
        elif isinstance(event, AudioDone):
            self.parts.append(SpokenPart(event.audio, self._transcript(event.audio)))
        elif isinstance(event, MediaDone):
            self.warnings.append(
                f"a {event.segment.noun} was written, which the answer cannot hold"
            )
        elif isinstance(event, TextCut):
            self.is_cut |= event.reason in _BUDGETS
            self.warnings.append(event.message)
        elif isinstance(event, Dropped):
            self.warnings.append(event.reason)
        elif isinstance(event, Done):
            self.usage = event.usage
            self.thought = self._asked.response(event.document).thought
            most = self._asked.sampling.max_ids
            self.is_cut |= most is not None and len(event.ids) >= most
            self.warnings += self._asked.finish(event.document)

    @property
    def text(self) -> str:
        """All of its words."""
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def pictures(self) -> list[Image]:
        """Its pictures."""
        return [part for part in self.parts if isinstance(part, Image)]

    @property
    def sounds(self) -> list[SpokenPart]:
        """Its sounds."""
        return [part for part in self.parts if isinstance(part, SpokenPart)]

    def _transcript(self, audio: Audio) -> str:
        """What is said in a sound that comes now: in an article, what stands before it says so."""
        if self._asked.verb == "speak":
            return self._asked.inputs.text or ""
        segments = [
            Text(part, "response")
            if isinstance(part, str)
            else replace(part.audio if isinstance(part, SpokenPart) else part, role="response")
            for part in self.parts
        ]
        blocks = read_blocks(Document((*segments, replace(audio, role="response"))))
        narrations = [block for block in blocks if isinstance(block, Narration)]
        return narrations[-1].transcript if narrations else ""


def all_warnings(common: Sequence[str], answers: Sequence[AnswerParts]) -> list[str]:
    """Each once, in order."""
    own = [text for answer in answers for text in answer.warnings]
    return list(dict.fromkeys([*common, *own]))

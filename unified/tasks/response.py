"""What came of a request: the answer, apart from the thoughts that the model wrote before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unified_data.document import Document, Segment, Text

if TYPE_CHECKING:
    from unified.tasks.task import Task

__all__ = ["Response", "response_of", "split_thought"]


@dataclass(frozen=True, eq=False)
class Response:
    """The answer to a request.

    document: all of it, as the model filled it. answer: its last segment; of a text, what stands
    behind the thought. thought: what the model wrote before; None: nothing. known: False where the
    answer says that the model does not know.
    """

    document: Document
    answer: Segment
    thought: str | None = None
    known: bool = True

    @property
    def text(self) -> str:
        """The answer of a verb that answers with a text."""
        assert isinstance(self.answer, Text), type(self.answer)
        return self.answer.text


def response_of(task: Task | None, document: Document) -> Response:
    """The response that a filled document holds. task: None for a document of one's own."""
    answer = document.segments[-1]
    if task is None or task.slot.kind == "any":
        return Response(document, answer)
    before = document.segments[-len(task.slots) : -1]
    thoughts = [segment.text.strip() for segment in before if isinstance(segment, Text)]
    known = True
    if isinstance(answer, Text):
        thought, text = split_thought(answer.text, task.thought_ends)
        if thought is not None:
            thoughts.append(thought)
            answer = replace(answer, text=text)
        known = task.unknown is None or text.strip() != task.unknown
    return Response(document, answer, "\n".join(thoughts) if thoughts else None, known)


def split_thought(text: str, ends: Sequence[str]) -> tuple[str | None, str]:
    """A thought and the answer behind the first of the marks that end one.

    Without a mark, or with nothing behind it, the whole text is the answer: (None, text).
    """
    marks = [(text.find(end), end) for end in ends if end in text]
    if not marks:
        return None, text
    at, end = min(marks)
    thought, answer = text[:at].strip(), text[at + len(end) :].strip()
    return (thought, answer) if answer else (None, text)

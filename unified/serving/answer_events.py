"""The events of a document without what the model wrote before its answer."""

from __future__ import annotations

from dataclasses import replace

from unified.engine.events import Done, Event, TextPiece
from unified.engine.text_scores import TextScore
from unified.models.asking_models import AskedRequest
from unified.tasks.response import split_thought

__all__ = ["AnswerEvents"]


class AnswerEvents:
    """Leaves thoughts out of the pieces of one document's texts, as `AskedRequest.response` does.

    Text before an answer of another kind is a thought, and so is what stands before the first of
    its task's marks (`tasks.response.split_thought`); of a text that may still become one nothing
    is passed on. A task without thoughts, and a document of one's own, come as they are.
    """

    def __init__(self, asked: AskedRequest) -> None:
        task = asked.task
        in_order = task is not None and task.slot.kind != "any"
        self._ends = task.thought_ends if task is not None and in_order else ()
        self._is_silent = task is not None and in_order and task.slot.kind != "text"
        self._unknown = task.unknown if task is not None and asked.strange is not None else None
        self._text = ""  # all of it, until its thought has ended
        self._behind = not self._ends
        self._blank = ""  # at the end of what was passed on
        self._scores: tuple[TextScore, ...] = ()  # of what was withheld

    def add(self, event: Event) -> list[Event]:
        """The events that a reader of the answer is told in the place of one."""
        if isinstance(event, TextPiece):
            if self._is_silent or self._unknown is not None:
                return []
            if not self._ends:
                return [event]
            was_behind = self._behind
            text = self._piece(event.text)
            if not was_behind and self._behind:  # before it stand the thought's own
                self._scores = ()
            scores, self._scores = (*self._scores, *event.scores), ()
            if text:
                return [replace(event, text=text, scores=scores)]
            self._scores = scores
            return []
        if isinstance(event, Done):
            rest = self._rest()
            return [TextPiece(event.row, rest, self._scores), event] if rest else [event]
        return [event]

    def _piece(self, text: str) -> str:
        """What can be told once a piece has come."""
        if not self._behind:
            self._text += text
            marks = [(self._text.find(end), end) for end in self._ends if end in self._text]
            if not marks:
                return ""
            at, end = min(marks)
            longest = max(map(len, self._ends))
            text = self._text[at + len(end) :].lstrip()
            # A longer mark may begin before this one and not have ended.
            if not text or len(self._text) < at + longest:
                return ""
            self._behind = True
        text = self._blank + text
        told = text.rstrip()
        self._blank = text[len(told) :]
        return told

    def _rest(self) -> str:
        """What was withheld of a text that is complete."""
        if self._unknown is not None:
            return self._unknown
        if self._behind or self._is_silent:
            return ""
        return split_thought(self._text, self._ends)[1]

"""Shots: answered requests that stand before the one that is asked (in-context learning).

A shot is a document: a prompt and its answer. It is laid out by the task that is asked, so that the
model reads its examples in the very form in which it is asked (few-shot, arXiv:2005.14165; with
pictures between texts, arXiv:2204.14198).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unified.formats.coded import Coded
from unified_base.text import counted
from unified_data.document import Document, Segment, Slot, Text

if TYPE_CHECKING:
    from unified.formats.compiled import CompiledFormat
    from unified.sequence.sequencer import Sequencer
    from unified.tasks.asking import Inputs, Shot
    from unified.tasks.task import Task

__all__ = ["MOST_SHOTS", "check_in_a_row", "num_prompt_segments", "shot_of"]

MOST_SHOTS = 256
"""Shots before one request."""


def num_prompt_segments(segments: Sequence[Any]) -> int:
    """How many segments stand before the last response; 0 where there is no prompt.

    Without roles the first of two segments is the prompt of the second.
    """
    roles = [segment.role for segment in segments]
    if not any(roles):
        return 1 if len(segments) == 2 else 0
    count = len(roles)
    while count and roles[count - 1] != "response":
        count -= 1
    while count and roles[count - 1] == "response":
        count -= 1
    return count


def shot_of(task: Task, segments: Sequence[Segment | Coded]) -> Shot:
    """A document as an answered request of a task.

    A pair that stands the other way round (a caption and its picture, where pictures are described)
    is turned. Roles are those of the task; what a task says beside its inputs is its own.

    segments: of the document; media may be codes.

    Raises ValueError for a document without prompt or answer, and one whose prompt holds something
    else than the task is given.
    """
    from unified.tasks.asking import Shot

    segments = tuple(segments)
    if any(isinstance(segment, Slot) for segment in segments):
        raise ValueError("it has a slot; a shot is answered: give its answer")
    split = num_prompt_segments(segments)
    prompt, answer = segments[:split], segments[split:]
    if not prompt or not answer:
        raise ValueError(
            f"it has {counted(len(prompt), 'segment')} of a prompt and {len(answer)} of an answer,"
            " expected both: two segments, or roles prompt and response"
        )
    wanted = task.takes - {"frames"}
    for first, then in ((prompt, answer), (answer, prompt)):
        values = _values(first, wanted)
        if values is not None and _answers(task, then):
            return Shot(_inputs(task, values, then), tuple(then))
    kinds = ", ".join(map(_kind, prompt)), ", ".join(map(_kind, answer))
    raise ValueError(
        f"it has {kinds[0]} and then {kinds[1]}, but to {task.verb} is given"
        f" {' and '.join(sorted(wanted)) or 'nothing'} and makes"
        f" {' and then '.join(slot.kind for slot in task.slots)}"
    )


def _values(prompt: Sequence[Any], wanted: frozenset[str]) -> dict[str, Any] | None:
    """The inputs that segments are, by name; None where they are not just those wanted."""
    values: dict[str, Any] = {}
    for segment in prompt:
        kind = _kind(segment)
        name = "question" if kind == "text" and "question" in wanted else kind
        if name in values:
            return None
        values[name] = segment.text if isinstance(segment, Text) else segment
    return values if values.keys() == wanted else None


def _answers(task: Task, answer: Sequence[Any]) -> bool:
    """Whether segments fill the slots of a task."""
    kinds = [slot.kind for slot in task.slots]
    if task.slot.kind == "any":
        return len(answer) >= len(kinds)
    return [_kind(segment) for segment in answer] == kinds


def _inputs(task: Task, values: dict[str, Any], answer: Sequence[Any]) -> Inputs:
    from unified.tasks.asking import Inputs

    if "frames" in task.takes:
        video: Any = answer[-1]
        frames = getattr(video, "frames", None)
        values["frames"] = len(video.codes[0]) if frames is None else len(frames)
    if "width" in task.placeholders and hasattr(answer[-1], "pixels"):
        height, width = answer[-1].pixels.shape[:2]
        values["size"] = (width, height)
    return Inputs(**values)


def _kind(segment: Any) -> str:
    return "text" if isinstance(segment, Text) else str(segment.modality)


def check_in_a_row(document: Document, num_shots: int, sequencer: Sequencer) -> None:
    """Raises ValueError where a model's format cannot hold a request behind its shots."""
    grammar: CompiledFormat = sequencer.grammar
    before: str | None = None
    role = grammar.format.start
    for index, segment in enumerate(document):
        kind = "text"
        if isinstance(segment, Slot):
            kind = segment.modality
        elif not isinstance(segment, Text):
            embedder = sequencer.embedder_of(segment)
            kind = segment.modality if embedder is None else embedder.kind
        try:
            if before in grammar.span_grammars and grammar.span_grammars[before].terminal:
                raise ValueError(f"a document ends after its first {before}")
            grammar.segment_prefix(before, role, kind, segment.role)
        except ValueError as error:
            raise ValueError(
                f"{counted(num_shots, 'shot')} cannot stand before the request: format"
                f" '{grammar.format.name}' does not hold several documents in a row (segment"
                f" {index}: {error}); ask without shots"
            ) from None
        before, role = kind, segment.role or grammar.format.start

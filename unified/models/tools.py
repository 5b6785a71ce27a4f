"""Tools: a model calls something by name, and what that gives comes back into the sequence.

A call is a segment of role `call`: the name of a tool, a space, and what it is asked. Sampling ends
behind it; the tool answers with a text or media, which stand behind it in role `result`, and
sampling goes on (tools called between texts: Toolformer, arXiv:2302.04761; thoughts and actions in
turn: ReAct, arXiv:2210.03629).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from unified.models.grafting.experts import Expert, Provenance, digest_of, segments_from
from unified_base.arguments import item, several, text, whole
from unified_base.structured import parse_json
from unified_base.text import quoted
from unified_data.document import Document, Media, Segment, Slot, Text

__all__ = ["Tool", "ToolCall", "ToolError", "ToolRun", "follow_calls"]

Answer = str | Segment | Sequence[Segment]
OnError = Literal["tell", "raise"]
MOST_CALLS = 64
_MOST_NAME = 64


class ToolError(ValueError):
    """A tool could not do what it was called for."""


@dataclass(frozen=True)
class Tool:
    """Something that a model may call.

    Attributes:
        name: that the model calls it by: no white space.
        call: from what it is asked, a text, and the document so far to a text, a segment, or
            several; "" is told as the text "nothing". What it raises is told as `follow_calls`
            says.
    """

    name: str
    call: Callable[[str, Document], Answer]

    def __post_init__(self) -> None:
        name = text("name", self.name)
        if not name or len(name) > _MOST_NAME or len(name.split()) != 1 or name.strip() != name:
            raise ValueError(
                f"the tool's name is {quoted(name)}, expected 1 to {_MOST_NAME} characters without"
                " white space"
            )

    @classmethod
    def of_expert(cls, expert: Expert, name: str | None = None) -> Tool:
        """An expert as a tool: it is asked about the last medium of its modality before the call.

        name: None: the expert's own, which must have no white space.
        """

        def call(question: str, document: Document) -> Answer:
            for segment in reversed(document.segments):
                if isinstance(segment, Media) and segment.modality == expert.modality:
                    return expert.call(segment)
            raise ToolError(f"there is no {expert.modality} before the call")

        return cls(expert.name if name is None else name, call)

    @classmethod
    def of_json(cls, name: str, function: Callable[..., Answer]) -> Tool:
        """A function of keywords as a tool: it is asked with a JSON object of them."""

        def call(question: str, document: Document) -> Answer:
            arguments = parse_json(question or "{}", "its arguments")
            if not isinstance(arguments, dict):
                raise ToolError(f"its arguments are {quoted(arguments)}, expected a JSON object")
            return function(**arguments)

        return cls(name, call)


@dataclass(frozen=True)
class ToolCall:
    """A call that a model made.

    Attributes:
        segment: the index of the call in the document.
        name, question: what was called, and what it was asked.
        results: indices of what came of it.
        error: why the tool could not answer, as the model was told; None: it could.
    """

    segment: int
    name: str
    question: str
    results: tuple[int, ...]
    error: str | None = None


@dataclass(frozen=True)
class ToolRun:
    """A document that a model filled with the help of tools.

    Attributes:
        document: with calls and results between what the model wrote.
        calls: in order.
        provenance: of every result, the tool and the call that it came of.
    """

    document: Document
    calls: tuple[ToolCall, ...]
    provenance: tuple[Provenance, ...]

    @property
    def answer(self) -> Document:
        """The document without calls and results."""
        segments = (each for each in self.document if each.role not in ("call", "result"))
        return Document(tuple(segments))


def follow_calls(
    fill: Callable[[Document, bool], Document],
    document: Document,
    tools: Sequence[Tool],
    most_calls: int = 8,
    on_error: OnError = "tell",
) -> ToolRun:
    """Fill a document, answering every call of a tool.

    Args:
        fill: completes a document whose last segment is a slot of "any"; it is told whether calls
            are allowed.
        document: to be filled; its last segment, and no other, is a slot: of "any", or of text,
            which is one of "any" without pictures and sounds.
        tools: that may be called.
        most_calls: after so many the model goes on without any, 0 to 64.
        on_error: what an unknown name, and what a tool raises, does: "tell" the model by a text in
            the place of a result, or "raise" it as a ToolError.

    Raises:
        ValueError: no such document; two tools of one name; a tool gave something else than texts
            and media. ToolError as said.
    """
    by_name = _by_name(tools)
    whole("most_calls", most_calls, 0, MOST_CALLS)
    slot = _slot_of(document)
    document = Document((*document.segments[:-1], slot))
    calls: list[ToolCall] = []
    provenance: list[Provenance] = []
    while True:
        before = len(document) - 1
        document = fill(document, len(calls) < most_calls)
        last = document.segments[-1] if len(document) > before else None
        if not (isinstance(last, Text) and last.role == "call"):
            return ToolRun(document, tuple(calls), tuple(provenance))
        at = len(document) - 1
        name, question = _read_call(last.text)
        results, error = _call(by_name, name, question, document, on_error)
        indices = tuple(range(at + 1, at + 1 + len(results)))
        calls.append(ToolCall(at, name, question, indices, error))
        provenance += [Provenance(index, name, at, digest_of(last)) for index in indices]
        slot = _less(slot, document.segments[before:])
        document = Document((*document.segments, *results, slot))


def _by_name(tools: Sequence[Tool]) -> Mapping[str, Tool]:
    by_name: dict[str, Tool] = {}
    for tool in several("tools", tools, Tool):
        if tool.name in by_name:
            raise ValueError(f"two tools are called {quoted(tool.name)}; give each a name")
        by_name[tool.name] = tool
    if not by_name:
        raise ValueError("there are no tools; sample the document without")
    return by_name


def _slot_of(document: Document) -> Slot:
    item("document", document, Document, "a Document")
    last = document.segments[-1] if len(document) else None
    kinds = ("any", "text")
    if not isinstance(last, Slot) or last.modality not in kinds or len(document.slots) != 1:
        raise ValueError(
            "tools are called while the last segment of a document is written, the only slot, of"
            f" 'any' or text; slots are at {list(document.slots)} of {len(document)} segments"
        )
    return last if last.modality == "any" else Slot(
        "any", num_images=0, num_audios=0, role=last.role, loss=last.loss
    )  # fmt: skip


def _less(slot: Slot, written: Sequence[Segment]) -> Slot:
    """A slot without what was written of the media that it asks for."""
    left: dict[str, Any] = {}
    for name, modality in (("num_images", "image"), ("num_audios", "audio")):
        wanted = getattr(slot, name)
        if wanted is not None:
            number = sum(getattr(segment, "modality", "") == modality for segment in written)
            left[name] = wanted - number
    return replace(slot, **left)


def _read_call(call: str) -> tuple[str, str]:
    """The name and the question of a call's text."""
    name, *rest = call.split(maxsplit=1) or [""]
    return name, rest[0].rstrip() if rest else ""


def _call(
    tools: Mapping[str, Tool], name: str, question: str, document: Document, on_error: OnError
) -> tuple[list[Any], str | None]:
    """The results of a call, and the error that the model is told."""
    try:
        if name not in tools:
            raise ToolError(f"there is no such tool, expected one of {', '.join(tools)}")
        answer = tools[name].call(question, document)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        reason = reason.removeprefix("ToolError: ")
        if on_error == "raise":
            raise ToolError(
                f"tool {quoted(name)}, called with {quoted(question)}: {reason}"
            ) from error
        told = f"error: {reason}"
        return [Text(told, "result", 0.0)], reason
    results = segments_from(answer, f"tool {quoted(name)} gave {{}} for {quoted(question)}")
    results = results or [Text("nothing")]
    return [replace(result, role="result", loss=0.0) for result in results], None

"""Experts: anything that is called with a medium and says, or makes, something of it.

A captioner, a detector, a reader of print: tools around a language model (the first of the three
ways to a multimodal model). What they give becomes segments of the document, and where each came
from is kept beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unified_base.text import quoted
from unified_data.document import Document, Media, Segment, Text

__all__ = ["Consulted", "Expert", "Provenance", "consult", "digest_of", "segments_from"]

Answer = str | Segment | Sequence[Segment]


@dataclass(frozen=True)
class Expert:
    """Something that knows about media.

    Attributes:
        name: for provenance, such as "blip2-captioner 1.0".
        call: from a segment of media to a text, a segment, or several.
        modality: of the media that it takes.
    """

    name: str
    call: Callable[[Any], Answer]
    modality: str = "image"


@dataclass(frozen=True)
class Provenance:
    """Where a segment came from.

    Attributes:
        segment: its index in the document.
        expert: the expert's name, or the tool's.
        source: the index of the medium that the expert was asked about, or of the call.
        digest: SHA-256 of that segment, in hex.
    """

    segment: int
    expert: str
    source: int
    digest: str


@dataclass(frozen=True)
class Consulted:
    """A document with what experts said of its media right behind each, and where that is from."""

    document: Document
    provenance: tuple[Provenance, ...]


def consult(document: Document, experts: Sequence[Expert]) -> Consulted:
    """Ask experts about the media of a document.

    What they give stands behind the medium, in its role and with loss 0: it is read, not learnt.

    Raises ValueError, naming expert and segment, for what is neither text nor a medium; what an
    expert itself raises is not caught.
    """
    segments: list[Segment] = []
    provenance: list[Provenance] = []
    for index, segment in enumerate(document):
        segments.append(segment)
        if not isinstance(segment, Media):
            continue
        source = len(segments) - 1
        for expert in experts:
            if expert.modality != segment.modality:
                continue
            where = f"expert {quoted(expert.name)} gave {{}} for segment {index}"
            for answer in segments_from(expert.call(segment), where):
                segments.append(replace(answer, role=segment.role, loss=0.0))
                at = len(segments) - 1
                provenance.append(Provenance(at, expert.name, source, digest_of(segment)))
    return Consulted(Document(tuple(segments)), tuple(provenance))


def segments_from(answer: Any, where: str) -> list[Any]:
    """The segments that something called gave: of a text, a segment, or several; "" is none.

    where: for errors, with {} for what was given. Raises ValueError for anything else.
    """
    if isinstance(answer, str):
        return [Text(answer)] if answer else []
    answers = [answer] if isinstance(answer, Text | Media) else answer
    if not isinstance(answers, list | tuple) or not all(
        isinstance(own, Text | Media) for own in answers
    ):
        raise ValueError(
            f"{where.format(quoted(answer))}, expected a text, a medium, or a list of them"
        )
    return list(answers)


def digest_of(segment: Text | Media) -> str:
    """SHA-256 of what a segment holds, in hex."""
    digest = hashlib.sha256(getattr(segment, "modality", "text").encode())
    for name, value in sorted(vars(segment).items()):
        if hasattr(value, "tobytes"):
            digest.update(name.encode() + str(value.shape).encode() + value.tobytes())
        elif name == "text":
            digest.update(value.encode())
    return digest.hexdigest()

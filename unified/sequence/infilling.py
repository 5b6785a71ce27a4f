"""Infilling: a gap inside a document is written with what stands behind it in view.

A decoder reads from left to right, so the document is laid out with its gap last: what stands
before the gap (role `prefix`), what stands behind it (`suffix`), then what fills it (`middle`).
This is fill-in-the-middle (FIM; Bavarian et al., arXiv:2207.14255, the order "PSM"), of segments
of any kind, as the masks of CM3 are (arXiv:2201.07520). The roles are the format's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unified.formats.spec import Format
from unified_data.document import Document, Text

__all__ = ["INFILL_ROLES", "Gap", "check_infills", "gap_of", "with_random_gap"]

INFILL_ROLES = ("prefix", "suffix", "middle")
_LEADING = ("prompt", "scene")


@dataclass(frozen=True)
class Gap:
    """Where a document has its gap.

    Attributes:
        document: laid out with the gap last.
        lead: segments of a prompt, which stay in front.
        before, after: segments on both sides of the gap.
        role: that they and the gap have in the document itself.
    """

    document: Document
    lead: int
    before: int
    after: int
    role: Any

    def restore(self, filled: Document) -> Document:
        """The filled document in its own order and roles."""
        segments = filled.segments
        suffix = self.lead + self.before
        middle = suffix + self.after
        body = (*segments[self.lead : suffix], *segments[middle:], *segments[suffix:middle])
        own = (replace(segment, role=self.role) for segment in body)
        return Document((*segments[: self.lead], *own))


def check_infills(format: Format) -> None:
    """Raises ValueError for a format whose models do not see what stands behind a gap."""
    if missing := [role for role in INFILL_ROLES if role not in format.roles]:
        raise ValueError(
            f"format '{format.name}' has no role {missing[0]}, so that its models do not look"
            " behind a gap; take one of a format with roles prefix, suffix, middle, such as tools"
        )


def gap_of(document: Document, format: Format) -> Gap:
    """A document with its gap last: one slot, or several side by side, with something behind.

    Raises ValueError for another document, roles that change around the gap, and a format without
    infilling.
    """
    check_infills(format)
    segments, slots = document.segments, document.slots
    if not slots or slots[-1] - slots[0] != len(slots) - 1:
        raise ValueError(
            f"the document has slots at {list(slots)}, expected one gap: one slot, or several side"
            " by side"
        )
    first, last = slots[0], slots[-1] + 1
    if last == len(segments):
        raise ValueError("nothing stands behind the slot, so there is no gap; sample it as it is")
    lead = _num_leading(segments[:first])
    roles = {segment.role for segment in segments[lead:]}
    if len(roles) > 1:
        names = ", ".join(sorted(str(role) for role in roles))
        raise ValueError(
            f"what stands around the gap has roles {names}, expected one; ask for the turns one by"
            " one"
        )
    laid_out = (
        *segments[:lead],
        *_as("prefix", segments[lead:first]),
        *_as("suffix", segments[last:]),
        *_as("middle", segments[first:last]),
    )
    return Gap(Document(laid_out), lead, first - lead, len(segments) - last, segments[first].role)


def with_random_gap(segments: Sequence[Any], rng: np.random.Generator) -> list[Any] | None:
    """Segments of a training document with a gap last: a medium, or a stretch of a text.

    The gap is drawn evenly among the segments behind the prompt, and of a text between two drawn
    characters. None where there is nothing around any gap, or turns follow each other.

    Args:
        segments: texts, media or their codes.
        rng: draws the gap.
    """
    lead = _num_leading(segments)
    body = segments[lead:]
    if not body or len({segment.role for segment in body}) > 1:
        return None
    at = int(rng.integers(len(body)))
    before, middle, after = list(body[:at]), body[at], list(body[at + 1 :])
    if isinstance(middle, Text):
        start, stop = sorted(rng.choice(len(middle.text) + 1, 2, replace=False).tolist())
        head, inner, tail = middle.text[:start], middle.text[start:stop], middle.text[stop:]
        if not inner.strip():
            return None
        # Blank ends stay with what is filled in: a text of them alone may have no ids.
        head, inner = ("", head + inner) if not head.strip() else (head, inner)
        inner, tail = (inner + tail, "") if not tail.strip() else (inner, tail)
        before += [replace(middle, text=head)] if head else []
        after = [*([replace(middle, text=tail)] if tail else []), *after]
        middle = replace(middle, text=inner)
    if not after:
        return None
    return [
        *segments[:lead], *_as("prefix", before), *_as("suffix", after), *_as("middle", [middle])
    ]  # fmt: skip


def _num_leading(segments: Sequence[Any]) -> int:
    count = 0
    while count < len(segments) and segments[count].role in _LEADING:
        count += 1
    return count


def _as(role: str, segments: Sequence[Any]) -> list[Any]:
    return [replace(segment, role=role) for segment in segments]

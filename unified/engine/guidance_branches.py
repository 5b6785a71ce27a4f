"""The branches of classifier-free guidance beside a request's own: what stands in each of them.

A branch has the same slots, filled with the same ids, in a document whose given texts (or given
media too) are left out. It is input of the decoder alone, and not held to the grammar.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from unified.engine.branch import Branch, positions_of_segment
from unified.engine.request import Sampling
from unified.engine.sampler import FULL, MEDIA
from unified.formats.coded import Coded, CodedText
from unified.formats.grammar import Grammar

__all__ = ["GuidanceBranches", "conditions_of"]


def conditions_of(grammar: Grammar, sampling: Sampling) -> Iterable[str]:
    """The names of a request's branches, its own first: what guidance of any of its spans needs."""
    conditions: dict[str, None] = {FULL: None}  # in order, without duplicates
    for kind, program in grammar.span_grammars.items():
        guidance = sampling.of(kind, program.modality).guidance
        conditions.update(dict.fromkeys(guidance.conditions))
    conditions.update(dict.fromkeys(sampling.text.guidance.conditions))
    return conditions


class GuidanceBranches:
    """The branches of a request but its own, in the order of its conditions."""

    def __init__(
        self, branches: Iterable[Branch], grammar: Grammar, negative: Sequence[CodedText]
    ) -> None:
        """Begin each of them. negative: the texts in place of the given ones."""
        self._branches = [branch for branch in branches if branch.condition != FULL]
        self._grammar = grammar
        self._negative = bool(negative)
        for branch in self._branches:
            branch.role = grammar.format.start
            branch.positions += grammar.begin
            if grammar.uncond_token is not None and not negative:
                branch.positions.append(grammar.uncond_token)
            for text in negative:
                self._append(branch, text)

    def __iter__(self) -> Iterator[Branch]:
        return iter(self._branches)

    def append_given(self, segment: Coded) -> None:
        """Append a given segment to those branches that have it: blank text, or media."""
        blank = self._grammar.pad_text_with
        for branch in self._branches:
            if isinstance(segment, CodedText):
                if blank is None or self._negative:
                    continue
                branch.begin_segment(self._grammar, branch.role, segment.role, written=False)
                branch.positions += self._prefix(branch, "text", segment.role)
                branch.end_markers(self._grammar.format, "text", written=False)
                branch.positions += [blank] * len(segment.ids)
                branch.kind, branch.role = "text", segment.role or self._grammar.format.start
            elif branch.condition == MEDIA:
                self._append(branch, segment)

    def begin_slot(self, kind: str, role: str | None, continues: bool) -> None:
        """Append what stands before a slot. continues: it goes on with the text before it."""
        for branch in self._branches:
            if not continues:
                branch.begin_segment(self._grammar, branch.role, role, written=True)
                branch.positions += self._prefix(branch, kind, role)
                branch.end_markers(self._grammar.format, kind, written=True)
            branch.role = role

    def end_span(self, kind: str) -> None:
        """Note what the last span was of."""
        for branch in self._branches:
            branch.kind = kind

    def end_slot(self, kind: str, role: str | None) -> None:
        """Note what the slot that ends was of, and in which role."""
        for branch in self._branches:
            branch.kind, branch.role = kind, role

    def _prefix(self, branch: Branch, kind: str, role: str | None) -> list[int]:
        """What stands before a segment in a branch: padding where the format blanks it out, too.

        Two texts that have media between them in the request may be one where these are left out.
        """
        joins = branch.kind == kind == "text" and self._grammar.separator is None
        if joins and branch.role == (role or self._grammar.format.start):
            return []
        ids = self._grammar.segment_prefix(branch.kind, branch.role, kind, role)
        blank = self._grammar.pad_text_with
        if self._grammar.pad_affixes and blank is not None and not self._negative:
            return [blank] * len(ids)
        return list(ids)

    def _append(self, branch: Branch, segment: Coded) -> None:
        role = segment.role or self._grammar.format.start
        ids, format = self._grammar.segment_ids(segment), self._grammar.format
        branch.begin_segment(self._grammar, branch.role, role, written=False)
        branch.positions += self._grammar.segment_prefix(
            branch.kind, branch.role, segment.kind, role
        )
        branch.end_markers(format, segment.kind, written=False)
        branch.positions += positions_of_segment(segment, ids, self._grammar)
        branch.end_given(format, role)
        branch.kind, branch.role = segment.kind, role

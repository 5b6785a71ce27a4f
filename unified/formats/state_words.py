"""Where a sequence stands: what its open span has so far, and words for errors."""

from __future__ import annotations

from unified.formats.coded import GrammarError
from unified.formats.document_state import DocumentState
from unified.formats.span_state import SpanState

__all__ = ["StateWords"]


class StateWords(DocumentState):
    """The part of `State` that says what was read, and what was expected."""

    __slots__ = ("_begun_at", "_span")

    _begun_at: int
    _span: SpanState | None

    def num_codes(self, level: int) -> int:
        """Codes of a level that the open span has so far."""
        return 0 if self._span is None else len(self._span.levels[level])

    def latest_codes(self, level: int, number: int) -> list[int]:
        """The last ids of a level in the open span, so many at most."""
        return [] if self._span is None else self._span.levels[level][-number:]

    def unfinished(self) -> GrammarError:
        """Why the sequence may not stop here."""
        assert not self.finished
        if self._span is not None:
            return GrammarError(
                self.position,
                f"the sequence ends in {self._here(self._span)}; was generation cut off? "
                "raise the budget (max_ids)",
            )
        return GrammarError(
            self.position,
            f"the sequence ends where {self.grammar.describe(self._ranges)} should follow",
        )

    def _refuse(self, id: int) -> GrammarError:
        actual = self.grammar.vocabulary.describe(id)
        if self.finished:
            return GrammarError(self.position, f"{actual} follows the end of the document")
        where = self._budget() if self._span is None else f", in {self._here(self._span)}"
        expected = self.grammar.describe(self._ranges)
        return GrammarError(self.position, f"expected {expected}, found {actual}{where}")

    def _here(self, span: SpanState) -> str:
        at = f"the {span.grammar.kind} span begun at position {self._begun_at}"
        return f"{at}, which has {span.describe()}"

    def _budget(self) -> str:
        if self.remaining is None:
            return ""
        return f" (with {self._left} ids left under the limits)"

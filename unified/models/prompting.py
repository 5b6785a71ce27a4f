"""Prompts of many parts: documents with a gap, and documents that are written with tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Unpack

from unified.formats.limits import BudgetError
from unified.models.asking_models import fit_segment
from unified.models.tools import OnError, Tool, ToolRun, follow_calls
from unified.models.verbs import Verbs
from unified.sequence.infilling import gap_of
from unified.tasks.choices import Choices
from unified_base.text import counted
from unified_data.document import Document

__all__ = ["Prompting"]


class Prompting(Verbs):
    """What `UnifiedModel` has beside verbs for documents of one's own."""

    def infill(
        self, document: Document, n: int = 1, seed: int = 0, **choices: Unpack[Choices]
    ) -> list[Document]:
        """`n` documents whose gap is filled with what stands behind it in view.

        document: with one slot of text, a picture or a sound, or several side by side, and segments
        behind them; see `unified.sequence.infilling`. `sample` fills slots by what stands before
        them alone.

        Raises ValueError for a document without such a gap, and a model whose format has no roles
        for it.
        """
        gap = gap_of(document, self.sequencer.grammar.format)
        return [gap.restore(filled) for filled in self.sample(gap.document, n, seed, **choices)]

    def use_tools(
        self,
        document: Document,
        tools: Sequence[Tool],
        seed: int = 0,
        *,
        most_calls: int = 8,
        on_error: OnError = "tell",
        **choices: Unpack[Choices],
    ) -> ToolRun:
        """A document filled by the model, which may call tools meanwhile.

        document: whose last segment is a slot of "any" or text, and no other, such as that of a
        request (`model.request("ask", ...).document`). most_calls, on_error: see `follow_calls`.
        Every part is sampled with the same seed. What was drawn before a call is read again
        through its tokenizer, as an earlier answer of a conversation is.

        Raises ValueError as `follow_calls` does, and for a model whose format has no role `call`.
        """

        def fill(part: Document, may_call: bool) -> Document:
            part = self._fit_results(part)
            request = self.request_document(part, **choices)
            sampling = replace(request.sampling, calls=may_call)
            try:
                return self._complete(part, 1, seed, sampling, request.negative)[0]
            except BudgetError as error:
                number = sum(segment.role == "call" for segment in part)
                raise ValueError(f"behind {counted(number, 'call')} of tools: {error}") from None

        return follow_calls(fill, document, tools, most_calls, on_error)

    def _fit_results(self, document: Document) -> Document:
        """Pictures and sounds that tools gave, as the model's tokenizers take them."""
        segments: list[Any] = []
        for segment in document:
            if segment.role == "result" and not self.sequencer.reads_continuous(
                getattr(segment, "modality", "text")
            ):
                segment = replace(fit_segment(None, segment, self.sequencer)[0],
                                  role=segment.role, loss=segment.loss)  # fmt: skip
            segments.append(segment)
        return Document(tuple(segments))

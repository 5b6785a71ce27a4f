"""Documents filled in one running batch, told in the order in which they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from unified.engine.events import Done, Dropped, Event, TextCut
from unified.engine.submission import Submission
from unified.generating.inputs import InputDocument, Unfilled
from unified.models.model import UnifiedModel
from unified.tasks.choices import Choices
from unified_data.document import Document, decoded_size

__all__ = ["Filled", "fill_in_batches"]

_AHEAD = 4
"""Documents for each row that may wait for one before them."""
_MOST_WAITING = 256 << 20
"""Bytes of their pixels and samples."""


@dataclass(frozen=True)
class Filled:
    """A document that is complete.

    ids: that were written into its slots. cut_texts: texts that a budget or a loop ended.
    altered: what was written and could not be kept as it was.
    """

    number: int
    key: str
    document: Document
    ids: int
    cut_texts: int
    altered: int


def fill_in_batches(
    model: UnifiedModel,
    documents: Iterable[InputDocument | Unfilled],
    choices: Choices,
    seed: int,
    max_rows: int,
) -> Iterator[Filled | Unfilled]:
    """Fill documents, each as it would be alone, and tell them in their order.

    Rows join the batch as others leave it: there is no wait for the slowest of a group.

    Args:
        model: that samples. Its engine has at most as many rows as it was limited to.
        documents: taken as there is room for them. What cannot be filled is told in its turn.
        choices: of the sampling.
        seed: of the document of number 0 where it has none of its own; number n has seed + n.
        max_rows: documents that are sampled at a time.

    Raises:
        RuntimeError: the engine failed.
    """
    waiting: deque[_Row | Unfilled] = deque()
    source = iter(documents)
    more = True
    try:
        while more or waiting:
            while more and len(waiting) < _AHEAD * max_rows and _size(waiting) < _MOST_WAITING:
                entry = next(source, None)
                more = entry is not None
                if entry is not None:
                    waiting.append(_begin(model, entry, choices, seed))
            if waiting:
                head = waiting[0]
                outcome = head if isinstance(head, Unfilled) else head.outcome()
                waiting.popleft()
                yield outcome
    finally:
        for row in waiting:
            if isinstance(row, _Row):
                row.close()


def _size(waiting: Iterable[_Row | Unfilled]) -> int:
    return sum(row.size for row in waiting if isinstance(row, _Row))


def _begin(
    model: UnifiedModel, entry: InputDocument | Unfilled, choices: Choices, seed: int
) -> _Row | Unfilled:
    if isinstance(entry, Unfilled):
        return entry
    try:
        return _Row(
            model, entry, choices, seed + entry.number if entry.seed is None else entry.seed
        )
    except ValueError as error:
        return Unfilled(entry.number, entry.key, str(error))


class _Row:
    """A document in the engine. size: bytes of its media."""

    def __init__(
        self, model: UnifiedModel, entry: InputDocument, choices: Choices, seed: int
    ) -> None:
        """Raises ValueError where it can never be filled."""
        self._model, self._entry, self._seed = model, entry, seed
        self._request = model.request_document(entry.document, **choices)
        self._begin()

    def _begin(self) -> None:
        self.size = sum(decoded_size(segment) for segment in self._entry.document)
        self._done: Done | None = None
        self._cut_texts = self._altered = 0
        request = self._request
        self._submission: Submission = self._model.submit(
            request.document, self._tell, seed=self._seed, sampling=request.sampling,
            negative=request.negative,
        )  # fmt: skip

    def _tell(self, event: Event) -> None:
        if isinstance(event, TextCut):
            self._cut_texts += 1
        elif isinstance(event, Dropped):
            self._altered += 1
        elif isinstance(event, Done):
            self._done = event
            self.size = sum(decoded_size(segment) for segment in event.document)

    def outcome(self) -> Filled | Unfilled:
        """Wait for the document. What the engine dropped is tried once more: memory may have been
        short by chance."""
        try:
            return self._filled()
        except ValueError:
            self._begin()
        try:
            return self._filled()
        except ValueError as error:
            return Unfilled(self._entry.number, self._entry.key, str(error))

    def _filled(self) -> Filled:
        document = self._submission.result()
        assert self._done is not None
        usage: dict[str, Any] = self._done.usage
        ids = usage["sampled_ids"] + usage["forced_ids"]
        entry = self._entry
        return Filled(entry.number, entry.key, document, ids, self._cut_texts, self._altered)

    def close(self) -> None:
        """Leave the engine."""
        self._submission.close()

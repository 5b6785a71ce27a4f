"""Sampling from a model: streams, and the one engine that all of them share."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing

from unified.engine.backends.base import Decoder
from unified.engine.documents import DocumentEngine
from unified.engine.engine import MAX_ROWS
from unified.engine.events import Event
from unified.engine.request import Sampling
from unified.engine.streaming import EventStream
from unified.engine.submission import Submission
from unified.models.prompting import Prompting
from unified.tasks.penalties import check_all_penalties
from unified_base.arguments import MOST_BYTES, whole, whole_or_none
from unified_data.document import Document

__all__ = ["Streams"]


class _Swapping:
    """A lock that is open in a forked process, whoever held it before."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reopen)

    def _reopen(self) -> None:
        self.lock = threading.Lock()


_swapping = _Swapping()  # of all models: it is held while an engine is made, which takes no time


class Streams(Prompting):
    """What `UnifiedModel` samples with."""

    def __init__(self) -> None:
        self._engine: DocumentEngine | None = None
        self._limits: tuple[int, int | None] = MAX_ROWS, None

    @abstractmethod
    def decoder(self) -> Decoder:
        """See `UnifiedModel.decoder`."""

    @property
    def engine(self) -> DocumentEngine:
        """The engine that all threads, tasks and submissions of this model share.

        Made when it is first needed, and again after the decoder has changed, `close`, a failure or
        a fork. `engine.counters` tells what it does; its KV cache stays between calls, so that
        what begins like something before is not read again, until `engine.close()`.
        """
        decoder = self.decoder()
        with _swapping.lock:
            if self._engine is not None and self._engine.decoder is not decoder:
                self._engine = None  # whoever samples from it goes on
            if self._engine is None or not self._engine.usable:
                max_rows, cache_bytes = self._limits
                self._engine = DocumentEngine(
                    decoder, self.sequencer, max_rows=max_rows, cache_bytes=cache_bytes
                )
            return self._engine

    def limit_engine(self, *, max_rows: int = MAX_ROWS, cache_bytes: int | None = None) -> None:
        """Bound what the engine takes from now on; what is under way is dropped.

        Args:
            max_rows: documents in one pass of the decoder, of all callers together.
            cache_bytes: of all KV slots, those of documents that have ended included; a document
                that needs more is refused. None: a quarter of the memory that is available when
                the engine is first used.
        """
        self._limits = (
            whole("max_rows", max_rows, 1),
            whole_or_none("cache_bytes", cache_bytes, 1, MOST_BYTES),
        )
        self._drop_engine()

    def _forget_engine(self) -> None:
        """Hold the engine of a decoder no longer; whoever samples from it goes on."""
        self._engine = None

    def _drop_engine(self) -> None:
        """Give back the memory of the engine."""
        engine, self._engine = self._engine, None
        if engine is not None and engine.usable:
            engine.close()

    def stream(
        self,
        documents: Sequence[Document],
        sampling: Sampling | Sequence[Sampling] | None = None,
        seeds: Sequence[int] | None = None,
        negative: str | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[Event]:
        """Fill the slots of documents, telling what happens as it does (`unified.engine.events`).

        Rows share the decoder with those of all other threads, yet each depends on its document,
        parameters and seed alone. Leaving the loop drops what is not complete, within one step.

        sampling: for all, or one for each document; None: the model's. seeds: one for each
        document; None: 0, 1, 2, ... negative: what guidance has in place of the prompt.
        cancelled: asked before every step, by whichever thread steps; once it says yes, rows under
        way are dropped, and each tells so.
        """
        chosen = self._checked(sampling)
        with self.engine.stream(documents, chosen, seeds, negative, cancelled) as events:
            yield from events

    async def astream(
        self,
        documents: Sequence[Document],
        sampling: Sampling | Sequence[Sampling] | None = None,
        seeds: Sequence[int] | None = None,
        negative: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """`stream` for asyncio: one thread samples for all tasks. Whoever leaves the loop, or
        cancels its task, drops what is not complete within one step."""
        from unified.engine.asynchronous import async_events  # asyncio takes 50 ms to import

        def begin() -> EventStream:
            return self.engine.stream(documents, self._checked(sampling), seeds, negative)

        async with aclosing(async_events(begin)) as events:
            async for event in events:
                yield event

    def submit(
        self,
        document: Document,
        on_event: Callable[[Event], None],
        *,
        seed: int = 0,
        sampling: Sampling | None = None,
        negative: str | None = None,
    ) -> Submission:
        """Fill the slots of a document while a thread of the engine's samples: for servers.

        Args:
            document: with slots.
            on_event: told every event, in order; called by the threads of the engine, which wait
                for it, so that it must be quick. Where it raises, this document alone is dropped.
            seed: of its random numbers.
            sampling: None: the model's.
            negative: what guidance has in place of the prompt.

        Returns:
            What cancels, pauses and waits for it.

        Raises:
            ValueError: as `stream` does.
        """
        chosen = self._checked(sampling)
        assert isinstance(chosen, Sampling)
        return self.engine.submit(document, on_event, chosen, seed, negative)

    def _checked(
        self, sampling: Sampling | Sequence[Sampling] | None
    ) -> Sampling | Sequence[Sampling]:
        chosen = self.sampling if sampling is None else sampling
        check_all_penalties(
            chosen, self.tasks.samplings(self.sampling), self.sequencer.grammar.format
        )
        return chosen

"""The documents of one request in the engine, and their events for one handler."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from time import perf_counter

from unified.engine.events import AudioChunk, Done, Dropped, Event, ImageDone, ImageRow, TextPiece
from unified.models.asking_models import AskedRequest
from unified.models.model import UnifiedModel
from unified.serving.answer_events import AnswerEvents
from unified.serving.api_errors import ApiError, fault, mistake
from unified.serving.fair_queue import FairQueue
from unified.serving.server_metrics import ServerMetrics

__all__ = ["Generation"]

_AHEAD = 32  # events of a request that wait for its handler; then its rows pause
_log = logging.getLogger(__name__)
_FIRST: tuple[tuple[type, str], ...] = (
    (TextPiece, "text"),
    (ImageRow, "picture"),
    (ImageDone, "picture"),
    (AudioChunk, "sound"),
)


class Generation:
    """Samples one request's documents, each in a row of the fair queue once it has one.

    Used so: `start`, then `events` to its end, then `close`, which drops what is not complete
    within one step. Each document has the ids that it would have alone; of texts the answer comes,
    without the thought before it.
    """

    def __init__(
        self,
        model: UnifiedModel,
        queue: FairQueue,
        metrics: ServerMetrics,
        request: AskedRequest,
        seeds: Sequence[int],
        forget: Callable[[Generation], None],
    ) -> None:
        """
        Args:
            model: that samples.
            queue: whose rows it takes.
            metrics: told when the first text, picture and sound come.
            request: what is asked; once for each seed.
            seeds: of the documents, which are numbered in this order.
            forget: called when it is closed.
        """
        self.request, self.seeds = request, list(seeds)
        self._model, self._queue, self._metrics = model, queue, metrics
        self._forget = forget
        self._began = perf_counter()
        self._ticket = queue.enter(len(self.seeds))
        self._events: asyncio.Queue[tuple[int, Event | Exception]] = asyncio.Queue(_AHEAD)
        self._tasks: list[asyncio.Task[None]] = []
        self._seen: set[str] = set()
        self._first: tuple[int, Event] | None = None
        self._failure: ApiError | None = None

    async def start(self) -> None:
        """Return once something has come, so that what cannot be sampled is refused in time.

        Raises ApiError as `events` does.
        """
        self._tasks = [
            asyncio.create_task(self._row(number, seed)) for number, seed in enumerate(self.seeds)
        ]
        self._first = await self._next()

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """(number of the document, event), until all are complete.

        Raises ApiError where a document cannot be sampled, or is dropped.
        """
        left = len(self.seeds)
        assert self._first is not None, "start it first"
        item: tuple[int, Event] = self._first
        while True:
            yield item
            left -= isinstance(item[1], Done)
            if not left:
                return
            item = await self._next()

    def fail(self, error: ApiError) -> None:
        """Stop sampling; whoever reads the events is told why."""
        self._failure = error
        for task in self._tasks:
            task.cancel()
        while not self._events.empty():
            self._events.get_nowait()
        self._events.put_nowait((0, error))

    async def close(self) -> None:
        """Drop what is not complete, and give its rows back. Any number of times."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._ticket.leave()
        self._forget(self)

    async def _put(self, number: int, events: Sequence[Event]) -> None:
        for event in events:
            await self._events.put((number, event))

    async def _next(self) -> tuple[int, Event]:
        if self._failure is not None:
            raise self._failure
        number, event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        for kind, name in _FIRST:
            if isinstance(event, kind) and name not in self._seen:
                self._seen.add(name)
                self._metrics.first(name, perf_counter() - self._began)
        return number, event

    async def _row(self, number: int, seed: int) -> None:
        request, reason, complete = self.request, "", False
        answer = AnswerEvents(request)
        try:
            async with self._ticket.row():
                events = self._model.astream(
                    [request.document], request.sampling, [seed], request.negative
                )
                async with aclosing(events):
                    async for event in events:
                        reason = event.reason if isinstance(event, Dropped) else reason
                        complete = isinstance(event, Done)
                        if not complete:
                            await self._put(number, answer.add(event))
                        else:  # its row is free before its answer is read
                            last = event
            if complete:
                await self._put(number, answer.add(last))
                return
            _log.error("a document was dropped: %s", reason)
            error: Exception = ApiError(
                503, "the document was dropped before it was complete; the server's log says why",
                code="dropped",
            )  # fmt: skip
        except ValueError as refused:  # of the request: a budget, media that cannot be read
            error = mistake(refused)
        except Exception:
            _log.exception("a document could not be sampled")
            error = fault()
        await self._events.put((number, error))

"""Who is sampled next: requests take turns, row by row, so that none starves the others."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

from unified.serving.api_errors import ApiError

__all__ = ["FairQueue", "QueueTicket"]

_LONGEST_WAIT = 60  # seconds that a client is told to wait, at most
_WEIGHT = 0.2  # of the last row in the running mean of what rows take


class FairQueue:
    """Rows of an engine, handed out to requests in turns.

    A request of n documents enters with all of them and is sampled in up to n rows. Each row that
    comes free goes to the request whose turn it is; one of many documents has waited as long as
    everybody else for its next. All methods belong to the thread of the event loop.

    Attributes:
        closing: why nobody may enter any more; None while they may.
    """

    def __init__(self, max_rows: int, max_queue: int) -> None:
        """
        Args:
            max_rows: rows that run at a time.
            max_queue: rows beyond these that may wait.
        """
        self.closing: str | None = None
        self._max_rows = max_rows
        self._most = max_rows + max_queue
        self._running = 0
        self._entered = 0  # rows that wait or run
        self._turns: deque[QueueTicket] = deque()  # requests with rows that wait
        self._seconds = 1.0  # that a row took lately

    @property
    def running(self) -> int:
        """Rows that are sampled now."""
        return self._running

    @property
    def waiting(self) -> int:
        """Rows that wait for one to come free."""
        return self._entered - self._running

    def enter(self, rows: int) -> QueueTicket:
        """A ticket for a request of so many rows; `QueueTicket.leave` gives it back.

        Raises ApiError: 503 where the server is ending, 429 where too many wait, both with
        Retry-After in seconds.
        """
        if self.closing is not None:
            raise ApiError(503, self.closing, code="shutting_down", headers={"Retry-After": "5"})
        if self._entered + rows > self._most:
            wait = max(1, math.ceil(self._seconds * self._entered / self._max_rows))
            raise ApiError(
                429,
                f"{self._running} documents are being written and {self.waiting} wait; this server"
                f" takes {self._most} at a time, and {rows} more do not fit. Try again later",
                code="rate_limit_exceeded",
                headers={"Retry-After": str(min(wait, _LONGEST_WAIT))},
            )
        self._entered += rows
        return QueueTicket(self, rows)

    # For places.

    async def _acquire(self, ticket: QueueTicket) -> None:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not ticket.waiting:
            self._turns.append(ticket)
        ticket.waiting.append(ready)
        self._hand_out()
        try:
            await ready
        except asyncio.CancelledError:
            if ready.done() and not ready.cancelled():  # it came free in the same moment
                self._running -= 1
                self._hand_out()
            else:
                ticket.waiting.remove(ready)
                if not ticket.waiting:
                    self._turns.remove(ticket)
            raise

    def _release(self, seconds: float) -> None:
        self._seconds += _WEIGHT * (seconds - self._seconds)
        self._running -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._turns and self._running < self._max_rows:
            ticket = self._turns.popleft()
            ticket.waiting.popleft().set_result(None)
            self._running += 1
            if ticket.waiting:
                self._turns.append(ticket)  # behind all others

    def _ended(self, rows: int) -> None:
        self._entered -= rows


class QueueTicket:
    """The rows of one request in a `FairQueue`.

    waiting: those that wait, for the queue alone.
    """

    def __init__(self, queue: FairQueue, rows: int) -> None:
        self.waiting: deque[asyncio.Future[None]] = deque()
        self._queue = queue
        self._left = rows

    @asynccontextmanager
    async def row(self) -> AsyncIterator[None]:
        """One row, once it is this request's turn; free again when the block is left."""
        await self._queue._acquire(self)
        began = perf_counter()
        try:
            yield
        finally:
            self._queue._release(perf_counter() - began)
            self._end(1)

    def leave(self) -> None:
        """Give back the rows that were not begun; again has no effect."""
        self._end(self._left)

    def _end(self, rows: int) -> None:
        rows = min(rows, self._left)
        self._left -= rows
        self._queue._ended(rows)

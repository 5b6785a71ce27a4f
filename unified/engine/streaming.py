"""The events of documents, taken one by one: the thread that takes them samples for all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from unified.engine.call import Call
from unified.engine.driver import Driver
from unified.engine.engine import Engine
from unified.engine.events import Event
from unified.engine.media_worker import MediaWorker

__all__ = ["EventStream"]


class EventStream(Call, Iterator[Event]):
    """The events of some documents, for one thread that takes them; a context manager.

    Events that are not taken wait, some of each row; then its requests pause until they are.

    listener: called, by any thread, when there is something to take, or nothing more comes up.
    """

    def __init__(
        self,
        engine: Engine,
        driver: Driver,
        worker: MediaWorker,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        """cancelled: asked before every step, by whoever steps; once it says yes, all of its
        requests are cancelled."""
        super().__init__(engine, driver, worker, None if cancelled is None else self._poll)
        self.listener: Callable[[], None] | None = None
        self._is_cancelled = cancelled
        self._events: deque[Event] = deque()

    def _poll(self) -> None:
        assert self._is_cancelled is not None
        try:
            if not self._cancelled and self._is_cancelled():
                self.cancel()
        except Exception as error:  # of the caller's function: raised to the caller
            self.fail(error)

    def deliver(self, events: Iterable[Event]) -> None:
        with self._driver.lock:
            self._events.extend(events)
            self.balance()
            self.notify()

    def notify(self) -> None:
        super().notify()
        if self.listener is not None:
            self.listener()

    @property
    def num_untaken(self) -> int:
        return len(self._events)

    def __next__(self) -> Event:
        self.check_may_wait()
        self._driver.wait(lambda: bool(self._events) or self.finished, self._condition)
        event = self.take()
        if event is not None:
            return event
        self.close()
        if self.error is not None:
            raise self.error
        raise StopIteration

    def take(self) -> Event | None:
        """The next event, if there is one now."""
        with self._driver.lock:
            if not self._events:
                return None
            event = self._events.popleft()
            self.balance()
            return event

    def in_background(self, is_lost: Callable[[], bool]) -> None:
        """Let a thread of the driver's sample. is_lost: whether nobody can take events any more."""

        def wanted() -> bool:
            if is_lost():
                self.leave()
            return self.in_engine

        self._driver.step_in_background(wanted)

    def close(self) -> None:
        """See `Call.close`; events that were not taken are dropped."""
        self._events.clear()
        super().close()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

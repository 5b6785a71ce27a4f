"""The requests of one caller in the engine, and their events in order.

A caller brings any number of documents; at most `max_rows` of them are in the engine at a time, so
that whoever asks for a thousand pictures leaves room for others. Media are decoded by a worker;
until it is done with those of a request, the steps of that request wait, and nobody else's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from unified.engine.driver import Driver
from unified.engine.engine import Cancelled, Engine, Handle
from unified.engine.events import Event
from unified.engine.media_worker import MediaWorker
from unified.engine.request import Request, Sampling, Step
from unified.engine.translator import EngineStep, Translator

__all__ = ["Call", "Row"]

# Events of a call that wait to be taken before its requests are paused, and those for each row.
_AHEAD = 32
_AHEAD_OF_ROW = 4


@dataclass(eq=False)
class Row:
    """One request of a call.

    backlog: steps that wait until the media before them are decoded; decoding: whether any are.
    """

    request: Request
    sampling: Sampling
    translator: Translator
    backlog: deque[EngineStep] = field(default_factory=deque)
    decoding: bool = False


class Call(ABC):
    """Requests that join the engine and leave it together.

    Any thread may call any method. What is shared is changed with the driver's lock held.

    error: what ended it early.
    """

    def __init__(
        self,
        engine: Engine,
        driver: Driver,
        worker: MediaWorker,
        hook: Callable[[], None] | None = None,
    ) -> None:
        """hook: called before every step of the engine, by whoever steps."""
        self.error: BaseException | None = None
        self._engine, self._driver, self._worker = engine, driver, worker
        self._hook = hook
        self._condition = driver.condition()
        self._waiting: deque[Row] = deque()
        # Of the requests in the engine, by row; None while one is on its way in.
        self._handles: dict[int, Handle | None] = {}
        self._open = 0  # rows whose last event has not been told
        self._num_backlog = 0
        self._paused = self._cancelled = self._left = False

    def begin(self, rows: Sequence[Row], max_rows: int) -> None:
        """Put requests into the engine, `max_rows` of them now.

        Raises ValueError, with none of them in the engine, where a request can never be met.
        """
        checked = set()  # many samples of one document are checked once
        for row in rows[max_rows:]:  # refused at once, as those that join now
            key = id(row.request.segments), id(row.sampling)
            if key not in checked:
                checked.add(key)
                self._engine.check(row.request, row.sampling)
        self._driver.enter(self, self._hook)
        with self._driver.lock:
            self._waiting.extend(rows)
            self._open = len(rows)
        try:
            for _ in range(min(max_rows, len(rows))):
                self._join()
        except BaseException:
            self.close()
            raise
        self._driver.changed()

    @abstractmethod
    def deliver(self, events: Iterable[Event]) -> None:
        """Tell events of one row, in order, in the thread that they come up in."""

    @property
    def num_untaken(self) -> int:
        """Events that wait to be taken."""
        return 0

    @property
    def finished(self) -> bool:
        """Whether nothing more comes up."""
        return not self._open or self.error is not None or self._left

    @property
    def in_engine(self) -> bool:
        """Whether the engine has, or will have, something to do for it."""
        return bool(self._handles or self._waiting)

    def notify(self) -> None:
        """Wake who waits for an event, or for the end."""
        self._condition.notify_all()

    # Leaving.

    def cancel(self) -> None:
        """Cancel all its requests, within a step; each tells so in its last event."""
        with self._driver.lock:
            dropped = tuple(self._waiting)
            self._cancel()
        for row in dropped:
            number = row.translator.row
            self._end(row, row.translator.translate(Cancelled(number, 0)))

    def leave(self) -> None:
        """Cancel all its requests, within a step; they tell nothing more."""
        if self._driver.is_forked:
            return
        with self._driver.lock:
            self._left = True
            self._cancel()
            self._driver.exit(self, self._hook)
            self.notify()

    def close(self) -> None:
        """Cancel what is not complete; its KV slots are free when this returns, a step later."""
        self.leave()
        if not self._in_callback and not self._driver.is_forked:
            self._driver.wait(self._has_left, self._condition)

    @property
    def _in_callback(self) -> bool:
        return self._driver.steps_here() or self._worker.runs_here()

    def check_may_wait(self) -> None:
        """Raises RuntimeError in a callback of the engine: it would wait for itself."""
        if self._in_callback:
            raise RuntimeError("a callback of the engine cannot wait for it; use another thread")

    def _has_left(self) -> bool:
        return not self._handles or self._driver.failure is not None

    def fail(self, error: BaseException) -> None:
        """End with an error, which the caller is told of; its requests leave."""
        with self._driver.lock:
            if self.error is None and not self._left:
                self.error = error
            self.leave()

    def _cancel(self) -> None:
        self._cancelled = True
        self._waiting.clear()
        for handle in self._handles.values():
            if handle is not None:
                self._engine.cancel(handle)
        self._driver.changed()

    # Joining.

    def _join(self) -> None:
        """The next request that waits joins the engine, which may tell of it before `add` returns.

        Not under the lock: a long prompt takes a while to lay out.
        """
        with self._driver.lock:
            if not self._waiting:
                return
            row = self._waiting.popleft()
            number = row.translator.row
            self._handles[number] = None
        try:
            handle = self._engine.add(row.request, partial(self._push, row), row.sampling)
        except BaseException:
            del self._handles[number]
            raise
        with self._driver.lock:
            if number not in self._handles:  # it is complete by now
                return
            self._handles[number] = handle
            if self._cancelled:
                self._engine.cancel(handle)
            elif self._paused:
                self._engine.pause(handle)

    # Backpressure.

    def balance(self) -> None:
        """Pause the requests while too many events wait, and let them go on thereafter."""
        with self._driver.lock:
            limit = _AHEAD + _AHEAD_OF_ROW * len(self._handles)
            waiting = self.num_untaken + self._num_backlog
            if not self._paused and waiting >= limit:
                self.set_paused(True)
            elif self._paused and waiting <= limit // 2:
                self.set_paused(False)

    def set_paused(self, paused: bool) -> None:
        """Leave its requests out of the engine's passes, or not any longer."""
        with self._driver.lock:
            self._paused = paused
            for handle in self._handles.values():
                if handle is not None:
                    (self._engine.pause if paused else self._engine.resume)(handle)
            self._driver.changed()

    # Steps of a request become events.

    def _push(self, row: Row, step: EngineStep) -> None:
        """A step, in the thread that steps the engine."""
        if not isinstance(step, Step):
            self._leave_engine(row)
        with self._driver.lock:
            if self._left:
                return
            if row.decoding:
                row.backlog.append(step)
                self._num_backlog += 1
                self.balance()
                return
            row.decoding = row.translator.decodes(step)
        if row.decoding:
            self._worker.put(partial(self._decode, row, step))
        else:
            self._translate(row, step)

    def _leave_engine(self, row: Row) -> None:
        """A request has left, and another may join."""
        with self._driver.lock:
            self._handles.pop(row.translator.row, None)
            self.notify()
        try:
            self._join()
        except Exception as error:
            self.fail(error)

    def _decode(self, row: Row, step: EngineStep) -> None:
        """Translate a step that decodes media, and those that waited for it; in the worker."""
        while True:
            self._translate(row, step)
            with self._driver.lock:
                if self._left or not row.backlog:
                    row.decoding = False
                    return
                step = row.backlog.popleft()
                self._num_backlog -= 1
                self.balance()
                again = row.translator.decodes(step)
            if again:  # after the media of others, which came before these
                self._worker.put(partial(self._decode, row, step))
                return

    def _translate(self, row: Row, step: EngineStep) -> None:
        if self._left:
            return
        try:
            events = list(row.translator.translate(step))
        except Exception as error:  # of a codec: it ends this call, and is raised to its caller
            self.fail(error)
            return
        if isinstance(step, Step):
            if events:
                self.deliver(events)
        else:
            self._end(row, events)

    def _end(self, row: Row, events: Iterable[Event]) -> None:
        self.deliver(events)
        with self._driver.lock:
            self._open -= 1
            if not self._open:
                self._driver.exit(self, self._hook)
            self.notify()

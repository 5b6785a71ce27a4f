"""A document in the engine whose events are told to a function: for servers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from unified.engine.call import Call
from unified.engine.driver import Driver
from unified.engine.engine import Engine
from unified.engine.events import Done, Dropped, Event
from unified.engine.media_worker import MediaWorker
from unified_data.document import Document

__all__ = ["Submission"]

_log = logging.getLogger(__name__)


class Submission(Call):
    """One document in the engine.

    Its events are told to a function while a thread of the engine's samples: in that thread, or in
    the one that decodes media, one event after the other. The function must be quick, since the
    sampling of all waits for it; `pause` is for whoever cannot take more. Where it raises, the
    request is dropped alone: the error is logged, and raised by `result`.
    """

    def __init__(
        self,
        engine: Engine,
        driver: Driver,
        worker: MediaWorker,
        on_event: Callable[[Event], None],
    ) -> None:
        super().__init__(engine, driver, worker)
        self._on_event = on_event
        self._last: Event | None = None

    def deliver(self, events: Iterable[Event]) -> None:
        for event in events:
            if self._left:
                return
            try:
                self._on_event(event)
            except Exception as error:
                _log.exception("on_event raised; its document is dropped")
                self.fail(error)
                return
            self._last = event

    def in_background(self) -> None:
        """Let a thread of the driver's sample."""
        self._driver.step_in_background(lambda: self.in_engine)

    def pause(self) -> None:
        """Leave it out of the passes of the engine; it keeps its KV slots."""
        self.set_paused(True)

    def resume(self) -> None:
        """The inverse of `pause`."""
        self.set_paused(False)

    def balance(self) -> None:
        """Nothing waits to be taken; its pauses are the caller's."""

    @property
    def done(self) -> bool:
        """Whether it has told its last event, or was dropped."""
        return self.finished

    def result(self) -> Document:
        """Wait for the document, sampling meanwhile if no other thread does.

        Raises ValueError, with the reason, where it was dropped or cancelled, and what `on_event`
        raised; RuntimeError in an `on_event`, which it would wait for.
        """
        self.check_may_wait()
        self._driver.wait(lambda: self.finished, self._condition)
        if self.error is not None:
            raise self.error
        if isinstance(self._last, Done):
            return self._last.document
        reason = self._last.reason if isinstance(self._last, Dropped) else "the engine was closed"
        raise ValueError(f"the document was dropped: {reason}")

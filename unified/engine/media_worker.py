"""A thread that decodes media while others sample."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from unified.engine.driver import Driver

__all__ = ["MediaWorker"]

T = TypeVar("T")
_PATIENCE = 2.0  # seconds without a job, after which the thread ends


class MediaWorker:
    """Runs jobs in one thread, in the order they come; the thread is there while there are any.

    One and no more: a codec uses all cores by itself.
    """

    def __init__(self, driver: Driver) -> None:
        """driver: steps the engine in threads that wait for a job."""
        self._driver = driver
        self._jobs: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None

    def put(self, job: Callable[[], None]) -> None:
        """Run `job` after those that came before. It must not raise."""
        with self._changed:
            self._jobs.append(job)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="unified decoding", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def run(self, function: Callable[[], T]) -> T:
        """What `function` returns, or raises; this thread samples meanwhile if no other does."""
        if self.runs_here() or self._driver.steps_here():
            return function()
        condition = self._driver.condition()
        results: list[T] = []
        errors: list[BaseException] = []

        def job() -> None:
            try:
                results.append(function())
            except BaseException as error:  # raised to who waits
                errors.append(error)
            with self._driver.lock:
                condition.notify_all()

        self.put(job)
        self._driver.wait(lambda: bool(results or errors), condition)
        if errors:
            raise errors[0]
        return results[0]

    def runs_here(self) -> bool:
        """Whether this thread is the worker's."""
        return self._thread is threading.current_thread()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._jobs:
                    if not self._changed.wait(_PATIENCE) and not self._jobs:
                        self._thread = None
                        return
                job = self._jobs.popleft()
            job()
            del job  # and what it holds, before waiting for the next one

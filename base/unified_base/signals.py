"""Graceful stop on SIGINT and SIGTERM: a training finishes its step and saves a checkpoint."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

__all__ = ["StopSignals"]


class StopSignals:
    """A context manager: SIGTERM and SIGINT are noted instead of ending the process at once.

    The work in the block looks at `asked` between its steps. A second SIGINT does not wait: it
    raises KeyboardInterrupt. Outside the main thread, which alone may handle signals, nothing is
    changed.

    asked: the number of the last signal, or 0.
    """

    def __init__(self) -> None:
        self.asked = 0
        self._before: dict[int, Any] = {}

    @property
    def exit_code(self) -> int:
        """What a process that was asked to end exits with: 128 and the signal's number."""
        return 128 + (self.asked or signal.SIGTERM)

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = number

"""Signals that wait for the end of a step: of a training, which then saves a checkpoint, or of the
sampling that many share."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

__all__ = ["HeldInterrupt", "StopSignals"]


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


class HeldInterrupt:
    """A context manager: Ctrl-C raises KeyboardInterrupt at the end of the block, not in its midst.

    A second Ctrl-C does not wait. Where the program handles SIGINT itself, and outside the main
    thread, which alone is interrupted, nothing is changed.
    """

    def __init__(self) -> None:
        self._holds = self._asked = False

    def __enter__(self) -> HeldInterrupt:
        if threading.current_thread() is threading.main_thread():
            self._holds = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._holds:
            signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._holds:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._asked and kind is None:
            raise KeyboardInterrupt

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

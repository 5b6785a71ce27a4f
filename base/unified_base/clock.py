"""A timer for work that is repeated every so many minutes."""

from __future__ import annotations

import math
import time

__all__ = ["Timer"]


class Timer:
    """Tells whether a number of minutes has passed since it was created or restarted.

    minutes: 0 for never.
    """

    def __init__(self, minutes: float) -> None:
        self._seconds = minutes * 60 if minutes > 0 else math.inf
        self.restart()

    @property
    def due(self) -> bool:
        """Whether the time has passed."""
        return time.monotonic() - self._since >= self._seconds

    def restart(self) -> None:
        """Begin to count anew."""
        self._since = time.monotonic()

"""What a pass of the decoder takes, by the number of drafts in it, as measured while it runs."""

from __future__ import annotations

from collections import deque
from math import inf
from statistics import median

__all__ = ["PassCosts"]

_KEPT = 9
# Measurements count for so many passes: by then a machine may have other things to do.
_EXPIRE = 2048
_REFRESH = 16
# Before anything else is known, a draft is taken to cost this share of a pass without any.
_FIRST_GUESS = 0.04


class PassCosts:
    """Seconds of passes of about the same number of rows, as a function of their drafts.

    Medians over passes of 0, 1, 2-3, 4-7, 8-15, ... drafts, straight lines between them, and the
    last of the lines beyond.
    """

    def __init__(self) -> None:
        self._measured: dict[int, deque[tuple[int, int, float]]] = {}
        self._passes = 0
        self._refresh_at = 0
        self._known: list[tuple[float, float]] = []
        self._of_another: list[float] = []  # by the drafts before it, as far as it was asked for

    def observe(self, drafts: int, seconds: float) -> None:
        """A pass with so many drafts took so long."""
        size = drafts.bit_length()
        entries = self._measured.setdefault(size, deque(maxlen=_KEPT))
        entries.append((self._passes, drafts, seconds))
        self._passes += 1
        if self._passes >= self._refresh_at or len(entries) <= 3:
            self._refresh()

    @property
    def without_drafts(self) -> float | None:
        """Seconds of a pass without drafts; None before one was measured lately."""
        return self._known[0][1] if self._known and self._known[0][0] == 0 else None

    def of_another(self, drafts: int) -> float:
        """Seconds that one draft costs on top of `drafts`.

        Infinite where that is far more than was ever measured: the number grows step by step.
        """
        costs = self._of_another
        if drafts < len(costs):
            return costs[drafts]
        largest = self._known[-1][0] if self._known else 0.0
        if drafts >= 2 * largest + 2:
            return inf
        while len(costs) <= drafts:
            costs.append(self._seconds(len(costs) + 1) - self._seconds(len(costs)))
        return costs[drafts]

    def _seconds(self, drafts: float) -> float:
        known = self._known
        if len(known) < 2:
            first = known[0][1] if known else 0.0
            return first * (1 + _FIRST_GUESS * drafts)
        at = 1
        while at < len(known) - 1 and drafts > known[at][0]:
            at += 1
        (start, low), (stop, high) = known[at - 1], known[at]
        return low + (drafts - start) * (high - low) / (stop - start)

    def _refresh(self) -> None:
        self._refresh_at = self._passes + _REFRESH
        known: list[tuple[float, float]] = []
        for _, entries in sorted(self._measured.items()):
            lately = [entry for entry in entries if entry[0] >= self._passes - _EXPIRE]
            if lately:
                drafts = median(entry[1] for entry in lately)
                # More drafts never cost less: what says so is noise.
                least = known[-1][1] if known else 0.0
                known.append((drafts, max(least, median(entry[2] for entry in lately))))
        self._known, self._of_another = known, []

"""Texts that repeat one phrase again and again: noticed as ids arrive."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

__all__ = ["LEAST_IDS", "LONGEST_PHRASE", "LoopFinder"]

LONGEST_PHRASE = 256
LEAST_IDS = 48


class LoopFinder:
    """Notices when the last ids of a text are copies of one phrase, nothing between them.

    A text loops once its last ids are at least `copies` times the same phrase of 1 to 256 ids, and
    at least 48 ids in all: 48 times one id, 6 times a phrase of 8, 4 times a sentence of 12 or
    more. A list whose lines differ in anything, a number or a name, is no loop.
    """

    def __init__(self, copies: int) -> None:
        """copies: at least 2."""
        self._periods = np.arange(1, LONGEST_PHRASE + 1)
        # How many ids in a row must equal the one a period before them.
        self._enough = np.maximum(copies * self._periods, LEAST_IDS) - self._periods
        self.reset()

    def reset(self) -> None:
        """Begin another text."""
        self._recent = np.full(LONGEST_PHRASE, -1, np.int64)  # the latest first
        self._alike = np.zeros(LONGEST_PHRASE, np.int64)

    def push(self, ids: Iterable[int]) -> bool:
        """Whether the text loops with these ids."""
        loops = False
        for id in ids:
            self._alike += 1
            self._alike *= self._recent == id
            self._recent[1:] = self._recent[:-1].copy()
            self._recent[0] = id
            loops = loops or bool((self._alike >= self._enough).any())
        return loops

"""Random numbers of a request: a function of its seed and of the position of the id, nothing else.

Whoever asks twice for the noise of a position gets the same numbers, in any order. So an id that is
drawn ahead, from a distribution that is not final, and the one that is drawn in its turn share
their noise; where the distributions hardly differ, the ids are the same (Gumbel coupling). And so a
request's ids do not depend on how many of them were guessed ahead.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Noise"]

_KEPT = 32  # positions


class Noise:
    """Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), a generator that
    is addressed by a counter. Its key is the seed, its counter begins with the position.

    Not for several threads at once.
    """

    def __init__(self, seed: int) -> None:
        """seed: 0 to 2^63 - 1."""
        self._bits = np.random.Philox(key=seed)
        self._generator = np.random.Generator(self._bits)
        self._state = self._bits.state
        self._counter = np.zeros(4, np.uint64)
        # The lowest word counts what is drawn at a position: 2^66 numbers.
        self._state["state"]["counter"] = self._counter
        # Of the latest positions: those of drafts are asked for in pass after pass.
        self._drawn: dict[int, NDArray[np.float64]] = {}

    def exponential(self, position: int, number: int) -> NDArray[np.float64]:
        """The first `number` of the numbers of a position, exponential with mean 1."""
        numbers = self._drawn.get(position)
        if numbers is None or len(numbers) != number:
            numbers = self._draw(position, 0, number)
            numbers.flags.writeable = False
            if len(self._drawn) == _KEPT:
                del self._drawn[next(iter(self._drawn))]
            self._drawn[position] = numbers
        return numbers

    def fill(self, position: int, out: NDArray[np.float64]) -> None:
        """Write the first numbers of a position into `out`, those of `exponential`."""
        self._counter[1], self._counter[2] = position, 0
        self._bits.state = self._state
        self._generator.standard_exponential(out=out)

    def again(self, position: int, number: int) -> NDArray[np.float64]:
        """Other numbers of the same position, for a choice that is made a second time."""
        return self._draw(position, 1, number)

    def _draw(self, position: int, time: int, number: int) -> NDArray[np.float64]:
        self._counter[1], self._counter[2] = position, time
        self._bits.state = self._state
        return self._generator.standard_exponential(number)

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

    def exponential(self, position: int, number: int) -> NDArray[np.float64]:
        """The first `number` of the numbers of a position, exponential with mean 1."""
        self._counter[1] = position
        self._bits.state = self._state
        return self._generator.standard_exponential(number)

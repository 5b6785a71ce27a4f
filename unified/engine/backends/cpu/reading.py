"""Ids of a prompt that the compiled decoder reads a few layers at a time."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["CompiledReading"]


class CompiledReading:
    """See `LayeredReading`."""

    def __init__(
        self, num_layers: int, run: Callable[[int, int], None], finish: Callable[[], None]
    ) -> None:
        """
        Args:
            num_layers: of the decoder.
            run: runs layers [first, stop), over what those before them have left of the ids.
            finish: called after the last.
        """
        self.layers_left = num_layers
        self._num_layers, self._run, self._finish = num_layers, run, finish

    def advance(self, layers: int) -> None:
        """See `LayeredReading.advance`."""
        first = self._num_layers - self.layers_left
        stop = min(first + layers, self._num_layers)
        self._run(first, stop)
        self.layers_left = self._num_layers - stop
        if not self.layers_left:
            self._finish()

"""Ids of a prompt that the compiled decoder reads a few layers at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unified.engine.backends.base import Array
from unified.engine.backends.cpu.cache import SlotCache

if TYPE_CHECKING:
    from unified.engine.backends.cpu.decoder import LlamaCpuDecoder

__all__ = ["CompiledReading"]


class CompiledReading:
    """See `Reading`. What the layers leave of the ids is kept between calls, (T, D) float32."""

    def __init__(
        self, decoder: LlamaCpuDecoder, cache: SlotCache, slot: int, embeddings_TD: Array
    ) -> None:
        self.layers_left = decoder.config.num_layers
        self._decoder, self._cache, self._slot = decoder, cache, slot
        self._x_TD = embeddings_TD

    def advance(self, layers: int) -> None:
        """See `Reading.advance`."""
        count, first = len(self._x_TD), self._decoder.config.num_layers - self.layers_left
        layers = min(layers, self.layers_left)
        self._decoder.run_layers(
            self._decoder.layer_table, self._cache, [self._slot], [count], self._x_TD, first,
            first + layers,
        )  # fmt: skip
        self.layers_left -= layers
        if not self.layers_left:
            self._cache.lengths[self._slot] += count
            self._decoder.mean_square(self._cache, [self._slot], self._x_TD)

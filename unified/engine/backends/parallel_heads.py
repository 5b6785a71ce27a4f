"""Parallel heads: every id of a position comes of the decoder's own head and one hidden state.

MusicGen (arXiv:2306.05284) and Dia predict the codes of a position so: each level sees all
positions before it, and none of the ids beside it; delays make up for that.
"""

from __future__ import annotations

from collections.abc import Sequence

from unified.engine.backends.base import Array, Decoder, HiddenStates, Ranges

__all__ = ["ParallelHeads"]


class ParallelHeads:
    """`PositionCodes` that see nothing but the hidden states (N, D) before their positions."""

    def __init__(self, decoder: Decoder, hidden_states: HiddenStates) -> None:
        self.decoder, self.hidden_states = decoder, hidden_states

    def append(self, rows: Sequence[int], ids: Sequence[int]) -> None:
        """See `PositionCodes.append`; no id depends on those beside it."""

    def logits(self, rows: Sequence[int], ranges: Ranges) -> Array:
        """See `PositionCodes.logits`."""
        every = len(rows) == len(self.hidden_states) and list(rows) == list(range(len(rows)))
        states = self.hidden_states if every else self.hidden_states[list(rows)]
        return self.decoder.logits(states, ranges)

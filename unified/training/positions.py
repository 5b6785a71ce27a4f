"""What training asks of a decoder: to read positions, and the rows with which it writes their ids.

Causal LMs are in `unified.training.plain_positions`, published models with tables and heads of
their own in `unified.training.published_positions`.

Legend: B sequences, L positions, M positions of several ids, k ids of depth 1 and more of one, E
width of the hidden states, D that of a depth decoder.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from unified.training.loss import Head
from unified.training.several_ids import DeeperBatch
from unified.vocabulary.block import Ranges

__all__ = ["Depth", "Positions"]


class Depth(Protocol):
    """What predicts the ids of depth 1 and more from hidden states and the ids before.

    num_ids: the most ids of a position. any_id: one that it reads.
    """

    num_ids: int
    any_id: int

    def check(self, ranges: Ranges) -> None:
        """Raises ValueError for ids that it has no rows of."""

    def states(self, hidden_ME: Tensor, ids: Tensor) -> Tensor:
        """Hidden states (M, k, D) that predict the ids of depth 1 to k.

        hidden_ME: behind the position before. ids: int64 (M, k), those of depth 0 to k - 1.
        """

    def head(self) -> Head:
        """The rows that turn them into logits, by ids."""


class Positions(Protocol):
    """How one decoder reads and writes positions.

    writes: the ids that have rows in its heads; None: all. Others are read, and have no loss.
    """

    writes: Ranges | None

    @property
    def inner(self) -> nn.Module:
        """What turns inputs into hidden states."""

    def inputs(self, input_ids: Tensor, deeper: DeeperBatch | None) -> dict[str, Tensor]:
        """Positions as arguments of `inner`. input_ids: int64 (B, L), of depth 0."""

    def trial_ids(self, number: int) -> Tensor:
        """Ids int64 (number,) of depth 0 that it reads, to try it with; not all alike."""

    def head(self) -> Head:
        """The rows that write ids, but for those of `depth`."""

    @property
    def depth(self) -> Depth | None:
        """What writes ids of depth 1 and more; None: `head`."""

"""How a decoder reads positions in training, and with which rows it writes their ids.

A plain causal LM reads the sum of the embeddings of a position's ids, and writes with its head and
perhaps a depth decoder. Published models have tables and heads of their own
(`unified.training.published_positions`).

Legend: B sequences, L positions, M positions of several ids, k ids of depth 1 and more of one, E
width of the hidden states, D that of a depth decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from unified.engine.backends.depth_module import DepthDecoder, depth_decoder_of
from unified.models.code_head import embed_ids, inner_model
from unified.training.loss import Head, HeadPart
from unified.training.new_rows import head_of
from unified.training.several_ids import DeeperBatch
from unified.vocabulary.block import Ranges

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Depth", "PlainPositions", "Positions", "positions_of"]


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


class PlainPositions:
    """Those of a causal LM of transformers, with the depth decoder that it may have."""

    writes: Ranges | None = None

    def __init__(self, decoder: PreTrainedModel) -> None:
        self._decoder = decoder

    @property
    def inner(self) -> nn.Module:
        inner: nn.Module = inner_model(self._decoder)
        return inner

    def inputs(self, input_ids: Tensor, deeper: DeeperBatch | None) -> dict[str, Tensor]:
        """The sums of embeddings where some positions hold several ids."""
        if deeper is None:
            return embed_ids(self._decoder, input_ids)
        # Embedded at once: each call has a gradient of the size of the whole table.
        parts = [input_ids.flatten(), *(several.ids.flatten() for several in deeper.several)]
        table = self._decoder.get_input_embeddings()
        embedded = table(torch.cat(parts)).split([len(part) for part in parts])
        summed_TE = embedded[0]
        for several, rows in zip(deeper.several, embedded[1:]):
            added_ME = rows.unflatten(0, several.ids.shape).sum(1)
            summed_TE = summed_TE.index_add(0, several.at, added_ME)
        return {"inputs_embeds": summed_TE.view(*input_ids.shape, -1)}

    def trial_ids(self, number: int) -> Tensor:
        return torch.arange(3, 3 + number) % self.head().parts[-1].stop

    def head(self) -> Head:
        return head_of(self._decoder)

    @property
    def depth(self) -> Depth | None:
        depth = depth_decoder_of(self._decoder)
        return None if depth is None else _OwnDepth(depth)


class _OwnDepth:
    """A `DepthDecoder`."""

    def __init__(self, module: DepthDecoder) -> None:
        self._module = module
        self.num_ids, self.any_id = module.config.num_ids, module.config.ranges[0][0]

    def check(self, ranges: Ranges) -> None:
        self._module.config.to_rows(ranges)

    def states(self, hidden_ME: Tensor, ids: Tensor) -> Tensor:
        states: Tensor = self._module(hidden_ME, ids)[:, 1:]
        return states

    def head(self) -> Head:
        parts, row = [], 0
        for start, stop in self._module.config.ranges:
            parts.append(HeadPart(start, self._module.lm_head.weight[row : row + stop - start]))
            row += stop - start
        return Head(tuple(parts))


def positions_of(decoder: PreTrainedModel) -> Positions:
    """How a decoder reads and writes positions."""
    from unified.training.published_positions import PUBLISHED

    of_kind = PUBLISHED.get(str(decoder.config.model_type))
    return PlainPositions(decoder) if of_kind is None else of_kind(decoder)

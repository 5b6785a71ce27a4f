"""How a causal LM reads positions in training.

It reads the sum of the embeddings of a position's ids, and writes with its head and perhaps a depth
decoder.

Legend: T positions of all sequences, M of several ids, k ids of depth 1 and more of one, E width of
the hidden states, D that of a depth decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unified.engine.backends.depth_module import DepthDecoder, depth_decoder_of
from unified.models.code_head import embed_ids, inner_model
from unified.training.loss import Head, HeadPart
from unified.training.new_rows import head_of
from unified.training.positions import Depth
from unified.training.several_ids import DeeperBatch
from unified.vocabulary.block import Ranges

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["PlainPositions"]


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

"""Positions of several ids in a decoder: the sum of their embeddings, and the depth decoder's loss.

Legend: B sequences, L positions, T = B L, D width, N positions of k + 1 ids, M of them with loss, E
width of the depth decoder, Q ids of depth 1 and more with loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unified.engine.backends.depth_module import DepthDecoder
from unified.models.code_head import embed_ids
from unified.training.loss import Head, HeadPart, allowed_loss
from unified.training.several_ids import DeeperBatch, SeveralIds

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["depth_loss", "embed_positions"]


def embed_positions(
    decoder: PreTrainedModel, input_ids: Tensor, deeper: DeeperBatch | None
) -> dict[str, Tensor]:
    """Positions as the arguments of a decoder's forward: the sums of their ids' embeddings where
    some hold several.

    input_ids: int64 (B, L), of depth 0.
    """
    if deeper is None:
        return embed_ids(decoder, input_ids)
    # Embedded at once: each call has a gradient of the size of the whole table.
    parts = [input_ids.flatten(), *(several.ids.flatten() for several in deeper.several)]
    embedded = decoder.get_input_embeddings()(torch.cat(parts)).split([len(p) for p in parts])
    summed_TD = embedded[0]
    for several, rows in zip(deeper.several, embedded[1:]):
        added_ND = rows.unflatten(0, several.ids.shape).sum(1)
        summed_TD = summed_TD.index_add(0, several.at, added_ND)
    return {"inputs_embeds": summed_TD.view(*input_ids.shape, -1)}


def depth_loss(
    depth: DepthDecoder,
    hidden_TD: Tensor,
    input_ids: Tensor,
    deeper: DeeperBatch | None,
    labels: Tensor,
    weights: Tensor,
    z_loss: float,
) -> tuple[Tensor, Tensor]:
    """As `allowed_loss`, of the ids of depth 1 and more: (weighted sum, losses float32 (Q,)).

    Args:
        depth: the depth decoder.
        hidden_TD: hidden states of the decoder.
        input_ids: int64 (B, L), of depth 0, as the decoder reads them.
        deeper: None where every position holds one id; every weight is then reached all the same,
            as FSDP2 needs it.
        labels: int64 (Q,). weights: float32 (Q,).

    Raises:
        ValueError: an id is allowed for which the depth decoder has no row.
    """
    groups = () if deeper is None else deeper.groups
    for ranges, _ in groups:
        depth.config.to_rows(ranges)
    several = () if deeper is None else deeper.several
    states_QE = _states(depth, hidden_TD, input_ids.flatten(), several)
    if deeper is not None:
        states_QE = states_QE[deeper.state]
    return allowed_loss(states_QE, _head(depth), labels, weights, groups, z_loss)


def _states(
    depth: DepthDecoder, hidden_TD: Tensor, input_ids: Tensor, several: Sequence[SeveralIds]
) -> Tensor:
    """Hidden states of the depth decoder, k of each position that is learnt, one after another."""
    states = []
    for positions in several:
        if not len(positions.learnt):
            continue
        at = positions.at[positions.learnt]  # (M,)
        ids_Mk = torch.cat([input_ids[at, None], positions.ids[positions.learnt, :-1]], dim=1)
        # The hidden state behind the position before; none that is learnt is the first.
        states.append(depth(hidden_TD[at - 1], ids_Mk)[:, 1:].flatten(0, 1))
    if not states:
        none = input_ids.new_zeros(0, depth.config.num_ids - 1)
        states.append(depth(hidden_TD[:0], none)[:, 1:].flatten(0, 1))
    return torch.cat(states)


def _head(depth: DepthDecoder) -> Head:
    """Its head's rows by the ids that they are of."""
    parts, row = [], 0
    for start, stop in depth.config.ranges:
        parts.append(HeadPart(start, depth.lm_head.weight[row : row + stop - start]))
        row += stop - start
    return Head(tuple(parts))

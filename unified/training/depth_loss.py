"""The loss of ids of depth 1 and more, by a depth decoder.

Legend: B sequences, L positions, T = B L, E width, N positions of k + 1 ids, M of them with loss, D
width of the depth decoder, Q ids of depth 1 and more with loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unified.training.loss import allowed_loss
from unified.training.positions import Depth
from unified.training.several_ids import DeeperBatch, SeveralIds

__all__ = ["depth_loss"]


def depth_loss(
    depth: Depth,
    hidden_TE: Tensor,
    input_ids: Tensor,
    deeper: DeeperBatch | None,
    labels: Tensor,
    weights: Tensor,
    z_loss: float,
) -> tuple[Tensor, Tensor]:
    """As `allowed_loss`, of the ids of depth 1 and more: (weighted sum, losses float32 (Q,)).

    Args:
        depth: the depth decoder.
        hidden_TE: hidden states of the decoder.
        input_ids: int64 (B, L), of depth 0, as the decoder reads them.
        deeper: None where every position holds one id; every weight is then reached all the same,
            as FSDP2 needs it.
        labels: int64 (Q,). weights: float32 (Q,).

    Raises:
        ValueError: an id is allowed for which the depth decoder has no row.
    """
    groups = () if deeper is None else deeper.groups
    for ranges, _ in groups:
        depth.check(ranges)
    several = () if deeper is None else deeper.several
    states_QD = _states(depth, hidden_TE, input_ids.flatten(), several)
    states_QD = states_QD[:0] if deeper is None else states_QD[deeper.state]
    return allowed_loss(states_QD, depth.head(), labels, weights, groups, z_loss)


def _states(
    depth: Depth, hidden_TE: Tensor, input_ids: Tensor, several: Sequence[SeveralIds]
) -> Tensor:
    """Hidden states of the depth decoder, k of each position that is learnt, one after another."""
    states = []
    for positions in several:
        if not len(positions.learnt):
            continue
        at = positions.at[positions.learnt]  # (M,)
        ids_Mk = torch.cat([input_ids[at, None], positions.ids[positions.learnt, :-1]], dim=1)
        # The hidden state behind the position before; none that is learnt is the first.
        states.append(depth.states(hidden_TE[at - 1], ids_Mk).flatten(0, 1))
    if not states:  # of a position that nothing is taken of, since FSDP2 waits for every layer
        ids = input_ids.new_full((1, depth.num_ids - 1), depth.any_id)
        states.append(depth.states(hidden_TE[:1], ids).flatten(0, 1))
    return torch.cat(states)

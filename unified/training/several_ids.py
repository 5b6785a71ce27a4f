"""Positions that hold several ids: what a forward pass reads and learns there.

Legend: T positions of all sequences of a micro-batch, E ids of depth 1 and more, Q of them with
loss, N positions of k + 1 ids, M of them with loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from unified.dataloading import PackedSequence
from unified.dataloading.deeper_ids import DeeperIds, joined
from unified.dataloading.order import draw
from unified.vocabulary.block import Ranges

__all__ = ["DeeperBatch", "DepthSubset", "SeveralIds", "deeper_ids", "several_of"]


@dataclass(frozen=True)
class DepthSubset:
    """Learn the ids of depth 1 and more at some positions alone, as CSM was trained on one in 16.

    Which they are follows from the seed and the number of each sequence: the same however many
    processes there are, and after a run is resumed. Their weights grow by what is left out, so that
    the loss is that of all positions on average.

    fraction: of the positions of a sequence, above 0 and at most 1. seed: of the run.
    """

    fraction: float
    seed: int

    @classmethod
    def of(cls, fraction: float, seed: int) -> DepthSubset | None:
        """None for all positions."""
        return cls(fraction, seed) if fraction < 1 else None

    def take(self, sequence: PackedSequence, deeper: DeeperIds) -> DeeperIds:
        """The ids of a sequence, with the weights of those that are learnt."""
        with_loss = np.unique(deeper.position[deeper.loss_weights != 0])
        number = math.ceil(self.fraction * len(with_loss))
        if number == len(with_loss):
            return deeper
        bits = draw("depth", self.seed, sequence.stream, sequence.number) >> 128
        rng = np.random.Generator(np.random.Philox(key=bits))
        chosen = rng.choice(with_loss, number, replace=False)
        factor = np.float32(len(with_loss) / number)
        weights = np.where(np.isin(deeper.position, chosen), deeper.loss_weights * factor, 0.0)
        return replace(deeper, loss_weights=weights.astype(np.float32))


@dataclass(frozen=True, eq=False)
class SeveralIds:
    """The positions that hold k ids beside their first.

    Attributes:
        at: int64 (N,), which they are.
        ids: int64 (N, k), their ids of depth 1 and more, as the decoder reads them.
        learnt: int64 (M,), indices into `at` of those with loss at one of these ids.
    """

    at: Tensor
    ids: Tensor
    learnt: Tensor

    def to(self, device: torch.device) -> SeveralIds:
        """The same on a device."""
        tensors = (self.at, self.ids, self.learnt)
        return SeveralIds(*(tensor.to(device, non_blocking=True) for tensor in tensors))


@dataclass(frozen=True, eq=False)
class DeeperBatch:
    """The ids of depth 1 and more of a micro-batch.

    Attributes:
        several: the positions that hold them, by their number of ids.
        groups: allowed ranges of the ids with loss, and how many in a row have them.
        state: int64 (Q,), which hidden state of a depth decoder predicts each of the ids with loss:
            it has k of each position that is learnt, of those of the first of `several` first.
    """

    several: tuple[SeveralIds, ...]
    groups: tuple[tuple[Ranges, int], ...]
    state: Tensor

    def to(self, device: torch.device) -> DeeperBatch:
        """The same on a device."""
        moved = tuple(several.to(device) for several in self.several)
        return DeeperBatch(moved, self.groups, self.state.to(device, non_blocking=True))


def deeper_ids(
    sequences: Sequence[PackedSequence], subset: DepthSubset | None
) -> tuple[DeeperIds | None, np.ndarray]:
    """(ids of depth 1 and more of some sequences, their positions counted over all of them, int64
    (E,) the index of the sequence that each is of). None where there are none."""
    parts, owners = [], []
    seq_len = len(sequences[0].labels)
    for index, sequence in enumerate(sequences):
        deeper = sequence.deeper
        if deeper is None:
            continue
        if subset is not None:
            deeper = subset.take(sequence, deeper)
        parts.append((index * seq_len, deeper))
        owners.append(np.full(len(deeper), index))
    return joined(parts), np.concatenate([np.zeros(0, np.int64), *owners])


def several_of(deeper: DeeperIds) -> tuple[tuple[SeveralIds, ...], np.ndarray]:
    """(positions by their number of ids; int64 (E,) the state that predicts each id, as in
    `DeeperBatch`, -1 at positions that are not learnt)."""
    at, first, counts = np.unique(deeper.position, return_index=True, return_counts=True)
    state = np.full(len(deeper), -1)
    several, num_states = [], 0
    for k in np.unique(counts).tolist():
        same = counts == k
        ids_NK = first[same][:, None] + np.arange(k)  # indices into `deeper`
        (learnt,) = np.nonzero((deeper.loss_weights[ids_NK] != 0).any(1))
        state[ids_NK[learnt]] = num_states + np.arange(len(learnt) * k).reshape(-1, k)
        num_states += len(learnt) * k
        arrays = (at[same], deeper.input_ids[ids_NK], learnt)
        several.append(SeveralIds(*(torch.from_numpy(array.astype(np.int64)) for array in arrays)))
    return tuple(several), state

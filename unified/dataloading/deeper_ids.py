"""The ids that share a position with one before them: what stands beside a sequence's positions.

A position of the decoder holds one id, or the ids of levels that are together. The first of a
position has depth 0 and lies in arrays over positions; those of depth 1 and more lie here.

L positions, E ids of depth 1 and more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

__all__ = ["DeeperIds", "joined"]


@dataclass(frozen=True, eq=False, slots=True)
class DeeperIds:
    """Ids of depth 1 and more, in reading order; all arrays (E,).

    position: int32, the position that each stands in. depth: uint8, its index there, from 1.
    input_ids, labels, loss_weights, allowed, modality: as `PackedSequence` has them of depth 0.
    """

    position: np.ndarray
    depth: np.ndarray
    input_ids: np.ndarray
    labels: np.ndarray
    loss_weights: np.ndarray
    allowed: np.ndarray
    modality: np.ndarray

    def __len__(self) -> int:
        return len(self.position)

    def between(self, start: int, stop: int) -> DeeperIds:
        """Those of positions start to stop - 1, whose positions count from `start`."""
        first, last = np.searchsorted(self.position, (start, stop))
        arrays = (getattr(self, field.name)[first:last] for field in fields(self))
        cut = DeeperIds(*arrays)
        return replace(cut, position=cut.position - np.int32(start))


def joined(parts: Sequence[tuple[int, DeeperIds]]) -> DeeperIds | None:
    """Parts one after another, each with the position that its positions count from; None of
    none."""
    if not parts:
        return None
    moved = [replace(ids, position=ids.position + np.int32(start)) for start, ids in parts]
    names = [field.name for field in fields(DeeperIds)]
    return DeeperIds(*(np.concatenate([getattr(ids, name) for ids in moved]) for name in names))

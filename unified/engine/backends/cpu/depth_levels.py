"""What one call of the compiled depth decoder goes through for all levels to come of positions.

Shape legend: `N` positions, `K` ids of each that are known, `J` levels to come, `S` steps of the
depth decoder; see `depth`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unified.engine.backends.base import Ranges
from unified.engine.backends.depth_config import DepthConfig
from unified.engine.backends.level_choices import noise_ends

__all__ = ["LevelPlan", "part_table", "range_table"]


class LevelPlan:
    """What depends on nothing but the numbers of positions and ids, and on the ids allowed.

    Attributes:
        steps, sequences (without addresses), last, head_parts, head_ranges, id_ranges, range_ends,
            noise_ends: see `level_kernels.write_levels`.
        inputs: of all steps of a position. width: those of the widest step.
        outputs: logits of each level.
    """

    def __init__(
        self,
        config: DepthConfig,
        slot_ids: int,
        N: int,
        K: int,
        ranges: tuple[Ranges, ...],
        first_rows: Callable[[Ranges], Ranges],
    ) -> None:
        """
        Args:
            config: of the depth decoder.
            slot_ids: positions that a KV slot has room for.
            ranges: of each level the ids allowed.
            first_rows: of the decoder's own head, for the first ids of positions.

        Raises ValueError where a head has no rows for some ids.
        """
        J = len(ranges)
        assert config.num_ids >= K + J
        heads = [config.to_rows(own) if K + j else first_rows(own) for j, own in enumerate(ranges)]
        self.outputs = [sum(stop - start for start, stop in own) for own in heads]
        if not K:
            K, J = 1, J - 1  # the first comes without the depth decoder
        # What is known is read at once, unless every depth has weights of its own.
        counts = [1] * (K + J) if config.per_level else [K + 1] + [1] * (J - 1)
        pasts = np.cumsum([0, *counts[:-1]])
        S = len(counts)
        self.inputs, self.width = sum(counts), max(counts)
        self.steps = np.empty((S, 3), np.int64)
        self.steps[:, 0] = counts
        self.steps[:, 1] = np.arange(S) if config.per_level else 0
        # The level behind each step, counted from the first that is chosen.
        self.steps[:, 2] = np.where(np.arange(S) < S - J, -1, np.arange(S) - S + len(ranges))
        at = np.arange(N)
        self.sequences = np.empty((S, N, 5), np.int64)
        self.last = np.empty((S, N), np.int64)
        for s, (count, past) in enumerate(zip(counts, pasts)):
            self.sequences[s, :, 0], self.sequences[s, :, 1] = at * count, count
            self.sequences[s, :, 2], self.sequences[s, :, 4] = past, slot_ids
            self.last[s] = at * count + count - 1
        parts = [part_table(N, own, size) for own, size in zip(heads, self.outputs)]
        self.head_parts = np.concatenate(parts)
        self.head_ranges = np.concatenate([range_table(own) for own in heads])
        self.id_ranges = np.concatenate([range_table(own) for own in ranges])
        self.range_ends = np.cumsum([0, *map(len, heads)])
        self.noise_ends = np.array(noise_ends(ranges), np.int64)


def part_table(rows: int, ranges: Ranges, outputs: int) -> np.ndarray:
    """The parts of `lm_head`: all rows over all ranges, or none."""
    parts = [(0, rows, 0, len(ranges), outputs, 0)] if ranges else []
    return np.array(parts, np.int64).reshape(-1, 6)


def range_table(ranges: Ranges) -> np.ndarray:
    """Ranges as int64 (ranges, 2)."""
    return np.array(ranges, np.int64).reshape(-1, 2)

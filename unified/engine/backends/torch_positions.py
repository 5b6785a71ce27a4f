"""Positions of several ids on the backends of torch: their inputs, and what a depth decoder says.

Shape legend: `N` positions that are being filled, `E` width of the hidden states before them, `D`
of the depth decoder, `K` ids of a position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unified.engine.backends.base import Array, ContinuousPosition, OwnPosition, Position, Ranges
from unified.engine.backends.depth_module import DepthDecoder

__all__ = [
    "NO_ID", "DepthRows", "TorchPositions", "Vectors", "position_array", "summed_embeddings",
    "without_vectors",
]  # fmt: skip

NO_ID = -1
"""Stands behind the last id of a position that holds fewer than others."""


class Vectors(NamedTuple):
    """What stands at continuous positions. at: int64 (M,), counted over all rows of a pass. values:
    float32 (M, D)."""

    at: NDArray[np.int64]
    values: Array

    def put_into(self, embedded: Tensor) -> Tensor:
        """Embeddings (B, T, D) with these in their places."""
        flat = embedded.flatten(0, 1).clone()
        at = torch.from_numpy(self.at).to(flat.device)
        flat[at] = torch.from_numpy(self.values).to(flat.device, flat.dtype)
        return flat.view_as(embedded)


def without_vectors(
    rows: Sequence[Sequence[OwnPosition]],
) -> tuple[Sequence[Sequence[OwnPosition]], Vectors | None]:
    """Rows of one length with id 0 at their continuous positions, and what stands there; None where
    there are none."""
    if not any(isinstance(p, ContinuousPosition) for row in rows for p in row):
        return rows, None
    flat = [position for row in rows for position in row]
    at = [number for number, p in enumerate(flat) if isinstance(p, ContinuousPosition)]
    values = np.stack([p.vector for p in flat if isinstance(p, ContinuousPosition)])
    plain = [[0 if isinstance(p, ContinuousPosition) else p for p in row] for row in rows]
    return plain, Vectors(np.array(at, np.int64), values)


def position_array(rows: Sequence[Sequence[Position]], num_ids: int = 0) -> NDArray[np.int64]:
    """Positions of rows of one length: (B, T) where each holds one id, else (B, T, K) with `NO_ID`.

    num_ids: the least K of those that hold several.
    """
    longest = max((len(p) for row in rows for p in row if isinstance(p, tuple)), default=1)
    if longest == 1:
        return np.array(rows, np.int64)
    array = np.full((len(rows), len(rows[0]), max(longest, num_ids)), NO_ID, np.int64)
    for row, positions in enumerate(rows):
        for column, position in enumerate(positions):
            if isinstance(position, tuple):
                array[row, column, : len(position)] = position
            else:
                assert isinstance(position, int | np.integer)  # others are taken out before
                array[row, column, 0] = position
    return array


def summed_embeddings(table: nn.Module, ids: Tensor) -> Tensor:
    """Embeddings (B, T, W) of positions, each the sum of those of its ids.

    What a model does to an embedding (Gemma's and Granite's factors, a norm) it does to the sum,
    once; a factor inside the table itself is the same before and after.

    ids: int64 (B, T, K), `NO_ID` where a position holds fewer.
    """
    embedded = table(ids.clamp_min(0))  # (B, T, K, W)
    return torch.where(ids[..., None] >= 0, embedded, 0).sum(-2)


class DepthRows:
    """Keys and values of N positions, and the passes of a depth decoder over them."""

    def __init__(self, depth: DepthDecoder, number: int) -> None:
        config, weight = depth.config, depth.projection.weight
        self.depth, self.number = depth, number
        self.keys, self.values = (
            weight.new_zeros(
                config.num_layers, number, config.num_kv_heads, config.num_ids, config.head_dim
            )
            for _ in range(2)
        )

    def begin(self, hidden_states: Tensor) -> None:
        """Read hidden states (n, E), at most N of them, and forget what was read."""
        for cache in (self.keys, self.values):
            cache.zero_()  # a number that is not finite would outlast its position
        missing = self.number - len(hidden_states)
        hidden_NE = nn.functional.pad(hidden_states.to(self.keys.dtype), (0, 0, 0, missing))
        x = self.depth.projection(hidden_NE)  # (N, D)
        first = torch.zeros(1, dtype=torch.int64, device=x.device)
        self.depth.step(x, first, self.keys, self.values)

    def read(self, packed: Tensor) -> Tensor:
        """Hidden states (N, D) behind an id of each position.

        packed: int64 (N + 1,), rows of the ids, and how many inputs were read before.
        """
        x = self.depth.embed_tokens(packed[:-1])
        return self.depth.step(x, packed[-1:], self.keys, self.values)


class TorchPositions:
    """`PositionCodes` of a depth decoder.

    All N positions are read together, level by level; one that has no id there yet reads any, and
    is read again once it has.

    depth: the depth decoder.
    """

    @torch.inference_mode()
    def __init__(self, rows: DepthRows, hidden_states: Tensor) -> None:
        """hidden_states: (n, E), n at most the number of `rows`."""
        self._rows = rows
        self.depth = rows.depth
        self._device = hidden_states.device
        number = len(hidden_states)
        self._ids: list[list[int]] = [[] for _ in range(number)]  # rows of the depth decoder
        self._read = [0] * number
        self._states: Tensor | None = None  # (n, D), behind the last id that was read
        rows.begin(hidden_states)

    def append(self, rows: Sequence[int], ids: Sequence[int]) -> None:
        """See `PositionCodes.append`. Raises ValueError for an id without a row."""
        row_of_id = self.depth.config.rows
        for row, id in zip(rows, ids):
            own = int(row_of_id[id]) if 0 <= id < len(row_of_id) else -1
            if own < 0:
                raise ValueError(f"the depth decoder has no row for id {id}")
            self._ids[row].append(own)

    @torch.inference_mode()
    def logits(self, rows: Sequence[int], ranges: Ranges) -> Array:
        """See `PositionCodes.logits`."""
        states = self.states()
        every = list(rows) == list(range(len(states)))
        return self.depth.logits(states if every else states[list(rows)], ranges).cpu().numpy()

    def states(self) -> Tensor:
        """Hidden states (n, D) behind the last id of each position."""
        while behind := [row for row, ids in enumerate(self._ids) if self._read[row] < len(ids)]:
            level = min(self._read[row] for row in behind)
            packed = np.zeros(self._rows.number + 1, np.int64)
            for row, ids in enumerate(self._ids):
                if level < len(ids):
                    packed[row] = ids[level]
            packed[-1] = level + 1
            states = self._rows.read(torch.from_numpy(packed).to(self._device))
            states = states[: len(self._ids)]
            if self._states is None:
                self._states = states.clone()
            own = [row for row in behind if self._read[row] == level]
            self._states[own] = states[own]
            for row in own:
                self._read[row] += 1
        assert self._states is not None
        return self._states

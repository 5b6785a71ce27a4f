"""Positions that the compiled depth decoder fills: their inputs, keys and values so far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unified.engine.backends.base import Array, Ranges
from unified.engine.backends.cpu.depth import CompiledDepth

__all__ = ["CompiledPositions"]


class CompiledPositions:
    """`PositionCodes` of a `CompiledDepth`.

    What is appended runs when logits are asked for: all rows at once, each from where it is, and
    in the same call the head, where these logits are theirs.

    Shape legend: see `depth`.
    """

    def __init__(self, depth: CompiledDepth, hidden_states: Array) -> None:
        """hidden_states: (N, E), before the positions."""
        N = len(hidden_states)
        self._depth = depth
        self._first_ND = depth.project(hidden_states)
        self._states_ND = np.empty((N, depth.config.hidden_size), np.float32)
        self._lengths = np.zeros(N, np.int64)  # inputs that are read
        self._new: list[list[int]] = [[] for _ in range(N)]
        self._behind: list[int] = []  # rows with new ids
        # Keys and values of all positions; finite, since what lies behind the last input of a
        # position is multiplied by zero.
        self._memory = depth.memory.get(N * depth.slot_words)
        size = depth.slot_words * self._memory.itemsize
        self._addresses = self._memory.ctypes.data + size * np.arange(N)
        self._finite = True

    def __del__(self) -> None:
        if getattr(self, "_finite", False):
            self._depth.memory.put(self._memory)

    def append(self, rows: Sequence[int], ids: Sequence[int]) -> None:
        """See `PositionCodes.append`."""
        for row, id in zip(rows, ids):
            if not self._new[row]:
                self._behind.append(row)
            self._new[row].append(id)

    def logits(self, rows: Sequence[int], ranges: Ranges) -> Array:
        """See `PositionCodes.logits`."""
        head = self._depth.config.to_rows(ranges)
        rows = list(rows)
        if self._behind:
            behind, self._behind = self._behind, []
            logits = self._read(behind, head if behind == rows else ())
            if logits is not None:
                return logits
        return self._depth.logits(self._states_ND[rows], head)

    def _read(self, rows: list[int], head: Ranges) -> Array | None:
        """Read what is new in some rows; the logits of their next ids, if `head` says of which."""
        if not self._depth.config.per_level:
            counts = np.array([len(self._new[row]) for row in rows]) + (self._lengths[rows] == 0)
            return self._run(rows, counts, head)
        # An input of each of those that are least far, with the weights of its depth.
        while True:
            lengths = self._lengths[rows]
            level = [row for row, short in zip(rows, lengths == lengths.min()) if short]
            all_of_them = len(level) == len(rows)
            logits = self._run(level, np.ones(len(level), np.int64), head if all_of_them else ())
            rows = [row for row in rows if self._new[row]]
            if not rows:
                return logits
            head = head if all_of_them else ()

    def _run(self, rows: list[int], counts: np.ndarray, head: Ranges) -> Array | None:
        """Read the next inputs of some rows, `counts` (n,) of each."""
        depth, past = self._depth, self._lengths[rows]
        ends = np.cumsum(counts)
        sequences = np.empty((len(rows), 5), np.int64)
        sequences[:, 0] = ends - counts
        sequences[:, 1], sequences[:, 2] = counts, past
        sequences[:, 3], sequences[:, 4] = self._addresses[rows], depth.slot_ids
        begins = past == 0
        ids: list[int] = []
        for row, number in zip(rows, (counts - begins).tolist()):
            ids += self._new[row][:number]
            del self._new[row][:number]
        x = np.empty((int(ends[-1]), depth.config.hidden_size), np.float32)
        if begins.any():
            inside = np.ones(len(x), bool)
            inside[sequences[begins, 0]] = False
            x[~inside] = self._first_ND[np.array(rows)[begins]]
            x[inside] = depth.embed(ids)
        else:
            x[:] = depth.embed(ids)
        states, logits = depth.fill(x, sequences, ends - 1, int(past[0]), head)
        self._lengths[rows] = past + counts
        self._states_ND[rows] = states
        self._finite = self._finite and bool(np.isfinite(states).all())
        return logits

"""Positions that the compiled depth decoder fills: their inputs, keys and values so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from unified.engine.backends.base import Array, Ranges

if TYPE_CHECKING:
    from unified.engine.backends.cpu.depth import CompiledDepth

__all__ = ["CompiledPositions"]


class CompiledPositions:
    """`PositionCodes` of a `CompiledDepth`.

    What is appended runs when logits are asked for: all rows at once, each from where it is.
    """

    def __init__(self, depth: CompiledDepth, hidden_states: Array) -> None:
        """hidden_states: (N, E), before the positions."""
        N = len(hidden_states)
        self._depth = depth
        self._first_ND = depth.project(hidden_states)
        self._states_ND = np.empty((N, depth.config.hidden_size), np.float32)
        self._lengths = [0] * N  # inputs that are read
        self._new: list[list[int]] = [[] for _ in range(N)]
        self._behind: list[int] = []  # rows with new ids
        # Keys and values of all positions; finite, since what lies behind the last input of a
        # position is multiplied by zero.
        self._memory = depth.memory.get(N * depth.slot_words)
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
        if self._behind:
            self._read()
        every = len(rows) == len(self._states_ND) and list(rows) == list(range(len(rows)))
        return self._depth.logits(self._states_ND if every else self._states_ND[list(rows)], ranges)

    def _read(self) -> None:
        rows, self._behind = self._behind, []
        if not self._depth.config.per_level:
            self._run(rows, [1 + len(self._new[r]) - bool(self._lengths[r]) for r in rows])
            return
        while rows:  # those that are least far, an input of each
            depth = min(self._lengths[row] for row in rows)
            level = [row for row in rows if self._lengths[row] == depth]
            self._run(level, [1] * len(level))
            rows = [row for row in rows if self._new[row]]

    def _run(self, rows: Sequence[int], counts: Sequence[int]) -> None:
        """Read the next inputs of some rows, `counts` of each."""
        depth, T = self._depth, sum(counts)
        x = np.empty((T, depth.config.hidden_size), np.float32)
        size, address = depth.slot_words, self._memory.ctypes.data
        sequences, at = [], 0
        firsts: list[int] = []  # of x, that are projected hidden states
        begun: list[int] = []  # of which rows
        ids: list[int] = []
        for row, count in zip(rows, counts):
            past = self._lengths[row]
            start = address + row * size * self._memory.itemsize
            sequences.append((at, count, past, start, depth.slot_ids))
            if not past:
                firsts.append(at)
                begun.append(row)
            number = count - (not past)
            ids += self._new[row][:number]
            del self._new[row][:number]
            self._lengths[row] = past + count
            at += count
        if firsts:
            inside = np.ones(T, bool)
            inside[firsts] = False
            x[firsts] = self._first_ND[begun]
            x[inside] = depth.embed(ids)
        else:
            x[:] = depth.embed(ids)
        states = depth.forward(x, np.array(sequences, np.int64), self._lengths[rows[0]] - 1)
        self._states_ND[rows] = states[np.cumsum(counts) - 1]
        self._finite &= bool(np.isfinite(states).all())

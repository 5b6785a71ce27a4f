"""The passes of a depth decoder as CUDA graphs: two for each number of positions.

A level is some dozens of small kernels, and a position has as many levels as ids: launches would
take longer than the numbers do. One graph reads hidden states, one an id of every position.

Never run on a GPU by its authors: where recording fails, levels run without graphs, and that is
told by a warning.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from typing import Any

import torch
from torch import Tensor

from unified.engine.backends.depth_module import DepthDecoder
from unified.engine.backends.torch_positions import DepthRows
from unified.engine.backends.torch_static.decode_graphs import recorded, rows_bucket
from unified_base.foreign import one_line

__all__ = ["DepthGraphs", "RecordedDepth"]


class RecordedDepth(DepthRows):
    """`DepthRows` that are recorded when they are first used."""

    def __init__(self, depth: DepthDecoder, number: int, pool: Any = None) -> None:
        """pool: of memory that graphs share; None: of its own."""
        super().__init__(depth, number)
        weight, device = depth.projection.weight, depth.projection.weight.device
        self._hidden = weight.new_zeros(number, depth.config.input_size)
        self._packed = torch.zeros(number + 1, dtype=torch.int64, device=device)
        self._begin, _ = recorded(self._begin_step, device, pool)
        self.pool = pool or self._begin.pool()
        self._read, self._states = recorded(
            lambda: DepthRows.read(self, self._packed), device, self.pool
        )

    def _begin_step(self) -> Tensor:
        DepthRows.begin(self, self._hidden)
        return self._hidden

    def begin(self, hidden_states: Tensor) -> None:
        """See `DepthRows.begin`; of at most as many as there are rows."""
        self._hidden[: len(hidden_states)] = hidden_states
        self._begin.replay()

    def read(self, packed: Tensor) -> Tensor:
        """See `DepthRows.read`; valid until the next one."""
        self._packed.copy_(packed, non_blocking=True)
        self._read.replay()
        return self._states


class DepthGraphs:
    """The recorded rows of one depth decoder. Each set serves one pass at a time."""

    def __init__(self, depth: DepthDecoder) -> None:
        self.depth = depth
        self._unused: dict[int, list[RecordedDepth]] = {}
        self._lock = threading.Lock()
        self._pool: Any = None  # of memory
        self._enabled = True

    def take(self, number: int) -> DepthRows:
        """Rows for at least so many positions, which are given back by `give_back`."""
        size = rows_bucket(number)
        if size is None or not self._enabled:
            return DepthRows(self.depth, number)
        with self._lock:
            if unused := self._unused.get(size):
                return unused.pop()
        try:
            rows = RecordedDepth(self.depth, size, self._pool)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._enabled = False
            warnings.warn(
                f"the depth decoder runs without CUDA graphs, since recording failed:"
                f" {one_line(error)}",
                stacklevel=2,
            )
            return DepthRows(self.depth, number)
        self._pool = rows.pool
        return rows

    def give_back(self, rows: DepthRows, user: object) -> None:
        """Take rows back once `user`, whoever fills positions with them, is gone."""
        if isinstance(rows, RecordedDepth):
            weakref.finalize(user, self._unused.setdefault(rows.number, []).append, rows)

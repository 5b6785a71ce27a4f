"""Decoding steps as CUDA graphs: one launch in place of a thousand.

A graph is recorded for a number of rows and of pages; a step uses the smallest that holds it, and
fills up with rows that write to a page of nobody. Graphs are recorded when they are first wanted,
some tenths of a second each, and share one pool of memory.

Never run on a GPU by its authors: where recording fails, steps run without graphs, and that is
told by a warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unified_base.foreign import one_line

__all__ = ["DecodeGraphs", "recorded", "rows_bucket", "width_bucket"]

_ROWS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)

Step = Callable[[Tensor, int], Tensor]
"""From `packed_decode` on the device, and its `num_ids`, to hidden states (N, D)."""


def rows_bucket(rows: int) -> int | None:
    """The number of rows that a recorded step for `rows` has; None for more than any has."""
    return next((bucket for bucket in _ROWS if bucket >= rows), None)


def width_bucket(pages: int) -> int:
    """The width of the page table of a recorded step: a power of two."""
    return 1 << max(0, pages - 1).bit_length()


@dataclass(frozen=True, eq=False)
class _Recorded:
    graph: torch.cuda.CUDAGraph
    packed: Tensor
    states: Tensor


class DecodeGraphs:
    """The recorded steps of one cache.

    enabled: False once recording has failed.
    """

    def __init__(self, step: Step, device: torch.device) -> None:
        self._step, self._device = step, device
        self._recorded: dict[tuple[int, ...], _Recorded] = {}
        self._generation = -1
        self._pool: Any = None  # of memory
        self.enabled = True

    def run(self, packed: Tensor, generation: int, num_ids: int = 1) -> Tensor:
        """Hidden states (N, D) of a step; valid until the next one.

        packed: `packed_decode`, of a bucket's size, in pinned memory of the host. generation: of
        the cache's pool; graphs of another are dropped. num_ids: the most ids of a position in it.
        """
        if generation != self._generation:
            self._recorded.clear()
            self._generation, self._pool = generation, None
        key = (*packed.shape, num_ids)
        recorded = self._recorded.get(key)
        if recorded is None:
            on_device = packed.to(self._device, non_blocking=True)
            if not self.enabled:
                return self._step(on_device, num_ids)
            try:
                recorded = self._recorded[key] = self._record(on_device, num_ids)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                self.enabled = False
                warnings.warn(
                    f"decoding steps run without CUDA graphs, since recording failed:"
                    f" {one_line(error)}",
                    stacklevel=2,
                )
                return self._step(on_device, num_ids)
        recorded.packed.copy_(packed, non_blocking=True)
        recorded.graph.replay()
        return recorded.states

    def _record(self, packed: Tensor, num_ids: int) -> _Recorded:
        graph, states = recorded(lambda: self._step(packed, num_ids), self._device, self._pool)
        self._pool = self._pool or graph.pool()
        return _Recorded(graph, packed, states)


def recorded(
    step: Callable[[], Tensor], device: torch.device, pool: Any
) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """A step as a graph, and the tensor that it writes to. pool: of memory; None: of its own."""
    # Libraries take their workspaces, and choose their kernels, in a pass before.
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile: only calls of this one are recorded.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            states = step()
    return graph, states

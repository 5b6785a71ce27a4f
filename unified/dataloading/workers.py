"""Worker processes that prepare packed sequences ahead of the training process.

They need neither torch nor a model. A worker starts in a third of a second and takes up 60 MB; one
of torch's `DataLoader`, which imports torch first, took two seconds and ten times as much.
"""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.queues import Queue
from queue import Empty
from typing import Any

from unified.dataloading.round_robin import TokenizerSpec, WorkerFailed, WorkerMessage, round_robin
from unified.dataloading.stream import StreamConfig
from unified_base.processes import Tie

__all__ = ["Worker"]

_PREFETCH = 8
"""Sequences that a worker prepares before they are asked for."""


class Worker:
    """An iterator over the messages of `round_robin` for some streams, from a new process."""

    def __init__(
        self, config: StreamConfig, spec: TokenizerSpec, states: dict[int, dict[str, Any]]
    ) -> None:
        # A fork would bring along the parent's threads, signal handlers and models.
        spawn = multiprocessing.get_context("spawn")
        self._messages: Queue[WorkerMessage] = spawn.Queue(_PREFETCH)
        arguments = (Tie(), self._messages, config, spec, states)
        self._process = spawn.Process(target=_work, args=arguments, daemon=True)
        self._process.start()

    def __iter__(self) -> Worker:
        return self

    def __next__(self) -> WorkerMessage:
        while True:
            # Asked before the queue: what a worker put there before it ended is still to be had.
            alive = self._process.is_alive()
            try:
                return self._messages.get(timeout=1)
            except Empty:
                if not alive:
                    raise ValueError(
                        f"a data worker has ended (exit code {self._process.exitcode}), killed"
                        " perhaps for want of memory; go on with --resume and fewer workers"
                    ) from None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._messages.close()


def _work(
    tie: Tie,
    messages: Queue[WorkerMessage],
    config: StreamConfig,
    spec: TokenizerSpec,
    states: dict[int, dict[str, Any]],
) -> None:
    """What a worker does."""
    # Ctrl-C, and a signal to the whole group, are for the parent to answer: it may still need data
    # for the step at hand. The worker ends with its parent.
    tie.hold()
    if hasattr(os, "setsid"):
        os.setsid()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        context = spec.context(config)
    except ValueError as error:
        messages.put(WorkerFailed(str(error)))
        return
    for message in round_robin(context, list(states), states):
        messages.put(message)

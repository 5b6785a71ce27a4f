"""Processes that make rows ahead of the one that takes them.

They need neither torch nor a model. A worker starts in a third of a second and takes up 60 MB; one
of torch's `DataLoader`, which imports torch first, took two seconds and ten times as much.
"""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.queues import Queue
from queue import Empty
from typing import Any

from unified.dataloading.lane import Plan
from unified.dataloading.turns import Failed, Language, Message, in_turn
from unified_base.processes import Tie

__all__ = ["Worker"]

_AHEAD = 8
"""Rows that a worker makes before they are asked for."""


class Worker:
    """What `in_turn` gives for the lanes of `states`, made by a new process: an iterator."""

    def __init__(self, plan: Plan, language: Language, states: dict[int, dict[str, Any]]) -> None:
        # A fork would bring along the parent's threads, signal handlers and models.
        context = multiprocessing.get_context("spawn")
        self._rows: Queue[Message] = context.Queue(_AHEAD)
        parts = (Tie(), self._rows, plan, language, states)
        self._process = context.Process(target=_make, args=parts, daemon=True)
        self._process.start()

    def __iter__(self) -> Worker:
        return self

    def __next__(self) -> Message:
        while True:
            # Asked before the queue: what a worker put there before it ended is still to be had.
            alive = self._process.is_alive()
            try:
                return self._rows.get(timeout=1)
            except Empty:
                if not alive:
                    raise ValueError(
                        f"a worker that makes rows has ended (exit code {self._process.exitcode}), "
                        "killed perhaps for want of memory; go on with --resume and fewer workers"
                    ) from None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._rows.close()


def _make(
    tie: Tie,
    rows: Queue[Message],
    plan: Plan,
    language: Language,
    states: dict[int, dict[str, Any]],
) -> None:
    """What a worker does."""
    # Ctrl-C, and a signal to the whole group, are for the parent to answer: it may still need rows
    # for the step at hand. The worker ends with its parent.
    tie.hold()
    if hasattr(os, "setsid"):
        os.setsid()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        feed = language.feed(plan)
    except ValueError as error:
        rows.put(Failed(str(error)))
        return
    for message in in_turn(feed, list(states), states):
        rows.put(message)

"""Threads that share the phases of one computation, without a lock between them.

A step of a decoder is dozens of short phases (a product, then attention, then a product), each in
need of what the one before has made. The phases of a job are cut into chunks; whoever is there
takes the next chunk by an atomic counter, and a phase is over once all its chunks are done. So a
helper that wakes late, or never, costs nothing but its help: on a busy machine the caller does
the work alone, where threads that wait for each other at barriers take turns in waiting.

Between phases there is nothing but a few reads of a counter (0.2 us); waking helpers through
Python takes some 30 us, once a job.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from unified.instructions import compiled, intrinsic

__all__ = ["Team", "await_phase", "finish", "new_progress", "take"]

MOST_THREADS = 8  # by default; more cores seldom have more memory to read from
_SPINS = 4096  # some 5 us, then others may run
# A cache line of int64 for each counter: threads do not slow each other by their neighbours.
_LINE = 8


def new_progress(phases: int) -> np.ndarray:
    """int64 (phases, 2, 8): chunks taken and chunks done of every phase, none as yet."""
    return np.zeros((phases, 2, _LINE), np.int64)


@intrinsic
def _add(typingctx: Any, progress: Any, phase: Any, which: Any) -> Any:
    """Add 1 to a counter atomically; what it was before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _counter(context, builder, signature, args)
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "acq_rel")

    return types.int64(progress, phase, which), codegen


@intrinsic
def _read(typingctx: Any, progress: Any, phase: Any, which: Any) -> Any:
    """A counter, and everything that was written before it reached this value."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _counter(context, builder, signature, args)
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(progress, phase, which), codegen


def _counter(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    kind = signature.args[0]
    array = context.make_array(kind)(context, builder, args[0])
    indices = [*args[1:], ir.Constant(ir.IntType(64), 0)]
    return cgutils.get_item_pointer(context, builder, kind, array, indices)


if sys.platform == "win32":

    @compiled
    def _yield() -> None:
        pass

else:
    _sched_yield = types.ExternalFunction("sched_yield", types.int32())

    @compiled
    def _yield() -> None:
        _sched_yield()


@compiled
def take(progress: np.ndarray, phase: int) -> int:
    """The number of a chunk that nobody else has; as many as there are, or more: none is left."""
    return _add(progress, np.int64(phase), np.int64(0))


@compiled
def finish(progress: np.ndarray, phase: int) -> None:
    """Say that a chunk is done."""
    _add(progress, np.int64(phase), np.int64(1))


@compiled
def await_phase(progress: np.ndarray, phase: int, chunks: int) -> None:
    """Wait for the chunks that others have taken."""
    spins = 0
    while _read(progress, np.int64(phase), np.int64(1)) < chunks:
        spins += 1
        if spins % _SPINS == 0:
            _yield()


class Team:
    """The calling thread and its helpers. One team serves any number of callers at once."""

    _shared: Team | None = None

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._jobs: SimpleQueue[tuple[Callable[..., None], tuple[Any, ...], Any]] = SimpleQueue()
        self._process = -1

    @classmethod
    def shared(cls) -> Team:
        """That of this process: OMP_NUM_THREADS threads, where it is set, or one for each core."""
        if cls._shared is None:
            cls._shared = cls(_threads())
        return cls._shared

    def run(self, function: Callable[..., None], *args: Any, keeps: Any = None) -> None:
        """Call a compiled function (that releases the GIL, and shares its work as above) with these
        arguments here and in the helpers. keeps: an object that is to live as long as they run."""
        if self.threads > 1:
            if self._process != os.getpid():  # the first time, or after a fork
                self._start()
            for _ in range(self.threads - 1):
                self._jobs.put((function, args, keeps))
        function(*args)

    def _start(self) -> None:
        self._process = os.getpid()
        self._jobs = SimpleQueue()
        for _ in range(self.threads - 1):
            threading.Thread(target=_help, args=(self._jobs,), daemon=True).start()


def _help(jobs: SimpleQueue[tuple[Callable[..., None], tuple[Any, ...], Any]]) -> None:
    while True:
        function, args, keeps = jobs.get()
        function(*args)
        del function, args, keeps  # not until the next job


def _threads() -> int:
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if said.isdecimal() and int(said) > 0:
        return int(said)
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        cores = os.cpu_count() or 1
    return min(cores, MOST_THREADS)

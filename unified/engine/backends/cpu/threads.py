"""Threads that share the phases of one computation, without a lock between them.

A step of a decoder is dozens of short phases (a product, then attention, then a product), each in
need of what the one before has made. The phases of a job are cut into chunks; whoever is there
takes the next chunk by an atomic counter, and a phase is over once all its chunks are done. So a
helper that wakes late, or never, costs nothing but its help: on a busy machine the caller does
the work alone, where threads that wait for each other at barriers take turns in waiting.

Between phases there is nothing but a few reads of a counter (0.2 us); waking helpers through
Python takes some 30 us, once a job. Who has waited for some 20 us sleeps until the last chunk is
done: where threads are more than cores, the one that has it is likely to wait for a core itself,
and threads that wait awake would keep it, and every other process, from running.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from unified.engine.backends.cpu.intrinsics import compiled, intrinsic

__all__ = ["Team", "await_phase", "finish", "new_progress", "take"]

MOST_THREADS = 8  # by default; more cores seldom have more memory to read from
_SPINS = 65536  # some 80 us, then others may run
# The number of the system call, by processor. It is Linux's alone.
_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "s390x": 238}
# A cache line of int64 for each counter: threads do not slow each other by their neighbours.
_LINE = 8


def new_progress(phases: int) -> np.ndarray:
    """int64 (phases, 2, 8), of every phase, none as yet: at [0, 0] the chunks taken, at [1, 0]
    those done, at [1, 1] who sleeps until all are."""
    return np.zeros((phases, 2, _LINE), np.int64)


@intrinsic
def _add(typingctx: Any, progress: Any, phase: Any, which: Any, slot: Any) -> Any:
    """Add 1 to a counter atomically; what it was before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _counter(context, builder, signature, args)
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(progress, phase, which, slot), codegen


@intrinsic
def _read(typingctx: Any, progress: Any, phase: Any, which: Any, slot: Any) -> Any:
    """A counter, and everything that was written before it reached this value."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _counter(context, builder, signature, args)
        return builder.load_atomic(place, "seq_cst", 8)

    return types.int64(progress, phase, which, slot), codegen


@intrinsic
def _address(typingctx: Any, progress: Any, phase: Any, which: Any, slot: Any) -> Any:
    """Where a counter lies."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _counter(context, builder, signature, args)
        return builder.ptrtoint(place, ir.IntType(64))

    return types.int64(progress, phase, which, slot), codegen


def _counter(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    kind = signature.args[0]
    array = context.make_array(kind)(context, builder, args[0])
    return cgutils.get_item_pointer(context, builder, kind, array, args[1:])


# Of a counter, the half that changes: futexes are 32 bits wide.
_LOW_HALF = 0 if sys.byteorder == "little" else 4
_WAIT, _WAKE, _EVERYBODY = 128, 129, 2**31 - 1  # in this process alone

if sys.platform == "linux" and platform.machine() in _FUTEX:
    _NUMBER = _FUTEX[platform.machine()]
    _syscall: Any = types.ExternalFunction("syscall", types.int64(*[types.int64] * 7))

    @compiled
    def _sleep(progress: np.ndarray, phase: int, seen: int) -> None:
        """Until others have been woken, unless more chunks are done by now than were seen."""
        word = _address(progress, np.int64(phase), np.int64(1), np.int64(0)) + _LOW_HALF
        _syscall(_NUMBER, word, _WAIT, seen, 0, 0, 0)

    @compiled
    def _wake(progress: np.ndarray, phase: int) -> None:
        word = _address(progress, np.int64(phase), np.int64(1), np.int64(0)) + _LOW_HALF
        _syscall(_NUMBER, word, _WAKE, _EVERYBODY, 0, 0, 0)

elif sys.platform != "win32":
    _usleep: Any = types.ExternalFunction("usleep", types.int32(types.uint32))

    @compiled
    def _sleep(progress: np.ndarray, phase: int, seen: int) -> None:
        _usleep(np.uint32(50))

    @compiled
    def _wake(progress: np.ndarray, phase: int) -> None:
        pass

else:

    @compiled
    def _sleep(progress: np.ndarray, phase: int, seen: int) -> None:
        pass

    @compiled
    def _wake(progress: np.ndarray, phase: int) -> None:
        pass


@compiled
def take(progress: np.ndarray, phase: int) -> int:
    """The number of a chunk that nobody else has; as many as there are, or more: none is left."""
    return _add(progress, np.int64(phase), np.int64(0), np.int64(0))


@compiled
def finish(progress: np.ndarray, phase: int, chunks: int) -> None:
    """Say that a chunk of so many is done; after the last one, wake those who sleep."""
    done = _add(progress, np.int64(phase), np.int64(1), np.int64(0)) + 1
    if done == chunks and _read(progress, np.int64(phase), np.int64(1), np.int64(1)):
        _wake(progress, phase)


@compiled
def await_phase(progress: np.ndarray, phase: int, chunks: int) -> None:
    """Wait for the chunks that others have taken: a moment awake, as they are about to be done,
    then asleep, since whoever has them may be waiting for this core."""
    for _ in range(_SPINS):
        if _read(progress, np.int64(phase), np.int64(1), np.int64(0)) >= chunks:
            return
    # Said before the last look: who finishes later sees it (all of this is in one order).
    _add(progress, np.int64(phase), np.int64(1), np.int64(1))
    seen = _read(progress, np.int64(phase), np.int64(1), np.int64(0))
    while seen < chunks:
        _sleep(progress, phase, seen)
        seen = _read(progress, np.int64(phase), np.int64(1), np.int64(0))


class _Job:
    """Work for helpers, until its caller has seen it done: then there is nothing left of it."""

    __slots__ = ("work",)

    def __init__(self, *work: Any) -> None:
        self.work: tuple[Any, ...] | None = work


class Team:
    """The calling thread and its helpers. One team serves any number of callers at once."""

    _shared: Team | None = None

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._process = -1

    @classmethod
    def shared(cls) -> Team:
        """That of this process: OMP_NUM_THREADS threads, where it is set, or one for each core."""
        with _starting.lock:
            if cls._shared is None:
                cls._shared = cls(_threads())
            return cls._shared

    def run(self, function: Callable[..., None], *args: Any, keeps: Any = None) -> None:
        """Call a compiled function (that releases the GIL, and shares its work as above) with these
        arguments here and in the helpers. keeps: an object that is to live as long as they run."""
        if self.threads < 2:
            function(*args)
            return
        if self._process != os.getpid():  # the first time, or after a fork
            self._start()
        job = _Job(function, args, keeps)
        for _ in range(self.threads - 1):
            self._jobs.put(job)
        try:
            function(*args)
        finally:
            # Helpers that come too late have nothing to hold, and nothing to do.
            job.work = None

    def _start(self) -> None:
        with _starting.lock:
            if self._process == os.getpid():
                return
            self._jobs = SimpleQueue()
            for _ in range(self.threads - 1):
                threading.Thread(target=_help, args=(self._jobs,), daemon=True).start()
            self._process = os.getpid()


class _Starting:
    """A lock that a forked process begins with open, whoever held it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reopen)

    def _reopen(self) -> None:
        self.lock = threading.Lock()


_starting = _Starting()


def _help(jobs: SimpleQueue[_Job]) -> None:
    while True:
        work = jobs.get().work
        if work is not None:
            function, args, _ = work
            function(*args)
            del function, args
        del work  # not until the next job


def _threads() -> int:
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if said.isdecimal() and int(said) > 0:
        return int(said)
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        cores = os.cpu_count() or 1
    return min(cores, MOST_THREADS)

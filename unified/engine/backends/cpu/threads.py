"""A thread pool with work-stealing counters: threads share one computation without locks.

A forward pass is dozens of short phases (a product, then attention, then a product); each phase
needs the results of the one before. A phase is cut into chunks. Threads claim chunks by an atomic
counter, and a phase is over once all its chunks are finished. A worker that wakes late, or never,
costs nothing but its help: on a busy machine the caller does the work alone, where threads that
meet at barriers would wait for each other.

Between phases there are a few reads of a counter (0.2 us); waking workers through Python takes some
30 us, once a job. A thread that has waited some 20 us for a phase sleeps until its last chunk is
finished: with more threads than cores, the thread that holds that chunk is likely to be waiting for
a core itself, and threads that spin would keep it, and every other process, from running.
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

__all__ = ["ThreadPool", "claim_chunk", "finish_chunk", "new_counters", "wait_for_phase"]

MOST_THREADS = 8  # by default; more cores seldom have more memory to read from
_SPINS = 65536  # some 80 us, then others may run
# Linux's number of the system call `futex`, by processor.
_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "s390x": 238}
# A cache line of int64 for each counter: threads do not slow each other by their neighbours.
_LINE = 8


def new_counters(phases: int) -> np.ndarray:
    """Zeroed counters of a job, int64 (phases, 2, 8).

    Of each phase: at [0, 0] the chunks claimed, at [1, 0] the chunks finished, at [1, 1] the
    threads that sleep until all are finished.
    """
    return np.zeros((phases, 2, _LINE), np.int64)


@intrinsic
def _add(typingctx: Any, counters: Any, phase: Any, which: Any, slot: Any) -> Any:
    """Add 1 to a counter atomically. Returns its value before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _counter(context, builder, signature, args)
        return builder.atomic_rmw("add", pointer, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(counters, phase, which, slot), codegen


@intrinsic
def _read(typingctx: Any, counters: Any, phase: Any, which: Any, slot: Any) -> Any:
    """The value of a counter; what was written before it reached that value is visible then."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _counter(context, builder, signature, args)
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(counters, phase, which, slot), codegen


@intrinsic
def _address(typingctx: Any, counters: Any, phase: Any, which: Any, slot: Any) -> Any:
    """The address of a counter."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _counter(context, builder, signature, args)
        return builder.ptrtoint(pointer, ir.IntType(64))

    return types.int64(counters, phase, which, slot), codegen


def _counter(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    kind = signature.args[0]
    array = context.make_array(kind)(context, builder, args[0])
    return cgutils.get_item_pointer(context, builder, kind, array, args[1:])


# Futexes are 32 bits wide: the half of a counter that changes.
_LOW_HALF = 0 if sys.byteorder == "little" else 4
_WAIT, _WAKE, _ALL_THREADS = 128, 129, 2**31 - 1  # FUTEX_PRIVATE: of this process

if sys.platform == "linux" and platform.machine() in _FUTEX:
    _NUMBER = _FUTEX[platform.machine()]
    _syscall: Any = types.ExternalFunction("syscall", types.int64(*[types.int64] * 7))

    @compiled
    def _sleep(counters: np.ndarray, phase: int, seen: int) -> None:
        """Sleep until woken; return at once if more than `seen` chunks are finished by now."""
        word = _address(counters, np.int64(phase), np.int64(1), np.int64(0)) + _LOW_HALF
        _syscall(_NUMBER, word, _WAIT, seen, 0, 0, 0)

    @compiled
    def _wake(counters: np.ndarray, phase: int) -> None:
        word = _address(counters, np.int64(phase), np.int64(1), np.int64(0)) + _LOW_HALF
        _syscall(_NUMBER, word, _WAKE, _ALL_THREADS, 0, 0, 0)

elif sys.platform != "win32":
    _usleep: Any = types.ExternalFunction("usleep", types.int32(types.uint32))

    @compiled
    def _sleep(counters: np.ndarray, phase: int, seen: int) -> None:
        _usleep(np.uint32(50))

    @compiled
    def _wake(counters: np.ndarray, phase: int) -> None:
        pass

else:

    @compiled
    def _sleep(counters: np.ndarray, phase: int, seen: int) -> None:
        pass

    @compiled
    def _wake(counters: np.ndarray, phase: int) -> None:
        pass


@compiled
def claim_chunk(counters: np.ndarray, phase: int) -> int:
    """The number of a chunk that no other thread has; none is left from the number of chunks on."""
    return _add(counters, np.int64(phase), np.int64(0), np.int64(0))


@compiled
def finish_chunk(counters: np.ndarray, phase: int, chunks: int) -> None:
    """Count one of `chunks` chunks as finished; after the last one, wake threads that sleep."""
    finished = _add(counters, np.int64(phase), np.int64(1), np.int64(0)) + 1
    if finished == chunks and _read(counters, np.int64(phase), np.int64(1), np.int64(1)):
        _wake(counters, phase)


@compiled
def wait_for_phase(counters: np.ndarray, phase: int, chunks: int) -> None:
    """Wait until all chunks of a phase are finished.

    Spins for a moment, as they are about to be, then sleeps: the thread that holds the last chunk
    may be waiting for this core.
    """
    for _ in range(_SPINS):
        if _read(counters, np.int64(phase), np.int64(1), np.int64(0)) >= chunks:
            return
    # Announced before the last look: a thread that finishes later sees it, since these operations
    # have one order.
    _add(counters, np.int64(phase), np.int64(1), np.int64(1))
    seen = _read(counters, np.int64(phase), np.int64(1), np.int64(0))
    while seen < chunks:
        _sleep(counters, phase, seen)
        seen = _read(counters, np.int64(phase), np.int64(1), np.int64(0))


class _Job:
    """Work for the workers; None once its caller has seen all of it finished."""

    __slots__ = ("work",)

    def __init__(self, *work: Any) -> None:
        self.work: tuple[Any, ...] | None = work


class ThreadPool:
    """The calling thread and its workers. One pool serves any number of callers at once."""

    _shared: ThreadPool | None = None

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._process = -1

    @classmethod
    def shared(cls) -> ThreadPool:
        """The pool of this process: OMP_NUM_THREADS threads if set, else one for each core."""
        with _starting.lock:
            if cls._shared is None:
                cls._shared = cls(_threads())
            return cls._shared

    def run(self, function: Callable[..., None], *args: Any, owner: Any = None) -> None:
        """Call a compiled function here and in the workers, with the same arguments.

        function: releases the GIL and claims its work by counters. owner: an object that must live
        as long as the function runs, such as the owner of memory that it gets by address.
        """
        if self.threads < 2:
            function(*args)
            return
        if self._process != os.getpid():  # the first time, or after a fork
            self._start()
        job = _Job(function, args, owner)
        for _ in range(self.threads - 1):
            self._jobs.put(job)
        try:
            function(*args)
        finally:
            # Workers that come too late hold no references, and have nothing to do.
            job.work = None

    def _start(self) -> None:
        with _starting.lock:
            if self._process == os.getpid():
                return
            self._jobs = SimpleQueue()
            for _ in range(self.threads - 1):
                threading.Thread(target=_work, args=(self._jobs,), daemon=True).start()
            self._process = os.getpid()


class _Starting:
    """A lock that is open in a forked process, whoever held it before."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reopen)

    def _reopen(self) -> None:
        self.lock = threading.Lock()


_starting = _Starting()


def _work(jobs: SimpleQueue[_Job]) -> None:
    while True:
        work = jobs.get().work
        if work is not None:
            function, args, _ = work
            function(*args)
            del function, args
        del work  # before waiting for the next job


def _threads() -> int:
    setting = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if setting.isdecimal() and int(setting) > 0:
        return int(setting)
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        cores = os.cpu_count() or 1
    return min(cores, MOST_THREADS)

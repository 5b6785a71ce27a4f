"""What the tokenizers' benchmarks share: progress, sizes of models, and what they ran on."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

from torch import Tensor

from unified_base.version import __version__


def say(text: str) -> None:
    """A line of progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def peak_bytes() -> int:
    """The most memory that this process has had, on Linux.

    Not of `getrusage` or `wait4`: their maximum begins with what the process was before `exec`, a
    copy of its parent.
    """
    status = Path("/proc/self/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return 1024 * int(match[1])


def numbers(state: Iterable[tuple[str, Tensor]], without: tuple[str, ...] = ()) -> int:
    """How many numbers a model's state holds but in entries whose names begin with `without`.

    Buffers count: a codebook that follows by moving averages is no parameter.
    """
    return sum(value.numel() for name, value in state if not name.startswith(without))


def interleaved(jobs: Sequence[Callable[[], Any]], repeats: int) -> list[list[float]]:
    """Seconds of every run of each job, all in turn so that the machine's moods meet all alike.

    Each job is run once before, unmeasured.
    """
    for job in jobs:
        job()
    seconds: list[list[float]] = [[] for _ in jobs]
    for _ in range(repeats):
        for job, runs in zip(jobs, seconds):
            began = perf_counter()
            job()
            runs.append(perf_counter() - began)
    return seconds


def machine(threads: int, packages: Sequence[str]) -> dict[str, Any]:
    """Cores, processor, system, and versions."""
    try:
        processor = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        processor = None
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "threads": threads,
        "processor": processor[1] if processor else platform.processor() or platform.machine(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "unified": __version__,
        **{name: version(name) for name in ("torch", *packages)},
    }

"""How many bytes a second all threads read from memory: the bound of a decoder's step.

Sums of torch or numpy are no probe: they reach 60 to 90% of what a decoder reads, by how their
threads happen to be placed. Here threads claim chunks as the decoder's do, and every chunk is read
in whole vectors with nothing to wait for between them.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter

import numpy as np

from unified.engine.backends.cpu.intrinsics import compiled, entry, wide_vectors
from unified.engine.backends.cpu.threads import (
    ThreadPool,
    claim_chunk,
    finish_chunk,
    new_counters,
    wait_for_phase,
)

__all__ = ["read_bandwidth"]

_CHUNK = 1 << 18  # numbers of 8 bytes: 2 MiB, one huge page
_PASSES = 15


@compiled
def _fold(numbers: np.ndarray) -> int:
    wide_vectors()
    result = np.int64(0)
    for i in range(numbers.shape[0]):
        result ^= numbers[i]
    return result


@entry
def _read(counters: np.ndarray, numbers: np.ndarray, results: np.ndarray, chunk: int) -> None:
    """numbers: int64 (n,); results: int64 (chunks,), written so that nothing is left out."""
    chunks = results.shape[0]
    at = claim_chunk(counters, 0)
    while at < chunks:
        results[at] = _fold(numbers[at * chunk : (at + 1) * chunk])
        finish_chunk(counters, 0, chunks)
        at = claim_chunk(counters, 0)
    wait_for_phase(counters, 0, chunks)


def read_bandwidth(num_bytes: int = 1 << 30) -> float:
    """Bytes a second, the median of 15 passes over memory that no cache holds.

    num_bytes: read in each pass; far more than the processor's caches hold.
    """
    numbers = np.arange(num_bytes // 8 // _CHUNK * _CHUNK, dtype=np.int64)
    results = np.zeros(len(numbers) // _CHUNK, np.int64)
    pool = ThreadPool.shared()
    seconds = []
    for _ in range(_PASSES + 2):  # the first two wake threads and compile
        began = perf_counter()
        pool.run(_read, new_counters(1), numbers, results, _CHUNK)
        seconds.append(perf_counter() - began)
    expected = np.bitwise_xor.reduce(numbers[:_CHUNK])
    assert results[0] == expected
    return numbers.nbytes / median(seconds[2:])

"""The KV cache of the CPU decoder: each slot is memory of its own, in the panels of `kernels`."""

from __future__ import annotations

import mmap
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from unified.engine.backends.base import Array
from unified.engine.backends.cpu.config import PANEL, LlamaCpuConfig

__all__ = ["CACHE_DTYPES", "MemoryPool", "SlotCache", "slot_words"]

_LINE = 16  # float32 numbers of a cache line
_SPARE_BYTES = 256 << 20
_HUGE_BYTES = 4 << 20  # from there on numpy asks for huge pages

CACHE_DTYPES = {"float32": 1, "bfloat16": 2}
"""Types of keys and values by name: how many of them are in a word of 32 bits (`kv`)."""


def slot_words(config: LlamaCpuConfig, max_ids: int, dtype: str = "float32") -> tuple[int, int]:
    """Words of a slot's keys and of its values, for `max_ids` ids in whole panels."""
    heads = config.num_layers * config.num_kv_heads
    ids, in_word = -(-max_ids // PANEL) * PANEL, CACHE_DTYPES[dtype]
    head_panels = -(-config.head_dim // PANEL)
    keys, values = ids * config.head_dim, head_panels * ids * PANEL
    return heads * keys // in_word, heads * values // in_word


class MemoryPool:
    """Memory of slots that are no longer in use, for slots to come; any thread may use it.

    New pages are cleared when they are touched: 8% of the time that sixteen pictures take. At most
    256 MiB lie idle here.
    """

    def __init__(self) -> None:
        # No lock: memory comes back whenever a cache is collected, in `get` itself, too.
        self._blocks: deque[Array] = deque()

    def get(self, numbers: int) -> Array:
        """float32 (numbers, or up to twice as many), all finite, from the start of a cache line."""
        for _ in range(len(self._blocks)):
            try:
                block = self._blocks.popleft()
            except IndexError:  # another thread was faster
                break
            if numbers <= block.size <= 2 * numbers:
                return block
            self._blocks.append(block)
        # Zeros, since what lies behind the last id is multiplied by zero.
        memory = _zeros(numbers + _LINE)
        start = -(memory.ctypes.data // memory.itemsize) % _LINE
        return memory[start : start + numbers]

    def put(self, block: Array) -> None:
        """Take back memory that `get` gave, without anything in it that is no number."""
        self._blocks.append(block)
        while sum(block.nbytes for block in tuple(self._blocks)) > _SPARE_BYTES:
            try:
                self._blocks.popleft()
            except IndexError:
                break


def _zeros(numbers: int) -> Array:
    """float32 (numbers,) of new pages, which the system clears when they are touched.

    Small pages, where numpy asks for huge ones: an id is a little of every head's memory, and the
    first would have all of a slot's huge pages cleared at once. That took 200 ms of the pass that
    read the beginning of a prompt of 4,096 ids with the 17M decoder (90 MB), 180 passes of the
    streams beside it. Attention over 3,500 ids takes 4 to 10% longer for it.
    """
    size = numbers * np.dtype(np.float32).itemsize
    advice = getattr(mmap, "MADV_NOHUGEPAGE", None)
    if size < _HUGE_BYTES or advice is None:
        return np.zeros(numbers, np.float32)
    try:
        pages = mmap.mmap(-1, size)
    except OSError as error:
        raise MemoryError(f"{size:,} bytes for keys and values: {error}") from error
    with suppress(OSError):  # a kernel without huge pages
        pages.madvise(advice)
    return np.frombuffer(pages, np.float32)


@dataclass(frozen=True, eq=False)
class _Slot:
    """memory: words, the keys (layers, G, L / PANEL, lines of C, PANEL) and then the values
    (layers, G, C / PANEL, lines of L, PANEL); see `kv`. address: of it. max_ids: L, whole panels.
    """

    memory: Array
    keys: Array
    values: Array
    address: int
    max_ids: int


class SlotCache:
    """Keys and values of any number of sequences, each in a slot of its own length.

    lengths: ids in each slot. cos_sin: of the rotary angles, float32 (positions, 2, C/2).
    """

    copies_in_parts = True

    def __init__(
        self,
        config: LlamaCpuConfig,
        pool: MemoryPool,
        rotations: Callable[[int], Array],
        dtype: str = "float32",
    ) -> None:
        """
        Args:
            config: of the decoder.
            pool: where memory comes from, and goes when it is freed or the cache collected.
            rotations: `cos_sin` of at least so many positions; raises ValueError for too many.
            dtype: of keys and values, one of CACHE_DTYPES.
        """
        self.config, self.dtype = config, dtype
        self.cos_sin = rotations(0)
        self.lengths: list[int] = []
        self._pool = pool
        self._rotations = rotations
        self._slots: list[_Slot | None] = []
        # What holds NaN serves no other slot: times zero it is NaN.
        self._tainted: set[int] = set()
        self._recycling = weakref.finalize(self, _recycle, pool, self._slots, self._tainted)

    def allocate(self, max_ids: int) -> int:
        """See `Cache.allocate`."""
        if max_ids > len(self.cos_sin):
            self.cos_sin = self._rotations(max_ids)
        config, in_word = self.config, CACHE_DTYPES[self.dtype]
        heads = config.num_layers, config.num_kv_heads
        keys, values = slot_words(config, max_ids, self.dtype)
        panels = -(-max_ids // PANEL)
        memory = self._pool.get(keys + values)
        head_panels = -(-config.head_dim // PANEL)
        slot = _Slot(
            memory,
            memory[:keys].reshape(*heads, panels, config.head_dim // in_word, PANEL),
            memory[keys : keys + values].reshape(*heads, head_panels, -1, PANEL),
            memory.ctypes.data,
            panels * PANEL,
        )
        if None in self._slots:
            number = self._slots.index(None)
            self._slots[number] = slot
        else:
            number = len(self._slots)
            self._slots.append(slot)
            self.lengths.append(0)
        return number

    def free(self, slot: int) -> None:
        entry = self._slots[slot]
        assert entry is not None
        self._slots[slot] = None
        self.lengths[slot] = 0
        if slot not in self._tainted:
            self._pool.put(entry.memory)
        self._tainted.discard(slot)

    def slot(self, number: int) -> _Slot:
        """The memory of a slot in use."""
        entry = self._slots[number]
        assert entry is not None
        return entry

    def taint(self, slot: int) -> None:
        """Let no other slot reuse this one's memory: it holds NaN."""
        self._tainted.add(slot)

    def copy_prefix(
        self, source: int, target: int, length: int | None = None, start: int = 0
    ) -> None:
        length = self.lengths[source] if length is None else length
        ids_in_line = CACHE_DTYPES[self.dtype]
        panels = slice(start // PANEL, -(-length // PANEL))
        lines = slice(start // ids_in_line, -(-length // ids_in_line))
        from_, to = self.slot(source), self.slot(target)
        assert length <= to.max_ids
        to.keys[:, :, panels] = from_.keys[:, :, panels]
        to.values[:, :, :, lines] = from_.values[:, :, :, lines]
        self.lengths[target] = length
        if source in self._tainted:
            self._tainted.add(target)

    def truncate(self, slot: int, length: int) -> None:
        assert length <= self.lengths[slot]
        self.lengths[slot] = length

    def reset(self, slot: int) -> None:
        self.lengths[slot] = 0


def _recycle(pool: MemoryPool, slots: list[_Slot | None], tainted: set[int]) -> None:
    for number, slot in enumerate(slots):
        if slot is not None and number not in tainted:
            pool.put(slot.memory)

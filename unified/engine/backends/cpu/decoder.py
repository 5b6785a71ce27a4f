"""The CPU decoder: checkpoints of the Llama family, one compiled call for each forward pass.

`transformers.generate` spends most of a small model's time outside the matrix products. Here a pass
is one call of compiled code (`kernels`) which threads share, caches are static, sequences of any
length go together without padding, and the head multiplies only the rows of the ids that the
grammar allows now. Weights stay in the type they are stored in.

Why compiled loops and not torch or numpy: a small model's pass is bound by reading its weights
once. For the pocket sizes (15.3M weights in layers, two cores of a Xeon with AVX-512, 150 ids in
the cache) a pass took 3.0 ms in torch, float32 or bfloat16, 7.9 ms after torch.compile, 3.0 ms in
numpy; here 1.2 ms, and 0.8 ms with bfloat16 weights, which a checkpoint stored as such loses
nothing by.

Architectures outside `LlamaCpuConfig.covers` run through `unified.engine.backends.transformers`.
Shape legend: see `kernels`; `T` is the number of new ids of all sequences.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# Nothing of numba is imported before a decoder is made: it takes a second, and most commands need
# none of it.
from unified.engine.backends.base import Array, Ranges
from unified.engine.backends.cpu.cache import MemoryPool, SlotCache, slot_numbers
from unified.engine.backends.cpu.config import PANEL, LlamaCpuConfig
from unified.engine.memory import available_bytes

__all__ = ["PREFILL_IDS", "LlamaCpuDecoder", "StoredWeight", "Weight", "compile_kernels", "widen"]

# float32; uint16: the bits of bfloat16, the upper halves of float32 numbers; or int16: those of
# float16. numba has neither type.
Weight = NDArray[Any]


class StoredWeight(Protocol):
    """A weight whose rows are read by slicing: a `Weight`, or one that lies in a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def ndim(self) -> int: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __getitem__(self, rows: slice, /) -> Weight:
        """Rows [start, stop) of it, all columns."""


# Longer prompts are fed in parts, so that workspaces stay small.
PREFILL_IDS = 512
# Logits of at most so many ids take less time than waking a worker does.
_FEW_OUTPUTS = 256
_EMBEDDING = "model.embed_tokens.weight"


class LlamaCpuDecoder:
    """A decoder of the Llama family for sampling on the CPU; computed in float32.

    Logits agree with transformers' Llama, Mistral, Qwen2 and Qwen3 up to rounding. The logits of a
    sequence are the same bits alone and in any batch, fed at once or id by id. Any number of
    threads may use one decoder at once, each with caches of its own.

    config: its sizes. vocab_size, max_positions: see `Decoder`.
    """

    batch_invariant = True

    def __init__(self, config: LlamaCpuConfig, weights: Mapping[str, StoredWeight]) -> None:
        """Pack weights into the layout of the kernels; later changes of them have no effect.

        Rows are read a few at a time: beside what is packed no other copy is in memory.

        Args:
            config: the decoder's sizes.
            weights: float32, bfloat16 or float16 (see `Weight`), by their Hugging Face names.

        Raises:
            ValueError: names or shapes do not fit the config.
        """
        from unified.engine.backends.cpu import kernels
        from unified.engine.backends.cpu import threads as threads_module
        from unified.engine.backends.cpu.matmul import HALF_SUPPORTED, pack

        config.check(weights)
        self.config = config
        self._kernels = kernels
        self._new_counters = threads_module.new_counters
        self.vocab_size = config.vocab_size
        self.max_positions = config.max_position_embeddings
        # All matrices have one type: that of the stored ones, float32 where they differ.
        stored = {weight.dtype for weight in weights.values() if weight.ndim == 2}
        dtype = stored.pop() if len(stored) == 1 else np.dtype(np.float32)
        if dtype == np.int16 and not HALF_SUPPORTED:
            dtype = np.dtype(np.float32)
        convert: Callable[[Weight], Weight] = widen if dtype == np.float32 else np.asarray

        def packed(name: str) -> Weight | None:
            weight = weights.get(name)
            if weight is None:
                return None
            if weight.ndim == 1:
                return np.ascontiguousarray(widen(weight))
            return pack(weight, convert)  # (O, K) -> (P, K, PANEL)

        tied = config.tie_word_embeddings
        # Tied embeddings are packed for the head; the embedding of an id is a line of a panel.
        head = packed(_EMBEDDING if tied else "lm_head.weight")
        assert head is not None  # checked above
        self._head: Weight = head
        self._embedding = None if tied else weights[_EMBEDDING][:]
        self.final_norm_D = widen(weights["model.norm.weight"])
        # Alive as long as their addresses are in use.
        self._weights = [
            packed(f"model.layers.{layer}.{name}")
            for layer in range(config.num_layers)
            for name in kernels.LAYER
        ]
        addresses = [0 if w is None else w.ctypes.data for w in self._weights]
        self._table = np.array(addresses, np.int64).reshape(config.num_layers, -1)
        self._dtype_like = np.empty(0, dtype)
        # Of as many positions as any cache has asked for. A longer table replaces it as a whole,
        # and every cache has the one that it was made with: threads share no more.
        self._cos_sin = np.ones((0, 2, config.head_dim // 2), np.float32)
        self._growing = threading.Lock()
        self._threads = threads_module.ThreadPool.shared()
        self._memory = MemoryPool()

    def available_bytes(self) -> int:
        """See `Decoder.available_bytes`."""
        return available_bytes()

    def cache_bytes(self, max_ids: int) -> int:
        """See `Decoder.cache_bytes`."""
        return 4 * sum(slot_numbers(self.config, max_ids))

    def new_cache(self, num_slots: int = 0, max_ids: int = 0) -> SlotCache:
        """See `Decoder.new_cache`."""
        cache = SlotCache(self.config, self._memory, self._rotations)
        for _ in range(num_slots):
            cache.allocate(max_ids)
        return cache

    def _rotations(self, length: int) -> Array:
        """Cosines and sines (L, 2, C/2) of at least so many positions."""
        if length > self.max_positions:
            raise ValueError(
                f"{length} ids asked for, but the decoder has {self.max_positions} positions; "
                "lower max_ids"
            )
        with self._growing:
            if length > len(self._cos_sin):
                angles = np.outer(np.arange(length), self.config.inv_freq)  # (L, C/2)
                cos_sin = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # (L, 2, C/2)
                self._cos_sin = (self.config.attention_scaling * cos_sin).astype(np.float32)
            return self._cos_sin

    def forward(
        self, cache: SlotCache, slots: Sequence[int], input_ids: Sequence[Sequence[int]]
    ) -> Array:
        """See `Decoder.forward`; hidden states (T, D) after the final norm."""
        counts = [len(ids) for ids in input_ids]
        assert counts
        assert min(counts) > 0
        if sum(counts) > PREFILL_IDS:
            return self._forward_in_parts(cache, slots, input_ids)
        sequences, first = [], 0
        for slot, count in zip(slots, counts):
            past, memory = cache.lengths[slot], cache.slot(slot)
            assert past + count <= memory.max_ids
            sequences.append((first, count, past, memory.address, memory.max_ids))
            first += count
        config, kernels, T = self.config, self._kernels, first
        x = self.embed([id for ids in input_ids for id in ids])  # (T, D)
        heads = config.num_heads + 2 * config.num_kv_heads
        self._threads.run(
            kernels.forward_layers,
            self._new_counters(kernels.num_phases(config.num_layers)),
            self._table,
            self._dtype_like,
            x,
            np.empty((T, heads, config.head_dim), np.float32),
            np.empty((T, config.num_heads, config.head_dim), np.float32),
            np.empty((T, config.intermediate_size), np.float32),
            cache.cos_sin,
            np.array(sequences, np.int64),
            config.num_kv_heads,
            np.float32(config.norm_eps),
            kernels.chunk_size(config.hidden_size, self._threads.threads),
            owner=(self, cache),
        )
        for slot, count in zip(slots, counts):
            cache.lengths[slot] += count
        mean_square = np.einsum("td,td->t", x, x) / np.float32(config.hidden_size)  # (T,)
        if not np.isfinite(mean_square).all():
            for slot in slots:
                cache.taint(slot)
        x *= (1 / np.sqrt(mean_square + np.float32(config.norm_eps)))[:, None]
        x *= self.final_norm_D
        return x

    def _forward_in_parts(
        self, cache: SlotCache, slots: Sequence[int], input_ids: Sequence[Sequence[int]]
    ) -> Array:
        """Halve the sequences, or cut a single one into parts of `PREFILL_IDS` ids."""
        half = len(input_ids) // 2
        if half:
            parts = [(slots[:half], input_ids[:half]), (slots[half:], input_ids[half:])]
        else:
            (ids,) = input_ids
            starts = range(0, len(ids), PREFILL_IDS)
            parts = [(slots, [ids[start : start + PREFILL_IDS]]) for start in starts]
        return np.concatenate([self.forward(cache, *part) for part in parts])

    def embed(self, ids: Sequence[int]) -> Array:
        """Embeddings of ids, float32 (T, D): the input of the first layer."""
        at = np.asarray(ids)
        if self._embedding is not None:
            return widen(self._embedding[at])
        return np.ascontiguousarray(widen(self._head[at // PANEL, :, at % PANEL]))

    def logits(self, hidden_states: Array, ranges: Ranges) -> Array:
        """See `Decoder.logits`."""
        kernels = self._kernels
        outputs = sum(stop - start for start, stop in ranges)
        logits = np.empty((len(hidden_states), outputs), np.float32)
        size = kernels.chunk_size(outputs, self._threads.threads)
        job = hidden_states, self._head, np.array(ranges, np.int64), logits, size
        if outputs > _FEW_OUTPUTS:
            self._threads.run(kernels.lm_head, self._new_counters(1), *job, owner=self)
        else:
            kernels.lm_head(self._new_counters(1), *job)
        return logits


def compile_kernels() -> None:
    """Compile the kernels for this processor, once, where that has not been done.

    It takes some fifteen seconds, which the first sampling takes otherwise.
    """
    config = LlamaCpuConfig(
        hidden_size=2, num_layers=1, num_heads=1, num_kv_heads=1, head_dim=2, intermediate_size=2,
        vocab_size=2, max_position_embeddings=2, norm_eps=1e-6, inv_freq=(1.0,), qk_norm=False,
        tie_word_embeddings=True,
    )  # fmt: skip
    for dtype in (np.uint16, np.int16, np.float32):
        weights = {name: np.zeros(shape, dtype) for name, shape in config.shapes().items()}
        decoder = LlamaCpuDecoder(config, weights)
        decoder.logits(decoder.forward(decoder.new_cache(1, 1), [0], [[0]]), ((0, 1),))


def widen(weight: StoredWeight) -> Array:
    """float32 from any type of `Weight`; exact."""
    numbers = weight[:]
    if numbers.dtype == np.uint16:
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    if numbers.dtype == np.int16:
        return numbers.view(np.float16).astype(np.float32)
    return numbers.astype(np.float32, copy=False)

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
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import ClassVar, cast

import numpy as np

# Nothing of numba is imported before a decoder is made: it takes a second, and most commands need
# none of it.
from unified.engine.backends.base import Array, ContinuousPosition, Position, PositionCodes, Ranges
from unified.engine.backends.cpu.cache import CACHE_DTYPES, MemoryPool, SlotCache, slot_words
from unified.engine.backends.cpu.compiled_positions import CompiledPositions
from unified.engine.backends.cpu.config import LlamaCpuConfig
from unified.engine.backends.cpu.depth import CompiledDepth, FirstHead
from unified.engine.backends.cpu.reading import CompiledReading
from unified.engine.backends.cpu.settings import ARITHMETIC, CACHE_DTYPE, chosen_type
from unified.engine.backends.cpu.stored import StoredWeight, Weight, widen
from unified.engine.backends.depth_config import DepthConfig
from unified.engine.backends.level_choices import LevelChoices
from unified.engine.backends.parallel_heads import ParallelHeads
from unified.engine.memory import available_bytes

__all__ = [
    "PREFILL_IDS", "LlamaCpuDecoder", "StoredWeight", "Weight", "widen",
]  # fmt: skip

# Longer prompts are fed in parts, so that workspaces stay small.
PREFILL_IDS = 512
# Logits of at most so many ids take less time than waking a worker does.
_FEW_OUTPUTS = 256
_EMBEDDING = "model.embed_tokens.weight"


class LlamaCpuDecoder:
    """A decoder of the Llama family for sampling on the CPU.

    Computed in float32, but for products with bfloat16 weights where the processor multiplies
    bfloat16, and for keys and values in a bfloat16 cache.

    Logits agree with transformers' Llama, Mistral, Qwen2 and Qwen3 up to rounding. The logits of a
    sequence are the same bits alone and in any batch, fed at once or id by id. Any number of
    threads may use one decoder at once, each with caches of its own.

    config: its sizes. vocab_size, max_positions: see `Decoder`. writes_positions: whether there is
    a depth decoder, see `PositionWriter`. arithmetic: of matrix products: the type of the weights,
    and the type it is widened to. cache_dtype: of keys and values. memory: where caches lie.
    """

    backend: ClassVar[str] = "cpu"
    batch_invariant: ClassVar[bool] = True
    reads_by_layers: ClassVar[bool] = True

    def __init__(
        self,
        config: LlamaCpuConfig,
        weights: Mapping[str, StoredWeight],
        arithmetic: str | None = None,
        cache_dtype: str | None = None,
        depth: tuple[DepthConfig, Mapping[str, StoredWeight]] | None = None,
    ) -> None:
        """Pack weights into the layout of the kernels; later changes of them have no effect.

        Rows are read a few at a time: beside what is packed no other copy is in memory.

        Args:
            config: the decoder's sizes.
            weights: float32, bfloat16 or float16 (see `Weight`), by their Hugging Face names;
                matrices may be `ToQuantize`, embeddings and head among them.
            arithmetic: of matrix products; "auto": bfloat16 weights as such where the processor
                multiplies bfloat16, all else in float32; "float32": all. None: what the
                environment's `UNIFIED_CPU_ARITHMETIC` says, or "auto".
            cache_dtype: of keys and values, "float32" or "bfloat16". None: what the environment's
                `UNIFIED_CPU_CACHE` says, or "float32".
            depth: a depth decoder for positions of several ids, and its weights by the names of
                `DepthDecoder`; None: the ids of a position come of parallel heads.

        Raises:
            ValueError: names or shapes do not fit the config, an unknown type, or weights to
                quantize that are NaN or infinite.
        """
        from unified.engine.backends.cpu import kernels, linear
        from unified.engine.backends.cpu import threads as threads_module
        from unified.engine.backends.cpu.embeddings import sum_rows
        from unified.engine.backends.cpu.heads import PART_IDS, part_numbers
        from unified.engine.backends.cpu.int8_pack import side_by_side
        from unified.engine.backends.cpu.kv import KV_FORMATS
        from unified.engine.backends.cpu.products import INT8, pack_weight, stored_format

        arithmetic = chosen_type("arithmetic", arithmetic, ARITHMETIC, ("auto", "float32"))
        cache_dtype = chosen_type("cache_dtype", cache_dtype, CACHE_DTYPE, tuple(CACHE_DTYPES))
        config.check(weights)
        self.config = config
        self._kernels, self._lm_head = kernels, linear.lm_head
        self._sum_rows = sum_rows
        self._part_ids, self._part_numbers = PART_IDS, part_numbers
        self._new_counters = threads_module.new_counters
        self.vocab_size = config.vocab_size
        self.max_positions = config.max_position_embeddings
        self.input_width = config.hidden_size
        # All matrices have one type: that of the stored ones, float32 where they differ.
        stored = {weight.dtype for weight in weights.values() if weight.ndim == 2}
        dtype = stored.pop() if len(stored) == 1 else np.dtype(np.float32)
        self._format = stored_format(dtype, dots=arithmetic == "auto")
        self.arithmetic = self._format.name

        packed = self._packed = partial(pack_weight, self._format)
        tied = config.tie_word_embeddings
        # Tied embeddings are packed for the head; the embedding of an id is a line of a panel.
        quantized = self._format is INT8
        with side_by_side(config.shapes().values()) if quantized else nullcontext():
            head = packed(weights, _EMBEDDING if tied else "lm_head.weight")
            assert head is not None  # checked above
            self._head: Weight = head
            self._embedding: Weight | None = None
            if not tied:
                table = packed(weights, _EMBEDDING) if quantized else weights[_EMBEDDING][:]
                self._embedding = table
            # Alive as long as their addresses are in use.
            self._weights = [
                packed(weights, f"model.layers.{layer}.{name}")
                for layer in range(config.num_layers)
                for name in kernels.LAYER
            ]
        self.final_norm_D = widen(weights["model.norm.weight"])
        addresses = [0 if w is None else w.ctypes.data for w in self._weights]
        self.layer_table = np.array(addresses, np.int64).reshape(config.num_layers, -1)
        self._dtype_like = np.empty(0, self._format.dtype)
        self.cache_dtype, self._kv_like = cache_dtype, np.empty(0, KV_FORMATS[cache_dtype].dtype)
        # Of as many positions as any cache has asked for. A longer table replaces it as a whole,
        # and every cache has the one that it was made with: threads share no more.
        self._cos_sin = np.ones((0, 2, config.head_dim // 2), np.float32)
        self._growing = threading.Lock()
        self._threads = threads_module.ThreadPool.shared()
        self.memory = MemoryPool()
        self._depth: CompiledDepth | None = None
        self.writes_positions = depth is not None
        if depth is not None:
            self._depth = CompiledDepth(
                *depth, config.hidden_size, arithmetic == "auto", self.memory
            )

    def with_others(self, weights: Mapping[str, StoredWeight]) -> np.ndarray:
        """A table of addresses for `forward_by`: the layers' with some weights in place of theirs,
        by the same names and of the same shapes, which it packs and keeps."""
        table = self.layer_table.copy()
        for name in weights:
            _, _, layer, tensor = name.split(".", 3)
            other = self._packed(weights, name)
            assert other is not None
            self._weights.append(other)
            table[int(layer), self._kernels.LAYER.index(tensor)] = other.ctypes.data
        return table

    def available_bytes(self) -> int:
        """See `Decoder.available_bytes`."""
        return available_bytes()

    def cache_bytes(self, max_ids: int) -> int:
        """See `Decoder.cache_bytes`."""
        return 4 * sum(slot_words(self.config, max_ids, self.cache_dtype))

    def new_cache(self, num_slots: int = 0, max_ids: int = 0) -> SlotCache:
        """See `Decoder.new_cache`."""
        cache = SlotCache(self.config, self.memory, self._rotations, self.cache_dtype)
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
        self, cache: SlotCache, slots: Sequence[int], input_ids: Sequence[Sequence[Position]]
    ) -> Array:
        """See `Decoder.forward`; hidden states (T, D) after the final norm."""
        return self.forward_by(self.layer_table, cache, slots, input_ids)

    def forward_by(
        self,
        table: np.ndarray,
        cache: SlotCache,
        slots: Sequence[int],
        input_ids: Sequence[Sequence[Position]],
    ) -> Array:
        """`forward` with the layers of a table of addresses, that of `with_others` or its own."""
        counts = [len(ids) for ids in input_ids]
        assert counts
        assert min(counts) > 0
        if sum(counts) > PREFILL_IDS:
            return self._forward_in_parts(table, cache, slots, input_ids)
        x = self._embed_positions([position for own in input_ids for position in own])  # (T, D)
        self._run_layers(table, cache, slots, counts, x, 0, self.config.num_layers)
        for slot, count in zip(slots, counts):
            cache.lengths[slot] += count
        mean_square = self._mean_square(cache, slots, x)
        x *= (1 / np.sqrt(mean_square + np.float32(self.config.norm_eps)))[:, None]
        x *= self.final_norm_D
        return x

    def _run_layers(
        self,
        table: np.ndarray,
        cache: SlotCache,
        slots: Sequence[int],
        counts: Sequence[int],
        x: Array,
        first_layer: int,
        stop_layer: int,
    ) -> None:
        """Run some layers over the next ids of slots, x float32 (T, D), in place.

        table: of the layers, see `forward_by`. counts: ids of each slot. Lengths of the slots stay
        as they are.
        """
        sequences, first = [], 0
        for slot, count in zip(slots, counts):
            past, memory = cache.lengths[slot], cache.slot(slot)
            assert past + count <= memory.max_ids
            sequences.append((first, count, past, memory.address, memory.max_ids))
            first += count
        sequence_table = np.array(sequences, np.int64)
        config, kernels, T = self.config, self._kernels, first
        heads = config.num_heads + 2 * config.num_kv_heads
        widest = max(
            config.hidden_size, config.num_heads * config.head_dim, config.intermediate_size
        )
        self._threads.run(
            kernels.forward_layers,
            self._new_counters(kernels.num_phases(stop_layer - first_layer)),
            table, self._dtype_like, x, self._buffer(T, widest),
            np.empty((T, heads, config.head_dim), np.float32),
            np.empty((T, config.num_heads, config.head_dim), np.float32),
            np.empty((T, config.intermediate_size), np.float32),
            cache.cos_sin, sequence_table, self._kv_like, config.num_kv_heads,
            self._parts(sequence_table), np.float32(config.norm_eps), first_layer, stop_layer,
            self._threads.threads, owner=(self, cache),
        )  # fmt: skip

    def begin_reading(
        self, cache: SlotCache, slot: int, ids: Sequence[Position]
    ) -> CompiledReading:
        """See `LayeredDecoder.begin_reading`."""
        x, count = self._embed_positions(ids), len(ids)  # (T, D), kept between the layers

        def finish() -> None:
            cache.lengths[slot] += count
            self._mean_square(cache, [slot], x)

        run = partial(self._run_layers, self.layer_table, cache, [slot], [count], x)
        return CompiledReading(self.config.num_layers, run, finish)

    def _mean_square(self, cache: SlotCache, slots: Sequence[int], x: Array) -> Array:
        """(T,), of hidden states (T, D); slots that are left with NaN are said to the cache."""
        mean_square = np.einsum("td,td->t", x, x) / np.float32(self.config.hidden_size)
        if not np.isfinite(mean_square).all():
            for slot in slots:
                cache.taint(slot)
        return cast("Array", mean_square)

    def _forward_in_parts(
        self,
        table: np.ndarray,
        cache: SlotCache,
        slots: Sequence[int],
        input_ids: Sequence[Sequence[Position]],
    ) -> Array:
        """Halve the sequences, or cut a single one into parts of `PREFILL_IDS` ids."""
        half = len(input_ids) // 2
        if half:
            parts = [(slots[:half], input_ids[:half]), (slots[half:], input_ids[half:])]
        else:
            (ids,) = input_ids
            starts = range(0, len(ids), PREFILL_IDS)
            parts = [(slots, [ids[start : start + PREFILL_IDS]]) for start in starts]
        return np.concatenate([self.forward_by(table, cache, *part) for part in parts])

    def _embed_positions(self, positions: Sequence[Position]) -> Array:
        """Inputs float32 (T, D) of the first layer: of a position, its ids' embeddings' sum."""
        kinds = set(map(type, positions))
        if ContinuousPosition in kinds:
            plain = [0 if isinstance(p, ContinuousPosition) else p for p in positions]
            x = self._embed_positions(plain)
            for at, position in enumerate(positions):
                if isinstance(position, ContinuousPosition):
                    x[at] = position.vector
            return x
        if tuple not in kinds:
            return self.embed(cast("Sequence[int]", positions))
        every = [ids if isinstance(ids, tuple) else (cast("int", ids),) for ids in positions]
        sums = np.empty((len(every), self.config.hidden_size), np.float32)
        ends = np.cumsum([len(ids) for ids in every])
        self._sum_rows(self.embed([id for ids in every for id in ids]), ends, sums)
        return sums

    def begin_positions(self, hidden_states: Array) -> PositionCodes:
        """See `CodesDecoder.begin_positions`: by the depth decoder, or by the decoder's head."""
        if self._depth is None:
            return ParallelHeads(self, hidden_states)
        return CompiledPositions(self._depth, hidden_states)

    def write_positions(self, hidden_states: Array, choices: LevelChoices) -> list[list[int]]:
        """See `PositionWriter`."""
        assert self._depth is not None
        first = FirstHead(self._head, self.head_rows, self._buffer)
        return self._depth.write(hidden_states, choices, first)

    def head_rows(self, ranges: Ranges) -> Ranges:
        """Ids as rows of the head, here the same. ValueError for ids that have none."""
        return ranges

    def embed(self, ids: Sequence[int]) -> Array:
        """Embeddings of ids, float32 (T, D): the input of the first layer."""
        at = np.asarray(ids)
        packed = self._head if self._embedding is None else self._embedding
        if packed.ndim == 2:  # as it is stored
            return widen(packed[at])
        return self._format.rows(packed, at, self.config.hidden_size)

    def _parts(self, sequences: np.ndarray) -> Array:
        """Workspace for parts of sequences that threads share out, (0,) where they do not."""
        config, numbers = self.config, 0
        if (sequences[:, 1] + sequences[:, 2]).max() > self._part_ids:
            numbers = self._part_numbers(
                sequences, config.num_heads, config.num_kv_heads, config.head_dim,
                self._threads.threads,
            )  # fmt: skip
        return np.empty(numbers, np.float32)

    def _buffer(self, rows: int, inputs: int) -> Array:
        """Memory for so many rows of at most so many inputs, as products take them."""
        return np.empty(rows * self._format.words.py_func(inputs), self._format.inputs)

    def logits(self, hidden_states: Array, ranges: Ranges) -> Array:
        """See `Decoder.logits`."""
        return self._head_logits(hidden_states, [(len(hidden_states), self.head_rows(ranges))])[0]

    def logits_of_parts(
        self, hidden_states: Array, parts: Sequence[tuple[Sequence[int], Ranges]]
    ) -> list[Array]:
        """See `PartLogits`: one job of the threads, which takes longer to begin than to do."""
        rows = [row for part_rows, _ in parts for row in part_rows]
        sizes = [(len(part_rows), self.head_rows(ranges)) for part_rows, ranges in parts]
        return self._head_logits(hidden_states[rows], sizes)

    def _head_logits(self, x: Array, sizes: Sequence[tuple[int, Ranges]]) -> list[Array]:
        """Logits (rows, ids) of the first rows of x over ranges, of the next over others."""
        table: list[tuple[int, ...]] = []
        every: list[tuple[int, int]] = []
        row = numbers = most = 0
        for rows, ranges in sizes:
            outputs = sum(stop - start for start, stop in ranges)
            table.append((row, rows, len(every), len(ranges), outputs, numbers))
            every += ranges
            row, numbers, most = row + rows, numbers + rows * outputs, max(most, outputs)
        out = np.empty(numbers, np.float32)
        job = (
            self._new_counters(2), x, self._head, np.array(table, np.int64),
            np.array(every, np.int64), self._buffer(len(x), self.config.hidden_size), out,
            self._threads.threads,
        )  # fmt: skip
        if most > _FEW_OUTPUTS:
            self._threads.run(self._lm_head, *job, owner=self)
        else:
            self._lm_head(*job)
        return [
            out[at : at + rows * outputs].reshape(rows, outputs)
            for _, rows, _, _, outputs, at in table
        ]

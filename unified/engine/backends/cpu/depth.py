"""The depth decoder in compiled loops: `unified.engine.backends.depth_module` for sampling.

Its layers are those of the decoder (`kernels`), over sequences of at most as many positions as ids
stand together. Rows that write other things meanwhile cost nothing here, and those that are in it
have the same bits in any company.

Shape legend: `N` positions that are being filled, `D` width of the depth decoder, `E` width of the
hidden states, `T` new inputs of all positions; otherwise as in `kernels`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from unified.engine.backends.base import Array, Ranges
from unified.engine.backends.cpu.cache import MemoryPool, slot_words
from unified.engine.backends.cpu.config import PANEL, LlamaCpuConfig
from unified.engine.backends.cpu.depth_levels import LevelPlan, part_table, range_table
from unified.engine.backends.cpu.stored import StoredWeight, Weight, widen
from unified.engine.backends.depth_config import DepthConfig
from unified.engine.backends.level_choices import LevelChoices
from unified.engine.race import BLOCK

__all__ = ["CompiledDepth"]

_MOST_PLANS = 64
# Products of so many numbers are done sooner by one thread than others are woken for them.
_FEW_NUMBERS = 1 << 20
_NO_PARTS = np.empty(0, np.float32)


class FirstHead(NamedTuple):
    """The decoder's own head, for the first ids of positions.

    weight: packed. rows: ids as rows of it. buffer: of `linear.lm_head`, for so many rows of so
    many inputs.
    """

    weight: Weight
    rows: Callable[[Ranges], Ranges]
    buffer: Callable[[int, int], np.ndarray]


class CompiledDepth:
    """Weights of a depth decoder in the layout of the kernels; any number of threads may use it."""

    def __init__(
        self,
        config: DepthConfig,
        weights: Mapping[str, StoredWeight],
        input_size: int,
        dots: bool,
        memory: MemoryPool,
    ) -> None:
        """
        Args:
            config: its sizes.
            weights: by the names of `DepthDecoder`; of any type of `stored`.
            input_size: width of the hidden states that the decoder gives.
            dots: whether bfloat16 may be multiplied as such.
            memory: where keys and values of positions lie.

        Raises ValueError where names, shapes or widths do not fit.
        """
        from unified.engine.backends.cpu import (
            depth_kernels,
            kernels,
            level_kernels,
            linear,
            threads,
        )
        from unified.engine.backends.cpu.kv import KV_FORMATS
        from unified.engine.backends.cpu.matmul import HALF_SUPPORTED
        from unified.engine.backends.cpu.products import stored_format

        if config.input_size != input_size:
            raise ValueError(
                f"the depth decoder takes hidden states of {config.input_size} numbers, the decoder"
                f" gives {input_size}; they do not belong together"
            )
        config.check(weights)
        self.config, self.memory = config, memory
        stored = {weight.dtype for weight in weights.values() if weight.ndim > 1}
        dtype = stored.pop() if len(stored) == 1 else np.dtype(np.float32)
        self._format = stored_format(dtype, dots=dots)
        self._fill_level, self._lm_head = depth_kernels.fill_level, linear.lm_head
        self._write_levels, self._num_write_phases = (
            level_kernels.write_levels, level_kernels.num_write_phases
        )  # fmt: skip
        self._num_phases = depth_kernels.num_level_phases(config.num_layers)
        self._eps = np.float32(config.norm_eps)
        self._new_counters = threads.new_counters
        self._threads = threads.ThreadPool.shared()

        def packed(name: str, depth: int) -> Weight | None:
            weight = weights.get(name)
            if weight is None:
                return None
            if weight.ndim == 1:
                return np.ascontiguousarray(widen(weight))
            if weight.ndim == 3:  # (K, O, I): this depth's
                return self._format.pack(np.ascontiguousarray(weight[depth : depth + 1][0]))
            return self._format.pack(weight)

        depths = config.num_ids if config.per_level else 1
        # Alive as long as their addresses are in use.
        self._weights = [
            packed(f"layers.{layer}.{name}", depth)
            for depth in range(depths)
            for layer in range(config.num_layers)
            for name in kernels.LAYER
        ]
        addresses = [0 if w is None else w.ctypes.data for w in self._weights]
        # (depths, layers, tensors)
        self._tables = np.array(addresses, np.int64).reshape(depths, config.num_layers, -1)
        projection, head = packed("projection.weight", 0), packed("lm_head.weight", 0)
        assert projection is not None
        assert head is not None
        self._projection, self._head = projection, head
        self._embedding: Weight = np.ascontiguousarray(weights["embed_tokens.weight"][:])
        if self._embedding.dtype == np.int16 and not HALF_SUPPORTED:
            self._embedding = widen(self._embedding)
        self._embedding_like = np.empty(0, self._embedding.dtype)
        self._norm_D = widen(weights["norm.weight"])
        self._dtype_like = np.empty(0, self._format.dtype)
        self._kv_like = np.empty(0, KV_FORMATS["float32"].dtype)
        angles = np.outer(np.arange(config.num_ids), config.angles)
        self._cos_sin = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        self._layer_numbers = (
            sum(int(np.prod(shape)) for name, shape in config.shapes().items() if "layers" in name)
            // depths
        )
        self._plans: dict[tuple[int, int, tuple[Ranges, ...]], LevelPlan] = {}
        self.slot_ids = -(-config.num_ids // PANEL) * PANEL
        self.slot_words = sum(slot_words(_as_llama(config), config.num_ids))

    def project(self, hidden_states: Array) -> Array:
        """The first inputs (N, D) of positions, from hidden states (N, E)."""
        return self._product(hidden_states, self._projection, ((0, self.config.hidden_size),))

    def embed(self, ids: Sequence[int]) -> Array:
        """Embeddings (T, D) of ids, all with rows."""
        return widen(self._embedding[self.config.rows[list(ids)]])

    def logits(self, states: Array, rows: Ranges) -> Array:
        """Logits (N, outputs of all ranges) of states (N, D). rows: of the head, as ranges."""
        return self._product(states, self._head, rows)

    def fill(
        self, x: Array, sequences: np.ndarray, last: np.ndarray, depth: int, rows: Ranges
    ) -> tuple[Array, Array | None]:
        """States (N, D) behind the final norm, and logits of them.

        Args:
            x: float32 (T, D), inputs; overwritten.
            sequences: see `kernels.forward_layers`.
            last: int64 (N,), the row of x of each position's last input.
            depth: whose weights are taken, where every depth has its own.
            rows: of the head, as ranges, that logits are of; (): none.
        """
        config, T, N = self.config, len(x), len(last)
        heads, C = config.num_heads + 2 * config.num_kv_heads, config.head_dim
        widest = max(config.hidden_size, config.num_heads * C, config.intermediate_size)
        states = np.empty((N, config.hidden_size), np.float32)
        outputs = sum(stop - start for start, stop in rows)
        numbers = T * self._layer_numbers + N * outputs * config.hidden_size
        threads = self._threads.threads if numbers > _FEW_NUMBERS else 1
        out = np.empty(N * outputs, np.float32)
        job = (
            self._new_counters(self._num_phases),
            self._tables[depth if config.per_level else 0],
            self._dtype_like,
            x,
            self._buffer(T, widest),
            np.empty((T, heads, C), np.float32),
            np.empty((T, config.num_heads, C), np.float32),
            np.empty((T, config.intermediate_size), np.float32),
            self._cos_sin,
            sequences,
            self._kv_like,
            config.num_kv_heads,
            _NO_PARTS,
            self._eps,
            self._norm_D,
            last,
            states,
            self._head,
            part_table(N, rows, outputs),
            range_table(rows),
            out,
            threads,
        )
        if threads > 1:
            self._threads.run(self._fill_level, *job, owner=self)
        else:
            self._fill_level(*job)
        return states, out.reshape(N, outputs) if rows else None

    def write(
        self, hidden_states: Array, choices: LevelChoices, first: FirstHead
    ) -> list[list[int]]:
        """See `PositionWriter.write_positions`. hidden_states: float32 (N, E)."""
        config, (N, K) = self.config, choices.ids.shape
        plan = self._plan(N, K, choices.ranges, first)
        D, T = config.hidden_size, N * plan.width
        memory = self.memory.get(N * self.slot_words)
        sequences = plan.sequences.copy()
        size = self.slot_words * memory.itemsize
        sequences[:, :, 3] = memory.ctypes.data + size * np.arange(N)
        ids = np.empty((N, K + len(choices.ranges)), np.int64)
        ids[:, :K] = choices.ids
        sure = np.zeros(N, np.int64)
        states = np.empty((len(plan.steps), N, D), np.float32)
        heads, C = config.num_heads + 2 * config.num_kv_heads, config.head_dim
        widest = max(D, config.num_heads * C, config.intermediate_size, config.input_size)
        numbers = N * (plan.inputs * self._layer_numbers + D * sum(plan.outputs))
        threads = self._threads.threads if numbers > _FEW_NUMBERS else 1
        job = (
            self._new_counters(self._num_write_phases(config.num_layers, len(plan.steps))),
            self._tables,
            self._dtype_like,
            hidden_states,
            first.weight,
            first.buffer(N, config.input_size),
            self._projection,
            np.empty(N * D, np.float32),
            self._embedding.ctypes.data,
            self._embedding_like,
            len(self._embedding),
            config.rows,
            np.empty((T, D), np.float32),
            self._buffer(T, widest),
            np.empty((T, heads, C), np.float32),
            np.empty((T, config.num_heads, C), np.float32),
            np.empty((T, config.intermediate_size), np.float32),
            self._cos_sin,
            plan.steps,
            sequences,
            plan.last,
            self._kv_like,
            config.num_kv_heads,
            _NO_PARTS,
            self._eps,
            self._norm_D,
            states,
            self._head,
            plan.head_parts,
            plan.head_ranges,
            plan.id_ranges,
            plan.range_ends,
            np.empty(N * max(plan.outputs), np.float32),
            choices.settings,
            choices.noise,
            plan.noise_ends,
            BLOCK,
            ids,
            sure,
            threads,
        )
        if threads > 1:
            self._threads.run(self._write_levels, *job, owner=(self, memory))
        else:
            self._write_levels(*job)
        if np.isfinite(states).all():
            self.memory.put(memory)
        return [row[K : K + number] for row, number in zip(ids.tolist(), sure.tolist())]

    def _plan(self, N: int, K: int, ranges: tuple[Ranges, ...], first: FirstHead) -> LevelPlan:
        plan = self._plans.get((N, K, ranges))
        if plan is None:
            plan = LevelPlan(self.config, self.slot_ids, N, K, ranges, first.rows)
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            self._plans[N, K, ranges] = plan
        return plan

    def _product(self, x: Array, weight: Weight, rows: Ranges) -> Array:
        outputs = sum(stop - start for start, stop in rows)
        out = np.empty(len(x) * outputs, np.float32)
        threads = self._threads.threads if x.size * outputs > _FEW_NUMBERS else 1
        job = (
            self._new_counters(2), x, weight, part_table(len(x), rows, outputs), range_table(rows),
            self._buffer(len(x), x.shape[1]), out, threads,
        )  # fmt: skip
        if threads > 1:
            self._threads.run(self._lm_head, *job, owner=self)
        else:
            self._lm_head(*job)
        return out.reshape(len(x), outputs)

    def _buffer(self, rows: int, inputs: int) -> Array:
        return np.empty(rows * self._format.words.py_func(inputs), self._format.inputs)


def _as_llama(config: DepthConfig) -> LlamaCpuConfig:
    """The same sizes as those of a decoder, for its memory."""
    return LlamaCpuConfig(
        hidden_size=config.hidden_size, num_layers=config.num_layers, num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads, head_dim=config.head_dim,
        intermediate_size=config.intermediate_size, vocab_size=config.num_rows,
        max_position_embeddings=config.num_ids, norm_eps=config.norm_eps,
        inv_freq=config.angles, qk_norm=False,
        tie_word_embeddings=False,
    )  # fmt: skip

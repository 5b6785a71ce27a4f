"""The decoder at sampling time: checkpoints of the Llama family in one compiled call a step.

Legend: `N` rows stepping now, `T` new ids of all rows, `L` cache length, `H` query heads, `G`
key/value heads, `C` head width, `D` width, `F` feed-forward width, `V` vocabulary.

`transformers.generate` spends most of a small model's time outside the matrix products. Here a step
is one call of compiled code (`kernels`) which threads share, caches are static, rows of any
length go together without padding, and the head multiplies only the rows which the grammar allows
now. Weights stay in the type they are stored in.

Why compiled loops and not torch or numpy: a small model's step is bound by reading its weights
once. For the pocket sizes (15.3M weights in layers, two cores of a Xeon with AVX-512, 150 ids in
the cache) a step took 3.0 ms in torch, float32 or bfloat16, 7.9 ms after torch.compile, 3.0 ms in
numpy; here 1.2 ms, and 0.8 ms with bfloat16 weights, which a checkpoint stored as such loses
nothing by.

Architectures outside `SlimConfig.covers` run through `unified.engine.backends.transformers`.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# Nothing of numba is imported before a decoder is made: it takes a second, and most commands need
# none of it.
from unified.engine.backends.cpu.config import PANEL, SlimConfig

Array = NDArray[np.float32]
# float32, or uint16: bfloat16 as the upper halves of float32 numbers.
Weight = NDArray[Any]
Ranges = tuple[tuple[int, int], ...]

# Longer prompts are fed in pieces, so that what is made on the way stays small.
PREFILL_IDS = 512
_FEW = 256


class Cache(Protocol):
    """What a decoder keeps of the rows of one batch; `lengths[row]` ids are in it."""

    lengths: list[int]

    def fork(self, source: int, target: int, length: int | None = None) -> None:
        """Make row `target` a copy of row `source`, or of its first ids: prompts that begin alike
        are read once. See `cut`."""

    def cut(self, row: int, length: int) -> None:
        """Forget all ids of a row but the first; all, where those alone cannot be told apart."""

    def move(self, source: int, target: int) -> None:
        """Put row `source` in the place of row `target`, which is finished."""

    def clear(self, row: int) -> None:
        """Make `row` empty, for another sequence."""


class Decoder(Protocol):
    """What sampling asks of a decoder. Rows step together; each has a length of its own."""

    vocab_size: int
    max_ids: int  # positions

    def cache(self, rows: int, max_ids: int) -> Any:
        """A Cache for `rows` rows of at most `max_ids` ids; ValueError past the positions."""

    def feed(self, cache: Any, places: Sequence[int], ids: Sequence[Sequence[int]]) -> Array:
        """Feed one or more ids to each of some rows. Returns features (T, D), one line an id: all
        those of the first row, then those of the next."""

    def logits(self, features: Array, ranges: Ranges) -> Array:
        """float32 (N, sum of range lengths): the logits of the ids in `ranges`, in that order."""


class StaticCache:
    """Keys and values, in the panels of `kernels`, allocated once for the whole budget."""

    def __init__(
        self, config: SlimConfig, rows: int, max_ids: int, turns: Array, spare: deque[Array]
    ) -> None:
        """turns: cosines and sines of `max_ids` positions or more. spare: memory of a cache that
        is no longer in use, or none; it goes back there."""
        heads = config.num_layers, rows, config.num_kv_heads
        panels, across = -(-max_ids // PANEL), -(-config.head_width // PANEL)
        keys = (*heads, panels, config.head_width, PANEL)
        values = (*heads, across, panels * PANEL, PANEL)
        numbers = math.prod(keys) + math.prod(values)
        try:
            memory = spare.pop()
        except IndexError:  # none, or another thread was faster
            memory = np.zeros(0, np.float32)
        if memory.size < numbers:
            # Zeros, since what lies behind the last id is multiplied by zero.
            memory = np.zeros(numbers, np.float32)
        self.keys = memory[: math.prod(keys)].reshape(keys)
        self.values = memory[math.prod(keys) : numbers].reshape(values)
        self.max_ids = max_ids
        self.turns = turns
        self.lengths = [0] * rows
        # New pages are cleared when they are touched: 8% of the time that sixteen pictures take.
        self._returning = weakref.finalize(self, spare.append, memory)

    def keep_memory(self) -> None:
        """Let no other cache have the memory of this one: it holds what is no number, which stays
        so when it is multiplied by zero."""
        self._returning.detach()

    def fork(self, source: int, target: int, length: int | None = None) -> None:
        length = self.lengths[source] if length is None else length
        panels = -(-length // PANEL)
        self.keys[:, target, :, :panels] = self.keys[:, source, :, :panels]
        self.values[:, target, :, :, :length] = self.values[:, source, :, :, :length]
        self.lengths[target] = length

    def move(self, source: int, target: int) -> None:
        if source != target:
            self.fork(source, target)
        self.clear(source)

    def clear(self, row: int) -> None:
        self.lengths[row] = 0

    def cut(self, row: int, length: int) -> None:
        assert length <= self.lengths[row]
        self.lengths[row] = length


class SlimDecoder:
    """A decoder of the Llama family for sampling on the CPU; computed in float32.

    Logits agree with transformers' Llama, Mistral, Qwen2 and Qwen3 up to rounding. A row's logits
    are the same bits alone and in any batch, fed at once or id by id. Any number of threads may use
    one decoder at once, each with caches of its own.
    """

    def __init__(self, config: SlimConfig, weights: Mapping[str, Weight]) -> None:
        """weights: float32 or bfloat16 (see `Weight`), by their Hugging Face names. They are packed
        into a layout of their own: later changes do not show. ValueError if they do not fit."""
        from unified.engine.backends.cpu import kernels
        from unified.engine.backends.cpu import threads as team
        from unified.engine.backends.cpu.matmul import pack

        config.check(weights)
        self.config = config
        self._kernels = kernels
        self._new_progress = team.new_progress
        self.vocab_size = config.vocab_size
        self.max_ids = config.max_ids
        # All matrices of one type: that of the stored ones, float32 where they differ.
        alike = {w.dtype for w in weights.values() if w.ndim == 2} == {np.dtype(np.uint16)}
        names = [
            f"model.layers.{layer}.{name}"
            for layer in range(config.num_layers)
            for name in kernels.LAYER
        ]

        def kept(name: str) -> Any:
            weight = weights.get(name)
            if weight is None or weight.ndim == 1:
                return None if weight is None else np.ascontiguousarray(widen(weight))
            return pack(weight if alike else widen(weight))

        embedding = "model.embed_tokens.weight"
        # Packed for the head; an embedding is a line across a panel.
        self._head: Weight = kept(embedding if config.tied else "lm_head.weight")
        self._embedding = None if config.tied else weights[embedding]
        self.final_norm_D = widen(weights["model.norm.weight"])
        self._weights = [kept(name) for name in names]  # alive while their addresses are in use
        addresses = [0 if w is None else w.ctypes.data for w in self._weights]
        self._table = np.array(addresses, np.int64).reshape(config.num_layers, -1)
        self._like = np.empty(0, np.uint16 if alike else np.float32)
        # Of as many positions as any cache has asked for. A longer table takes its place as a
        # whole, and every cache has the one that it was made with: threads share no more.
        self._turns = np.ones((0, 2, config.head_width // 2), np.float32)
        self._turning = threading.Lock()
        self._team = team.Team.shared()
        # The memory of one cache at most, and no lock: it comes back whenever one is collected.
        self._spare: deque[Array] = deque(maxlen=1)

    def cache(self, rows: int, max_ids: int) -> StaticCache:
        config = self.config
        if max_ids > config.max_ids:
            raise ValueError(
                f"{max_ids} ids asked for, but the decoder has {config.max_ids} positions; "
                "lower max_ids"
            )
        return StaticCache(config, rows, max_ids, self._rotations(max_ids), self._spare)

    def _rotations(self, length: int) -> Array:
        """Cosines and sines (L, 2, C/2) of at least so many positions."""
        with self._turning:
            if length > len(self._turns):
                angle = np.outer(np.arange(length), self.config.rope)
                turns = np.stack([np.cos(angle), np.sin(angle)], axis=1)
                self._turns = (self.config.rope_scale * turns).astype(np.float32)
            return self._turns

    def feed(
        self, cache: StaticCache, places: Sequence[int], ids: Sequence[Sequence[int]]
    ) -> Array:
        counts = [len(row) for row in ids]
        assert counts
        assert min(counts) > 0
        if sum(counts) > PREFILL_IDS:
            half = len(ids) // 2
            parts = [(places[:half], ids[:half]), (places[half:], ids[half:])]
            if not half:
                at = range(0, counts[0], PREFILL_IDS)
                parts = [(places, [ids[0][start : start + PREFILL_IDS]]) for start in at]
            return np.concatenate([self.feed(cache, *part) for part in parts])
        rows, begin = [], 0
        for place, count in zip(places, counts):
            past = cache.lengths[place]
            assert past + count <= cache.max_ids
            rows.append((begin, count, place, past))
            begin += count
        config, kernels, T = self.config, self._kernels, begin
        x = self.embed([id for row in ids for id in row])
        heads = config.num_heads + 2 * config.num_kv_heads
        self._team.run(
            kernels.step,
            self._new_progress(kernels.phases(config.num_layers)),
            self._table,
            self._like,
            x,
            np.empty((T, heads, config.head_width), np.float32),
            np.empty((T, config.num_heads, config.head_width), np.float32),
            np.empty((T, config.ffn_width), np.float32),
            cache.turns,
            np.array(rows, np.int64),
            cache.keys,
            cache.values,
            np.float32(config.norm_eps),
            kernels.chunk_size(config.width, self._team.threads),
            keeps=self,
        )
        for place, count in zip(places, counts):
            cache.lengths[place] += count
        mean_square = np.einsum("td,td->t", x, x) / np.float32(config.width)
        if not np.isfinite(mean_square).all():
            cache.keep_memory()
        x *= (1 / np.sqrt(mean_square + np.float32(config.norm_eps)))[:, None]
        x *= self.final_norm_D
        return x

    def embed(self, ids: Sequence[int]) -> Array:
        """Float32 (T, D), what the first layer sees of ids."""
        at = np.asarray(ids)
        if self._embedding is not None:
            return widen(self._embedding[at])
        return np.ascontiguousarray(widen(self._head[at // PANEL, :, at % PANEL]))

    def logits(self, features: Array, ranges: Ranges) -> Array:
        kernels = self._kernels
        outputs = sum(stop - start for start, stop in ranges)
        made = np.empty((len(features), outputs), np.float32)
        size = kernels.chunk_size(outputs, self._team.threads)
        job = features, self._head, np.array(ranges, np.int64), made, size
        # Few outputs take less time than it takes to wake anyone.
        if outputs > _FEW:
            self._team.run(kernels.head, self._new_progress(1), *job, keeps=self)
        else:
            kernels.head(self._new_progress(1), *job)
        return made


def compile_kernels() -> None:
    """Compile the decoder's loops for this processor, once, where that has not been done: some ten
    seconds, which the first sampling takes otherwise."""
    config = SlimConfig(2, 1, 1, 1, 2, 2, 2, 2, 1e-6, (1.0,), qk_norm=False, tied=True)
    for dtype in (np.uint16, np.float32):
        weights = {name: np.zeros(shape, dtype) for name, shape in config.shapes().items()}
        decoder = SlimDecoder(config, weights)
        decoder.logits(decoder.feed(decoder.cache(1, 1), [0], [[0]]), ((0, 1),))


def widen(weight: Weight) -> Array:
    """Float32 from float32, or from the bfloat16 of `Weight`; exact."""
    if weight.dtype == np.uint16:
        return (weight.astype(np.uint32) << 16).view(np.float32)
    return weight.astype(np.float32, copy=False)

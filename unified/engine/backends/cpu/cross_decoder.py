"""Decoders with a text encoder in compiled loops: one call for a pass, one product for all heads.

What `unified.models.encoder_decoder` computes in torch, operation by operation, which takes longer
than what they compute: the encoder reads a text once, alone and as a whole; its keys and values of
all layers are one product; a pass over positions of codes is one call (`cross_kernels`), rows of
any lengths and texts side by side without padding; and the heads of all levels of a position are
one product, whichever level is asked for first.

Shape legend: see `cross_kernels`; `T` new positions of codes of all sequences, `K` levels, `R` rows
of each one's table, `E` width of the encoder's states.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar
from weakref import WeakValueDictionary

import numpy as np

from unified.engine.backends.base import Array, Position, PositionCodes, Ranges
from unified.engine.backends.cpu.cache import CACHE_DTYPES, MemoryPool, slot_words
from unified.engine.backends.cpu.cross_cache import CrossCache, EncodedText, text_words
from unified.engine.backends.cpu.cross_config import CrossCpuConfig
from unified.engine.backends.cpu.decoder import PREFILL_IDS
from unified.engine.backends.cpu.settings import ARITHMETIC, CACHE_DTYPE, chosen_type
from unified.engine.backends.cpu.stored import StoredWeight, Weight, widen
from unified.engine.backends.text_first import SlotCodes, level_ranges, read_texts
from unified.engine.memory import available_bytes

__all__ = ["CrossCpuDecoder"]

Encode = Callable[[list[int]], Array]
"""States float32 (S, E) of a text's ids, S of the encoder's own making."""


class CrossCpuDecoder:
    """The decoder of the engine (`unified.engine.backends.base`); exact as `LlamaCpuDecoder` is."""

    backend: ClassVar[str] = "cpu"
    batch_invariant: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        config: CrossCpuConfig,
        weights: Mapping[str, StoredWeight],
        encode: Encode,
        positions: Array | None = None,
        without_head: Sequence[int] = (),
        arithmetic: str | None = None,
        cache_dtype: str | None = None,
    ) -> None:
        """
        Args:
            name: of the model, for people.
            config: its sizes.
            weights: by the names of `CrossCpuConfig.shapes`, of any type of `stored`.
            encode: the text encoder.
            positions: float32 (positions, D), added to embeddings; None: nothing is.
            without_head: ids that are read and never written; their rows of the head are padding.
            arithmetic, cache_dtype: see `LlamaCpuDecoder`.

        Raises ValueError where names or shapes do not fit, and for weights to quantize that are NaN
        or infinite.
        """
        from unified.engine.backends.cpu import cross_kernels, embeddings, heads, linear, threads
        from unified.engine.backends.cpu.kv import KV_FORMATS
        from unified.engine.backends.cpu.products import pack_weight, stored_format

        arithmetic = chosen_type("arithmetic", arithmetic, ARITHMETIC, ("auto", "float32"))
        cache_dtype = chosen_type("cache_dtype", cache_dtype, CACHE_DTYPE, tuple(CACHE_DTYPES))
        config.check(weights)
        self.name, self.config, self._encode = name, config, encode
        self.vocab_size, self.max_positions = config.vocab_size, config.max_positions
        self._kernels, self._lm_head, self._heads = cross_kernels, linear.lm_head, heads
        self._sum_rows, self._new_counters = embeddings.sum_rows, threads.new_counters
        self._threads = threads.ThreadPool.shared()
        products = {n: w for n, w in weights.items() if w.ndim == 2 and n != "embed_tokens.weight"}
        stored = {weight.dtype for weight in products.values()}
        dtype = stored.pop() if len(stored) == 1 else np.dtype(np.float32)
        self._format = stored_format(dtype, dots=arithmetic == "auto")
        self.arithmetic = self._format.name

        def packed(name: str) -> Weight | None:
            return pack_weight(self._format, weights, name)

        head, text_kv = packed("lm_head.weight"), packed("text_kv.weight")
        assert head is not None
        assert text_kv is not None
        self._head, self._text_kv = head, text_kv
        self._embedding: Weight = weights["embed_tokens.weight"][:]
        self._positions = positions
        self._without_head = np.array(without_head, np.int64) - config.first
        # Alive as long as their addresses are in use.
        self._weights = [
            packed(f"layers.{layer}.{name}")
            for layer in range(config.num_layers)
            for name in cross_kernels.CROSS_LAYER
        ]
        addresses = [0 if w is None else w.ctypes.data for w in self._weights]
        self._table = np.array(addresses, np.int64).reshape(config.num_layers, -1)
        self._norm_D = widen(weights["norm.weight"])
        bias = packed("norm.bias")
        self._bias_D: Array = np.empty(0, np.float32) if bias is None else bias
        self._dtype_like = np.empty(0, self._format.dtype)
        self.cache_dtype, self._kv_like = cache_dtype, np.empty(0, KV_FORMATS[cache_dtype].dtype)
        self._text_like = np.empty(0, np.float32)
        self._cos_sin = np.ones((0, 2, config.head_dim // 2), np.float32)
        self._growing = threading.Lock()
        # Texts that some slot of some cache holds.
        self._encoded = WeakValueDictionary[tuple[int, ...], EncodedText]()
        self.memory = MemoryPool()

    def available_bytes(self) -> int:
        """See `Decoder.available_bytes`."""
        return available_bytes()

    def cache_bytes(self, max_ids: int) -> int:
        """See `Decoder.cache_bytes`; as if every id were both read by the encoder and written."""
        codes = sum(slot_words(self.config.of_codes, max_ids, self.cache_dtype))
        return 4 * (codes + text_words(self.config, max_ids))

    def new_cache(self, num_slots: int = 0, max_ids: int = 0) -> CrossCache:
        """See `Decoder.new_cache`."""
        cache = CrossCache(self.config, self.memory, self._rotations, self.cache_dtype)
        for _ in range(num_slots):
            cache.allocate(max_ids)
        return cache

    def _rotations(self, length: int) -> Array:
        """Cosines and sines (L, 2, C/2) of at least so many positions.

        Kernels divide scores by the root of a head's width. Where the model does not, queries and
        keys are each longer by its fourth root.
        """
        if length > self.max_positions:
            raise ValueError(
                f"{length} ids asked for, but the decoder has {self.max_positions} positions; "
                "lower max_ids"
            )
        config = self.config
        with self._growing:
            if length > len(self._cos_sin):
                angles = np.outer(np.arange(length), config.inv_freq)  # (L, C/2)
                cos_sin = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # (L, 2, C/2)
                factor = 1.0 if config.scaled else config.head_dim**0.25
                self._cos_sin = (factor * cos_sin).astype(np.float32)
            return self._cos_sin

    def forward(
        self, cache: CrossCache, slots: Sequence[int], input_ids: Sequence[Sequence[Position]]
    ) -> Array:
        """See `Decoder.forward`; hidden states (T, D) after the final norm, zeros of text.

        Raises ValueError for text behind codes.
        """
        rows = read_texts(cache, slots, input_ids)
        with_codes = [row for row in rows if row.codes]
        try:
            states = self._read(cache, with_codes) if with_codes else None
        except BaseException:
            for slot in slots:
                cache.reset(slot)
            raise
        if states is not None and not any(row.num_text for row in rows):
            return states
        every = sum(row.num_text + len(row.codes) for row in rows)
        padded, at, first = np.zeros((every, self.config.hidden_size), np.float32), 0, 0
        for row in rows:
            at += row.num_text
            if row.codes:
                assert states is not None
                padded[at : at + len(row.codes)] = states[first : first + len(row.codes)]
            at, first = at + len(row.codes), first + len(row.codes)
        return padded

    def _read(self, cache: CrossCache, rows: Sequence[SlotCodes]) -> Array:
        """Hidden states (T, D) of new positions of codes, at most `PREFILL_IDS` of them at once."""
        if sum(len(row.codes) for row in rows) > PREFILL_IDS:
            half = len(rows) // 2
            parts = [rows[:half], rows[half:]]
            if not half:
                (row,) = rows
                starts = range(0, len(row.codes), PREFILL_IDS)
                parts = [
                    [row._replace(codes=row.codes[start : start + PREFILL_IDS])] for start in starts
                ]
            return np.concatenate([self._read(cache, part) for part in parts])
        self._encode_texts(cache, [row.slot for row in rows])
        sequences, texts, first = [], [], 0
        for slot, codes, _ in rows:
            past, memory, text = cache.num_codes(slot), cache.codes.slot(slot), cache.encoded[slot]
            assert text is not None
            assert past + len(codes) <= memory.max_ids
            sequences.append((first, len(codes), past, memory.address, memory.max_ids))
            address = text.memory.ctypes.data
            texts += [
                (first + at, 1, text.num_ids - 1, address, text.room) for at in range(len(codes))
            ]
            first += len(codes)
        config, T = self.config, first
        H, C, G = config.num_heads, config.head_dim, config.num_kv_heads
        text_shape = (T, config.text_heads, config.text_head_dim)
        table = np.array(sequences, np.int64)
        x = self._embed([codes for row in rows for codes in row.codes])
        if self._positions is not None:
            x += self._positions[np.concatenate([np.arange(p, p + c) for _, c, p, *_ in sequences])]
        states = np.empty_like(x)
        widest = max(config.hidden_size, H * C, text_shape[1] * text_shape[2],
                     config.intermediate_size)  # fmt: skip
        self._threads.run(
            self._kernels.forward_cross_layers,
            self._new_counters(self._kernels.num_cross_phases(config.num_layers)),
            self._table,
            self._dtype_like,
            x,
            self._buffer(T, widest),
            np.empty((T, H + 2 * G, C), np.float32),
            np.empty((T, H, C), np.float32),
            np.empty(text_shape, np.float32),
            np.empty(text_shape, np.float32),
            np.empty((T, config.intermediate_size), np.float32),
            cache.codes.cos_sin,
            table,
            self._kv_like,
            G,
            np.array(texts, np.int64),
            self._text_like,
            config.text_kv_heads,
            self._parts(table),
            np.float32(config.norm_eps),
            self._norm_D,
            self._bias_D,
            states,
            self._threads.threads,
            owner=(self, cache),
        )
        finite = bool(np.isfinite(states).all())
        for slot, codes, _ in rows:
            cache.codes.lengths[slot] += len(codes)
            cache.lengths[slot] += len(codes)
            if not finite:
                cache.codes.taint(slot)
        return states

    def _encode_texts(self, cache: CrossCache, slots: Sequence[int]) -> None:
        """Read the texts of some slots, each alone, so that it has the same bits in any company."""
        config = self.config
        for slot in slots:
            if cache.encoded[slot] is not None:
                continue
            text = tuple(cache.texts[slot])
            encoded = self._encoded.get(text)
            if encoded is None:
                outputs = 2 * config.num_layers * config.text_kv_heads * config.text_head_dim
                # Without a text, one key and one value of zeros, which add nothing.
                keys_values = np.zeros((1, outputs), np.float32)
                if text:
                    states = np.ascontiguousarray(self._encode(list(text)), np.float32)
                    keys_values = self._product(states, self._text_kv, ((0, outputs),))
                    if not config.scaled:
                        by_kind = keys_values.reshape(len(states), config.num_layers, 2, -1)
                        by_kind[:, :, 0] *= np.float32(config.text_head_dim**0.5)
                encoded = self._encoded[text] = EncodedText.of(config, keys_values)
            cache.encoded[slot] = encoded

    def _embed(self, positions: Sequence[tuple[int, ...]]) -> Array:
        """Sums of embeddings, float32 (T, D)."""
        ends = np.cumsum([len(codes) for codes in positions])
        ids = np.array([id for codes in positions for id in codes]) - self.config.first
        sums = np.empty((len(positions), self.config.hidden_size), np.float32)
        self._sum_rows(widen(self._embedding[ids]), ends, sums)
        return sums

    def _parts(self, sequences: np.ndarray) -> Array:
        """Workspace for parts of sequences that threads share out, (0,) where they do not."""
        config, numbers = self.config, 0
        if (sequences[:, 1] + sequences[:, 2]).max() > self._heads.PART_IDS:
            numbers = self._heads.part_numbers(
                sequences, config.num_heads, config.num_kv_heads, config.head_dim,
                self._threads.threads,
            )  # fmt: skip
        return np.empty(numbers, np.float32)

    def _buffer(self, rows: int, inputs: int) -> Array:
        return np.empty(rows * self._format.words.py_func(inputs), self._format.inputs)

    def _product(self, x: Array, weight: Weight, ranges: Ranges) -> Array:
        """x (N, inputs) times rows of a packed weight: (N, outputs of all ranges)."""
        outputs = sum(stop - start for start, stop in ranges)
        out = np.empty(len(x) * outputs, np.float32)
        self._threads.run(
            self._lm_head,
            self._new_counters(2),
            np.ascontiguousarray(x),
            weight,
            np.array([(0, len(x), 0, len(ranges), outputs, 0)], np.int64),
            np.array(ranges, np.int64),
            self._buffer(len(x), x.shape[1]),
            out,
            self._threads.threads,
            owner=self,
        )
        return out.reshape(len(x), outputs)

    def head_rows(self, ranges: Ranges) -> Ranges:
        """Ids as rows of the head. Raises ValueError for ids of text."""
        config, rows = self.config, self.config.codebook_rows
        return tuple(
            (level * rows + start, level * rows + stop)
            for level, start, stop in level_ranges(self.name, ranges, config.first, rows)
        )

    def level_logits(self, hidden_states: Array, rows: Ranges) -> Array:
        """Logits (N, outputs) of rows of the head; -inf of those that it has not."""
        logits = self._product(hidden_states, self._head, rows)
        column = 0
        for start, stop in rows:
            missing = self._without_head[
                (self._without_head >= start) & (self._without_head < stop)
            ]
            logits[:, column + missing - start] = -np.inf
            column += stop - start
        return logits

    def logits(self, hidden_states: Array, ranges: Ranges) -> Array:
        """See `Decoder.logits`. Raises ValueError for ids of text."""
        return self.level_logits(hidden_states, self.head_rows(ranges))

    def begin_positions(self, hidden_states: Array) -> PositionCodes:
        """See `CodesDecoder.begin_positions`."""
        return _AllLevels(self, hidden_states)


class _AllLevels:
    """`PositionCodes` of parallel heads, which are one product for all levels behind the first."""

    def __init__(self, decoder: CrossCpuDecoder, hidden_states: Array) -> None:
        """hidden_states: (N, D), before the positions."""
        self._decoder, self._hidden_states = decoder, hidden_states
        self._logits: Array | None = None  # (N, K - 1 levels of R rows)

    def append(self, rows: Sequence[int], ids: Sequence[int]) -> None:
        """See `PositionCodes.append`; no id depends on those beside it."""

    def logits(self, rows: Sequence[int], ranges: Ranges) -> Array:
        """See `PositionCodes.logits`."""
        decoder, config = self._decoder, self._decoder.config
        wanted = decoder.head_rows(ranges)
        if wanted[0][0] < config.codebook_rows:  # of the first level, whose turn is past
            return decoder.level_logits(self._hidden_states[list(rows)], wanted)
        if self._logits is None:
            behind = (config.codebook_rows, config.num_codebooks * config.codebook_rows)
            self._logits = decoder.level_logits(self._hidden_states, (behind,))
        rows = list(rows)
        every = rows == list(range(len(self._logits)))
        own = self._logits if every else self._logits[rows]
        first = config.codebook_rows
        parts = [own[:, start - first : stop - first] for start, stop in wanted]
        return np.ascontiguousarray(parts[0]) if len(parts) == 1 else np.concatenate(parts, axis=1)

"""Models with a text encoder and a decoder of several codes a position, as a backend of torch.

The ids of text that stand before a sound are what the encoder reads, as a whole and once: their
hidden states are nothing's (zeros), and they take no position of the decoder. A KV slot holds them,
and from the first position of codes on the decoder's keys and values and those of cross-attention.
Rows of any lengths and texts go together: each attends to its own part under a mask. A row without
a text (of guidance) attends to one key and one value of zeros, which adds nothing.

Shape legend: `B` rows of a pass, `c` new positions of the longest, `D` width, `H` heads, `C` width
of a head, `L` positions of the longest row, `S` ids of the longest text, `K` ids of a position.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from unified.engine.backends.base import Array, Position, PositionCodes, Ranges
from unified.engine.backends.parallel_heads import ParallelHeads
from unified.engine.backends.stepped_model import memory_errors
from unified.engine.backends.text_first import SlotCodes, level_ranges, read_texts
from unified.engine.memory import available_bytes
from unified.models.cross_model import CrossModel
from unified.models.encoder_decoder_cache import EncoderDecoderCache

__all__ = ["EncoderDecoder"]


class EncoderDecoder:
    """The decoder of the engine (`unified.engine.backends.base`) for a `CrossModel`.

    Any number of threads may use one decoder, each with caches of its own; one at a time runs the
    model.
    """

    backend: ClassVar[str] = "transformers"
    batch_invariant: ClassVar[bool] = False

    def __init__(self, model: CrossModel) -> None:
        self.model, self.hf = model, model.hf
        self.vocab_size, self.max_positions = model.vocab_size, model.max_positions
        self._lock = threading.Lock()
        self._parts = list(map(id, self.hf.parameters()))

    def follows_weights(self) -> bool:
        """Whether it computes with the weights that the model has now, which it shares."""
        return self._parts == list(map(id, self.hf.parameters()))

    def available_bytes(self) -> int:
        """See `Decoder.available_bytes`."""
        device = self.hf.device
        if device.type == "cuda":
            return int(torch.cuda.mem_get_info(device)[0])
        return available_bytes()

    def cache_bytes(self, max_ids: int) -> int:
        """See `Decoder.cache_bytes`; as if every id were both read by the encoder and written."""
        return self.model.shape.bytes_of(max_ids, self.hf.dtype)

    def new_cache(self, num_slots: int = 0, max_ids: int = 0) -> EncoderDecoderCache:
        """See `Decoder.new_cache`."""
        hf = self.hf
        cache = EncoderDecoderCache(self.model.shape, hf.dtype, hf.device, self.max_positions)
        for _ in range(num_slots):
            cache.allocate(max_ids)
        return cache

    @torch.inference_mode()
    def forward(
        self,
        cache: EncoderDecoderCache,
        slots: Sequence[int],
        input_ids: Sequence[Sequence[Position]],
    ) -> Tensor:
        """See `Decoder.forward`. Raises ValueError for text behind codes."""
        rows = read_texts(cache, slots, input_ids)
        with_codes = [row for row in rows if row.codes]
        with memory_errors(), self._lock:
            try:
                states = self._codes(cache, with_codes) if with_codes else None
            except BaseException:
                for slot in slots:
                    cache.reset(slot)
                raise
        for row in rows:
            cache.lengths[row.slot] += len(row.codes)
        if states is not None and not any(row.num_text for row in rows):
            return states
        width = self.model.shape.width
        parts, at = [], 0
        for row in rows:
            parts.append(
                torch.zeros(row.num_text, width, dtype=self.hf.dtype, device=self.hf.device)
            )
            if row.codes:
                assert states is not None
                parts.append(states[at : at + len(row.codes)])
                at += len(row.codes)
        return torch.cat(parts)

    def _codes(self, cache: EncoderDecoderCache, rows: Sequence[SlotCodes]) -> Tensor:
        """Hidden states (T, D) of new positions of codes, a slot's after another's."""
        model, device = self.model, self.hf.device
        slots = [row.slot for row in rows]
        self._encode(cache, [slot for slot in slots if not cache.encoded(slot)])
        counts = [len(row.codes) for row in rows]
        c = max(counts)
        plain = min(counts) == c
        if plain:
            ids = torch.tensor([row.codes for row in rows])  # (B, c, K)
        else:
            ids = model.offsets.expand(len(rows), c, -1).clone()
            for index, row in enumerate(rows):
                ids[index, : len(row.codes)] = torch.tensor(row.codes)
        ids = (ids - model.offsets).to(device)
        step = cache.step(slots, counts)
        x = model.embed(ids, step.positions)
        rotations = model.rotations(step.positions, x.dtype)
        nothing = nn.functional.scaled_dot_product_attention
        for layer in range(model.shape.num_layers):

            def attend(q: Tensor, k: Tensor, v: Tensor, layer: int = layer) -> Tensor:
                keys, values = step.append(layer, k, v)  # (B, H, L, C)
                out = nothing(
                    q.transpose(1, 2), keys, values, step.mask, scale=model.scale,
                    enable_gqa=q.shape[2] != keys.shape[1],
                )  # fmt: skip
                return out.transpose(1, 2).flatten(2)

            def attend_text(q: Tensor, layer: int = layer) -> Tensor:
                keys, values = step.of_text(layer)
                out = nothing(
                    q.transpose(1, 2), keys, values, step.text_mask, scale=model.scale,
                    enable_gqa=q.shape[2] != keys.shape[1],
                )  # fmt: skip
                return out.transpose(1, 2).flatten(2)

            x = model.run(layer, x, rotations, attend, attend_text)
        x = model.finish(x)
        if plain:
            return x.flatten(0, 1)
        return torch.cat([x[row, :count] for row, count in enumerate(counts)])

    def _encode(self, cache: EncoderDecoderCache, slots: Sequence[int]) -> None:
        """Read the texts of some slots, all together."""
        model, device = self.model, self.hf.device
        texts = {slot: model.encoder.ids(cache.texts[slot]) for slot in slots if cache.texts[slot]}
        for slot in slots:
            if slot not in texts:
                cache.without_text(slot)
        if not texts:
            return
        S = max(map(len, texts.values()))
        ids = torch.zeros(len(texts), S, dtype=torch.int64)
        mask = torch.zeros(len(texts), S, dtype=torch.int64)
        for row, text in enumerate(texts.values()):
            ids[row, : len(text)] = torch.tensor(text)
            mask[row, : len(text)] = 1
        states = model.encoder.states(ids.to(device), mask.to(device))
        for layer in range(model.shape.num_layers):
            keys, values = model.cross(layer, states)
            for row, (slot, text) in enumerate(texts.items()):
                cache.put_text(slot, layer, keys[row, : len(text)], values[row, : len(text)])

    @torch.inference_mode()
    def logits(self, hidden_states: Tensor, ranges: Ranges) -> Array:
        """See `Decoder.logits`. Raises ValueError for ids of text."""
        model, parts = self.model, []
        with memory_errors():
            name = type(self.hf).__name__
            for level, start, stop in level_ranges(name, ranges, model.first, model.rows):
                parts.append(model.logits(hidden_states, level, start, stop))
            logits = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
            array: Array = logits.float().cpu().numpy()
            return array

    def begin_positions(self, hidden_states: Tensor) -> PositionCodes:
        """See `CodesDecoder.begin_positions`."""
        return ParallelHeads(self, hidden_states)

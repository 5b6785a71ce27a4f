"""Encoder-decoders of text (T5, mT5, UMT5) as a backend of torch.

The positions of spans that are seen both ways, which stand before all others, are what the encoder
reads, as a whole; their hidden states are nothing's (zeros). All others are the decoder's. A KV
slot holds what the encoder read, and the cache that transformers has of the decoder and of
cross-attention.

Rows step one by one: the modules are transformers' own.

Legend: `S` positions of the encoder, `c` new ones of the decoder, `D` width.
"""

from __future__ import annotations

import copy
import inspect
import sys
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unified.engine.backends.base import (
    Array,
    BidirectionalPosition,
    OwnPosition,
    Position,
    PositionCodes,
    Ranges,
)
from unified.engine.backends.depth_module import depth_decoder_of
from unified.engine.backends.parallel_heads import ParallelHeads
from unified.engine.backends.stepped_model import memory_errors
from unified.engine.backends.torch_positions import (
    DepthRows,
    TorchPositions,
    position_array,
    summed_embeddings,
    without_vectors,
)
from unified.engine.memory import available_bytes

__all__ = ["TextToTextCache", "TextToTextDecoder", "head_scale"]


def head_scale(hf: Any) -> float:
    """What the decoder's states are multiplied by before the head: T5 with its embedding as head
    scales them."""
    scaled = getattr(hf.config, "scale_decoder_outputs", None)
    if scaled is None:
        scaled = hf.config.model_type == "t5" and bool(hf.config.tie_word_embeddings)
    return float(hf.config.d_model) ** -0.5 if scaled else 1.0


class TextToTextCache:
    """See `Cache`.

    lengths: positions of encoder and decoder in each slot. encoded: those of the encoder. states:
    what it made of them, (1, S, D); None: nothing yet. decoded: transformers' cache.
    """

    copies_in_parts = False

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.encoded: list[list[OwnPosition]] = []
        self.states: list[Tensor | None] = []
        self.decoded: list[Any] = []
        self._unused: list[int] = []

    def allocate(self, max_ids: int) -> int:
        """See `Cache.allocate`; memory is taken as ids come."""
        if self._unused:
            return self._unused.pop()
        self.lengths.append(0)
        self.encoded.append([])
        self.states.append(None)
        self.decoded.append(None)
        return len(self.lengths) - 1

    def free(self, slot: int) -> None:
        self.reset(slot)
        self._unused.append(slot)

    def reset(self, slot: int) -> None:
        self.lengths[slot], self.encoded[slot] = 0, []
        self.states[slot] = self.decoded[slot] = None

    def copy_prefix(
        self, source: int, target: int, length: int | None = None, start: int = 0
    ) -> None:
        """See `Cache.copy_prefix`."""
        self.lengths[target], self.states[target] = self.lengths[source], self.states[source]
        self.encoded[target] = list(self.encoded[source])
        self.decoded[target] = copy.deepcopy(self.decoded[source])
        if length is not None:
            self.truncate(target, length)

    def truncate(self, slot: int, length: int) -> None:
        """See `Cache.truncate`; of what is cut inside the encoder's part nothing stays encoded."""
        removed = self.lengths[slot] - length
        if removed <= 0:
            return
        num_encoded = len(self.encoded[slot])
        if length <= num_encoded:
            self.decoded[slot] = None
        else:
            self.decoded[slot].self_attention_cache.crop(-removed)
        if length < num_encoded:
            self.encoded[slot], self.states[slot] = self.encoded[slot][:length], None
        self.lengths[slot] = length


class TextToTextDecoder:
    """The decoder of the engine (`unified.engine.backends.base`) for a T5 with a head.

    Any number of threads may use one decoder, each with caches of its own; one at a time runs the
    model. encodes: whether an encoder reads the spans that are seen both ways.
    """

    backend: ClassVar[str] = "transformers"
    batch_invariant: ClassVar[bool] = False
    bidirectional: ClassVar[bool] = True
    encodes: ClassVar[bool] = True

    def __init__(self, hf: Any) -> None:
        self.hf = hf.eval()
        self.vocab_size = int(hf.get_input_embeddings().weight.shape[0])
        self.max_positions = sys.maxsize  # positions are relative
        self.input_width = int(hf.config.d_model)
        self.depth = depth_decoder_of(hf)
        self._scale = head_scale(hf)
        self._lock = threading.Lock()
        self._parts = list(map(id, hf.parameters()))
        # `past_key_values` until transformers 5.40, `cache` from some version before it on.
        parameters = inspect.signature(type(hf.decoder).forward).parameters
        self._cache_name = "cache" if "cache" in parameters else "past_key_values"

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
        config = self.hf.config
        numbers = 4 * config.num_decoder_layers * config.num_heads * config.d_kv + config.d_model
        return int(numbers * self.hf.dtype.itemsize * max_ids)

    def new_cache(self, num_slots: int = 0, max_ids: int = 0) -> TextToTextCache:
        """See `Decoder.new_cache`."""
        cache = TextToTextCache()
        for _ in range(num_slots):
            cache.allocate(max_ids)
        return cache

    @torch.inference_mode()
    def forward(
        self, cache: TextToTextCache, slots: Sequence[int], input_ids: Sequence[Sequence[Position]]
    ) -> Tensor:
        """See `Decoder.forward`. Raises ValueError for a span behind what the decoder has read."""
        states = []
        with memory_errors(), self._lock:
            for slot, positions in zip(slots, input_ids):
                try:
                    states.append(self._read(cache, slot, positions))
                except BaseException:
                    for other in slots:
                        cache.reset(other)
                    raise
        return torch.cat(states)

    def _read(self, cache: TextToTextCache, slot: int, positions: Sequence[Position]) -> Tensor:
        """New positions of a slot. Hidden states (c, D)."""
        encoded = [p.own for p in positions if isinstance(p, BidirectionalPosition)]
        decoded = [p for p in positions if not isinstance(p, BidirectionalPosition)]
        ordered = [isinstance(p, BidirectionalPosition) for p in positions]
        if encoded and (cache.lengths[slot] > len(cache.encoded[slot]) or not ordered[0]):
            raise ValueError(
                f"{type(self.hf).__name__} reads its encoder's part once, before all that its"
                " decoder reads or writes; put it first"
            )
        states = [torch.zeros(len(encoded), self.input_width, dtype=self.hf.dtype)]
        if encoded:
            cache.encoded[slot] += encoded
            cache.states[slot] = None
        if decoded:
            states.append(self._decode(cache, slot, decoded))
        cache.lengths[slot] += len(positions)
        return torch.cat([part.to(self.hf.device) for part in states])

    def _decode(
        self, cache: TextToTextCache, slot: int, positions: Sequence[OwnPosition]
    ) -> Tensor:
        if cache.states[slot] is None:
            cache.states[slot] = self._encode(cache.encoded[slot])
        outputs = self.hf.decoder(
            inputs_embeds=self._embed(positions),
            encoder_hidden_states=cache.states[slot],
            use_cache=True,
            **{self._cache_name: cache.decoded[slot]},
        )
        cache.decoded[slot] = outputs[self._cache_name]
        states: Tensor = outputs.last_hidden_state[0] * self._scale
        return states

    def _encode(self, positions: Sequence[OwnPosition]) -> Tensor:
        """What the encoder makes of some positions, (1, S, D); without any a zero, which adds
        nothing to attention."""
        if not positions:
            return torch.zeros(1, 1, self.input_width, dtype=self.hf.dtype, device=self.hf.device)
        states: Tensor = self.hf.encoder(inputs_embeds=self._embed(positions)).last_hidden_state
        return states

    def _embed(self, positions: Sequence[OwnPosition]) -> Tensor:
        """Embeddings (1, c, D)."""
        plain, vectors = without_vectors([positions])
        ids = torch.from_numpy(position_array(plain)).to(self.hf.device)
        table: nn.Module = self.hf.get_input_embeddings()
        embedded: Tensor = table(ids) if ids.dim() == 2 else summed_embeddings(table, ids)
        return embedded if vectors is None else vectors.put_into(embedded)

    @torch.inference_mode()
    def logits(self, hidden_states: Tensor, ranges: Ranges) -> Array:
        """See `Decoder.logits`."""
        weight = self.hf.get_output_embeddings().weight
        with memory_errors():
            parts = [nn.functional.linear(hidden_states, weight[a:b]) for a, b in ranges]
            array: Array = torch.cat(parts, -1).float().cpu().numpy()
            return array

    @torch.inference_mode()
    def begin_positions(self, hidden_states: Tensor) -> PositionCodes:
        """See `CodesDecoder.begin_positions`."""
        if self.depth is None:
            return ParallelHeads(self, hidden_states)
        with memory_errors():
            return TorchPositions(DepthRows(self.depth, len(hidden_states)), hidden_states)

"""Any causal LM of transformers as a backend: slower than compiled loops, but general."""

from __future__ import annotations

import copy
import inspect
import sys
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers.cache_utils import DynamicLayer

from unified.engine.backends.base import Array, Ranges
from unified.engine.memory import available_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["TransformersCache", "TransformersDecoder"]


class TransformersCache:
    """One transformers cache for each slot: sequences run one by one, so nothing is ever padded.

    caches: transformers' own, None for an empty slot. lengths: ids in each slot.
    """

    copies_in_parts = False

    def __init__(self, max_positions: int) -> None:
        self.caches: list[Any] = []
        self.lengths: list[int] = []
        self._max_positions = max_positions
        self._unused: list[int] = []

    def allocate(self, max_ids: int) -> int:
        """See `Cache.allocate`; memory is taken as ids come."""
        if max_ids > self._max_positions:
            raise ValueError(
                f"{max_ids} ids asked for, but the decoder has {self._max_positions} positions; "
                "lower max_ids"
            )
        if self._unused:
            return self._unused.pop()
        self.caches.append(None)
        self.lengths.append(0)
        return len(self.caches) - 1

    def free(self, slot: int) -> None:
        self.reset(slot)
        self._unused.append(slot)

    def copy_prefix(
        self, source: int, target: int, length: int | None = None, start: int = 0
    ) -> None:
        self.caches[target] = copy.deepcopy(self.caches[source])
        self.lengths[target] = self.lengths[source]
        if length is not None:
            self.truncate(target, length)

    def truncate(self, slot: int, length: int) -> None:
        """Truncate a slot; one that cannot be (sliding windows, recurrent states) is reset."""
        if length == self.lengths[slot]:
            return
        layers = getattr(self.caches[slot], "layers", ())
        if layers and all(type(layer) is DynamicLayer for layer in layers):
            self.caches[slot].crop(length - self.lengths[slot])  # negative: so many from the end
            self.lengths[slot] = length
        else:
            self.reset(slot)

    def reset(self, slot: int) -> None:
        self.caches[slot], self.lengths[slot] = None, 0


_locks: weakref.WeakKeyDictionary[Any, threading.Lock] = weakref.WeakKeyDictionary()
_locks_lock = threading.Lock()


def _lock_of(hf: PreTrainedModel) -> threading.Lock:
    """The lock of a model, whichever decoders there are of it."""
    with _locks_lock:
        return _locks.setdefault(hf, threading.Lock())


class TransformersDecoder:
    """Steps a causal LM of transformers with the cache of its own architecture.

    Where the model's logits are its last hidden states times its head, only the rows of the head
    that are asked for are computed; ids that the model itself rules out (Chameleon's codes of
    pictures) have logits then. Otherwise (scaled or capped logits), the "hidden states" of
    `forward` are the logits of all ids, and `logits` selects among them.

    Any number of threads may use one decoder, each with caches of its own; one at a time runs the
    model, whose modules keep state between calls.
    """

    def __init__(self, hf: PreTrainedModel) -> None:
        """hf: the model; it is put in evaluation mode."""
        self.hf = hf
        # JanusTorchDecoder has more ids than embeddings.
        embeddings: Any = hf.get_input_embeddings()
        self.num_embeddings = int(embeddings.weight.shape[0])
        self.vocab_size = self.num_embeddings
        # Some architectures have no table of positions and no bound of their own.
        config = hf.config.get_text_config()
        self.max_positions = int(getattr(config, "max_position_embeddings", None) or sys.maxsize)
        self._lock = _lock_of(hf)
        self._stretching_rope = [
            module
            for module in hf.modules()
            if hasattr(module, "original_max_seq_len") and hasattr(module, "max_seq_len_cached")
        ]
        with self._lock:
            hf.eval()
            self._head = self._plain_head()
        # `past_key_values` until transformers 5.40, `cache` from some version before it on.
        parameters = inspect.signature(type(self._model()).forward).parameters
        self._cache_name = "cache" if "cache" in parameters else "past_key_values"

    def _model(self) -> Any:
        """The module to step: without its head where only some rows of the head are computed."""
        return self.hf if self._head is None else self.hf.base_model

    @torch.inference_mode()
    def _plain_head(self) -> Any:
        """The head if logits are hidden states times it and nothing more; None otherwise."""
        head, base = self.hf.get_output_embeddings(), self.hf.base_model
        if not isinstance(head, torch.nn.Linear) or base is self.hf:
            return None
        ids = torch.tensor([[0, min(1, self.vocab_size - 1)]], device=self.hf.device)
        actual = self.hf(input_ids=ids, use_cache=False).logits.float()
        expected = head(base(input_ids=ids, use_cache=False).last_hidden_state).float()
        # Ids that the model rules out have the least number there is.
        allowed = actual > torch.finfo(self.hf.dtype).min / 2
        near = torch.isclose(actual, expected, rtol=1e-3, atol=1e-3) | ~allowed
        return head if bool(near.all()) and bool(allowed.any()) else None

    def available_bytes(self) -> int:
        """See `Decoder.available_bytes`."""
        if self.hf.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.hf.device)[0])
        return available_bytes()

    def cache_bytes(self, max_ids: int) -> int:
        """See `Decoder.cache_bytes`; attention's keys and values, as the config has their sizes."""
        config = self.hf.config.get_text_config()
        heads = getattr(config, "num_attention_heads", None) or 1
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        return int(
            2 * config.num_hidden_layers * kv_heads * head_dim * self.hf.dtype.itemsize * max_ids
        )

    def new_cache(self, num_slots: int = 0, max_ids: int = 0) -> TransformersCache:
        """See `Decoder.new_cache`."""
        cache = TransformersCache(self.max_positions)
        for _ in range(num_slots):
            cache.allocate(max_ids)
        return cache

    @torch.inference_mode()
    def forward(
        self, cache: TransformersCache, slots: Sequence[int], input_ids: Sequence[Sequence[int]]
    ) -> Array:
        """See `Decoder.forward`: float32 (T, D), or logits (T, V) as the class says."""
        model = self._model()
        outputs = []
        for slot, ids in zip(slots, input_ids):
            try:
                with self._lock:
                    self._reset_stretched_rope()
                    out = model(
                        **self._inputs(torch.tensor([list(ids)], device=self.hf.device)),
                        use_cache=True,
                        **{self._cache_name: cache.caches[slot]},
                    )
            except BaseException:
                cache.reset(slot)  # some layers may have these ids, others not
                raise
            cache.caches[slot] = out[self._cache_name]
            cache.lengths[slot] += len(ids)
            states = out.logits if self._head is None else out.last_hidden_state  # (1, T, D or V)
            outputs.append(states[0].float().cpu().numpy())
        return np.concatenate(outputs)

    def _inputs(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """The arguments of the model's forward for ids int64 (1, T)."""
        return {"input_ids": ids}

    def _reset_stretched_rope(self) -> None:
        """Undo what longer sequences did to rotary angles that stretch with the longest one seen.

        The length of the sequence at hand alone decides again.
        """
        for module in self._stretching_rope:
            for name in [name for name in vars(module) if name.endswith("max_seq_len_cached")]:
                if getattr(module, name) > module.original_max_seq_len:
                    kind = name.removesuffix("max_seq_len_cached")
                    original = getattr(module, f"{kind}original_inv_freq")
                    current = getattr(module, f"{kind}inv_freq")
                    setattr(module, f"{kind}inv_freq", original.to(current.device))
                    setattr(module, name, module.original_max_seq_len)

    @torch.inference_mode()
    def logits(self, hidden_states: Array, ranges: Ranges) -> Array:
        """See `Decoder.logits`."""
        if self._head is None:
            return np.concatenate([hidden_states[:, start:stop] for start, stop in ranges], axis=-1)
        weight, bias = self._head.weight, self._head.bias
        # Some heads have fewer rows than the embedding: such ids are read and never written.
        if ranges[-1][1] > len(weight):
            raise ValueError(
                f"the model's head has {len(weight)} rows: it can read id {ranges[-1][1] - 1} and"
                " not write it; `UnifiedModel.extend` gives the head more rows"
            )
        states = torch.from_numpy(hidden_states).to(weight.device, weight.dtype)  # (T, D)
        parts = []
        for start, stop in ranges:
            bias_rows = None if bias is None else bias[start:stop]
            parts.append(torch.nn.functional.linear(states, weight[start:stop], bias_rows).float())
        return torch.cat(parts, -1).cpu().numpy()

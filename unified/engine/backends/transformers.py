"""Any transformers causal LM behind the interface of the compiled decoder: slow, but general."""

from __future__ import annotations

import copy
import inspect
import sys
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import DynamicLayer

from unified.engine.backends.cpu.decoder import Array, Ranges


class GenericCache:
    """One transformers cache a row: rows are stepped one by one, so nothing is ever padded."""

    def __init__(self, rows: int) -> None:
        self.rows: list[Any] = [None] * rows
        self.lengths = [0] * rows

    def fork(self, source: int, target: int, length: int | None = None) -> None:
        self.rows[target] = copy.deepcopy(self.rows[source])
        self.lengths[target] = self.lengths[source]
        if length is not None:
            self.cut(target, length)

    def cut(self, row: int, length: int) -> None:
        """A cache that cannot forget its last ids alone (sliding windows, states) forgets all."""
        if length == self.lengths[row]:
            return
        layers = getattr(self.rows[row], "layers", ())
        if layers and all(type(layer) is DynamicLayer for layer in layers):
            self.rows[row].crop(length - self.lengths[row])  # so many from the end
            self.lengths[row] = length
        else:
            self.clear(row)

    def move(self, source: int, target: int) -> None:
        if source != target:
            self.rows[target], self.lengths[target] = self.rows[source], self.lengths[source]
        self.clear(source)

    def clear(self, row: int) -> None:
        self.rows[row], self.lengths[row] = None, 0


_turns: weakref.WeakKeyDictionary[Any, threading.Lock] = weakref.WeakKeyDictionary()
_turning = threading.Lock()


def _turn_of(hf: Any) -> threading.Lock:
    """The lock of a model, whichever decoders there are of it."""
    with _turning:
        return _turns.setdefault(hf, threading.Lock())


class GenericDecoder:
    """Steps a causal LM of transformers with the cache of its own architecture.

    Where the model's logits are its last hidden states times its head, features are the states,
    and only the rows of the head that are asked for are computed; ids that the model itself rules
    out (Chameleon's codes of pictures) have logits then. Otherwise (scaled or capped logits)
    features are the logits.

    Any number of threads may use one decoder, each with caches of its own; they take turns in the
    model, whose modules keep things of their own between calls.
    """

    def __init__(self, hf: Any) -> None:
        """hf: the model; it is put in evaluation mode."""
        self.hf = hf
        self.vocab_size = int(hf.get_input_embeddings().weight.shape[0])
        # Some architectures have no table of positions and no bound of their own.
        self.max_ids = int(getattr(hf.config, "max_position_embeddings", None) or sys.maxsize)
        self._turn = _turn_of(hf)
        self._growing = [
            module
            for module in hf.modules()
            if hasattr(module, "original_max_seq_len") and hasattr(module, "max_seq_len_cached")
        ]
        with self._turn:
            hf.eval()
            self._head = self._plain_head()
        # `past_key_values` until transformers 5.40, `cache` from some version before it on.
        words = inspect.signature(type(self._model()).forward).parameters
        self._cache_name = "cache" if "cache" in words else "past_key_values"

    def _model(self) -> Any:
        """What is stepped: without its head where the head is applied to what is asked for."""
        return self.hf if self._head is None else self.hf.base_model

    @torch.inference_mode()
    def _plain_head(self) -> Any:
        """The head, where it is all that stands between hidden states and logits."""
        head, base = self.hf.get_output_embeddings(), self.hf.base_model
        if not isinstance(head, torch.nn.Linear) or base is self.hf:
            return None
        ids = torch.tensor([[0, min(1, self.vocab_size - 1)]], device=self.hf.device)
        found = self.hf(input_ids=ids, use_cache=False).logits.float()
        made = head(base(input_ids=ids, use_cache=False).last_hidden_state).float()
        kept = found > torch.finfo(self.hf.dtype).min / 2
        near = torch.isclose(found, made, rtol=1e-3, atol=1e-3) | ~kept
        return head if bool(near.all()) and bool(kept.any()) else None

    def cache(self, rows: int, max_ids: int) -> GenericCache:
        if max_ids > self.max_ids:
            raise ValueError(
                f"{max_ids} ids asked for, but the decoder has {self.max_ids} positions; "
                "lower max_ids"
            )
        return GenericCache(rows)

    @torch.inference_mode()
    def feed(
        self, cache: GenericCache, places: Sequence[int], ids: Sequence[Sequence[int]]
    ) -> Array:
        """Features float32: hidden states (T, D), or logits (T, V); see the class."""
        model = self._model()
        found = []
        for place, row in zip(places, ids):
            with self._turn:
                self._forget_longest()
                out = model(
                    input_ids=torch.tensor([list(row)], device=self.hf.device),
                    use_cache=True,
                    **{self._cache_name: cache.rows[place]},
                )
            cache.rows[place] = out[self._cache_name]
            cache.lengths[place] += len(row)
            made = out.logits if self._head is None else out.last_hidden_state
            found.append(made[0].float().cpu().numpy())
        return np.concatenate(found)

    def _forget_longest(self) -> None:
        """Rotary positions that stretch with the longest sequence seen are to do so with the row at
        hand alone: whatever was seen before it, its own length decides again."""
        for module in self._growing:
            for name in [name for name in vars(module) if name.endswith("max_seq_len_cached")]:
                if getattr(module, name) > module.original_max_seq_len:
                    kind = name.removesuffix("max_seq_len_cached")
                    original = getattr(module, f"{kind}original_inv_freq")
                    own = getattr(module, f"{kind}inv_freq")
                    setattr(module, f"{kind}inv_freq", original.to(own.device))
                    setattr(module, name, module.original_max_seq_len)

    @torch.inference_mode()
    def logits(self, features: Array, ranges: Ranges) -> Array:
        if self._head is None:
            return np.concatenate([features[:, start:stop] for start, stop in ranges], axis=-1)
        weight, bias = self._head.weight, self._head.bias
        seen = torch.from_numpy(features).to(weight.device, weight.dtype)
        parts = []
        for start, stop in ranges:
            rows = None if bias is None else bias[start:stop]
            parts.append(torch.nn.functional.linear(seen, weight[start:stop], rows).float())
        return torch.cat(parts, -1).cpu().numpy()

"""Any transformers causal LM behind the interface of `unified.decoder`: slow, but general."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import DynamicLayer

from unified.decoder import Array, Ranges


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
            self.rows[row].crop(length)
            self.lengths[row] = length
        else:
            self.clear(row)

    def move(self, source: int, target: int) -> None:
        if source != target:
            self.rows[target], self.lengths[target] = self.rows[source], self.lengths[source]
        self.clear(source)

    def clear(self, row: int) -> None:
        self.rows[row], self.lengths[row] = None, 0


class GenericDecoder:
    """Steps an AutoModelForCausalLM with the cache of its own architecture."""

    def __init__(self, hf: Any) -> None:
        """hf: the model; it is put in evaluation mode."""
        self.hf = hf.eval()
        self.vocab_size = int(hf.get_input_embeddings().weight.shape[0])
        # Some architectures have no table of positions and no bound of their own.
        self.max_ids = int(getattr(hf.config, "max_position_embeddings", None) or sys.maxsize)

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
        """Features here are the logits themselves (T, V), float32: some models scale or cap them
        after the head."""
        found = []
        for place, row in zip(places, ids):
            out = self.hf(
                input_ids=torch.tensor([list(row)], device=self.hf.device),
                past_key_values=cache.rows[place],
                use_cache=True,
            )
            cache.rows[place] = out.past_key_values
            cache.lengths[place] += len(row)
            found.append(out.logits[0].float().cpu().numpy())
        return np.concatenate(found)

    def logits(self, features: Array, ranges: Ranges) -> Array:
        return np.concatenate([features[:, start:stop] for start, stop in ranges], axis=-1)

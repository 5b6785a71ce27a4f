"""The decoder of Higgs Audio v2 in compiled loops: a Llama that reads sound by layers of its own.

Attention is one for text and sound; norms and MLPs are there twice, and which of them a position
goes through is its kind's. A pass is one call for what is of one kind: a row that is speaking reads
nothing but sound, and a prompt is read run by run.

Ids: those of text, then the rows of one level's table after another, as the head has them. Text is
read and never written.

Shape legend: `V` text rows, `K` codebooks, `R` rows of each one's table, `T` new positions, `D`
width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, ClassVar

import numpy as np

from unified.engine.backends.base import Array, Position, Ranges
from unified.engine.backends.cpu.cache import SlotCache
from unified.engine.backends.cpu.config import LlamaCpuConfig
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder, StoredWeight, widen
from unified.engine.backends.cpu.stored import ToQuantize, Weight
from unified_base.text import quoted

__all__ = ["CODES", "HEAD", "TEXT", "HiggsDecoder"]

TEXT = "model.embed_tokens.weight"
CODES = "model.embed_audio_tokens.embed_audio_tokens.weight"
HEAD = "audio_lm_head.weight"
_PARTS = re.compile(r"\.(input_layernorm|post_attention_layernorm|mlp)\.")


class HiggsDecoder(LlamaCpuDecoder):
    """Text by one set of norms and MLPs, positions of codes by another; see the module."""

    reads_by_layers: ClassVar[bool] = False  # layers are not the same for all ids of a prompt

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, StoredWeight]) -> None:
        """config: of a HiggsAudioV2ForConditionalGeneration. weights: by its names.

        Raises ValueError where they do not fit each other.
        """
        llama = LlamaCpuConfig.from_hf(
            {**config, "model_type": "llama", "tie_word_embeddings": False}
        )
        V, D = llama.vocab_size, llama.hidden_size
        K, R = (config.get(name) for name in ("num_codebooks", "codebook_size"))
        if type(K) is not int or type(R) is not int or K < 2 or R < 1:
            raise ValueError(
                f"config.json has num_codebooks {quoted(K)} of codebook_size {quoted(R)}, expected"
                " two whole numbers, the first from 2 on"
            )
        if "model.norm.weight" not in weights:
            raise ValueError("weights do not fit config.json: model.norm.weight is missing")
        for name, shape in {TEXT: (V, D), CODES: (K * R, D), HEAD: (K * R, D)}.items():
            if name not in weights or tuple(weights[name].shape) != shape:
                what = tuple(weights[name].shape) if name in weights else "missing"
                raise ValueError(f"weights do not fit config.json: {name} is {what}, not {shape}")
        self.first = V
        layers = {name: w for name, w in weights.items() if name.startswith("model.layers.")}
        own = {name: w for name, w in layers.items() if ".audio_" not in name}
        # To the Llama its ids are those that it writes.
        rest = {"model.norm.weight": weights["model.norm.weight"],
                "model.embed_tokens.weight": weights[CODES],
                "lm_head.weight": weights[HEAD]}  # fmt: skip
        sizes = replace(llama, vocab_size=K * R)
        of_sound = {
            name: layers[alias]
            for name in own
            if (alias := _of_sound(name)) != name and alias in layers
        }
        if missing := [n for n in own if _of_sound(n) != n and n not in of_sound]:
            raise ValueError(f"weights do not fit config.json: {_of_sound(missing[0])} is missing")
        sizes.check({**own, **of_sound, **rest})  # of sound as of text
        super().__init__(sizes, {**own, **rest})
        self._table_of_sound = self.with_others(of_sound)
        text = weights[TEXT]
        self._texts: Weight = (text.weight if isinstance(text, ToQuantize) else text)[:]
        self.vocab_size = V + K * R

    def embed(self, ids: Sequence[int]) -> Array:
        at = np.asarray(ids)
        is_code = at >= self.first
        embedded = np.empty((len(at), self.config.hidden_size), np.float32)
        embedded[~is_code] = widen(self._texts[at[~is_code]])
        if is_code.any():
            embedded[is_code] = super().embed((at[is_code] - self.first).tolist())
        return embedded

    def forward(
        self, cache: SlotCache, slots: Sequence[int], input_ids: Sequence[Sequence[Position]]
    ) -> Array:
        """See `Decoder.forward`."""
        runs = [
            [(sound, list(run)) for sound, run in groupby(ids, lambda p: isinstance(p, tuple))]
            for ids in input_ids
        ]
        if all(len(own) == 1 for own in runs) and len({own[0][0] for own in runs}) == 1:
            return self._run(cache, slots, input_ids, runs[0][0][0])
        states: list[list[Array]] = [[] for _ in runs]
        while any(runs):
            for sound in (False, True):
                rows = [row for row, own in enumerate(runs) if own and own[0][0] == sound]
                if not rows:
                    continue
                parts = [runs[row].pop(0)[1] for row in rows]
                read = self._run(cache, [slots[row] for row in rows], parts, sound)
                ends = np.cumsum([len(part) for part in parts])[:-1]
                for row, own in zip(rows, np.split(read, ends)):
                    states[row].append(own)
        return np.concatenate([part for own in states for part in own])

    def _run(
        self, cache: SlotCache, slots: Sequence[int], ids: Sequence[Sequence[Position]], sound: bool
    ) -> Array:
        """Read positions of one kind."""
        return self.forward_by(
            self._table_of_sound if sound else self.layer_table, cache, slots, ids
        )

    def logits(self, hidden_states: Array, ranges: Ranges) -> Array:
        return super().logits(hidden_states, self._rows(ranges))

    def logits_of_parts(
        self, hidden_states: Array, parts: Sequence[tuple[Sequence[int], Ranges]]
    ) -> list[Array]:
        own = [(rows, self._rows(ranges)) for rows, ranges in parts]
        return super().logits_of_parts(hidden_states, own)

    def _rows(self, ranges: Ranges) -> Ranges:
        """Ids as rows of the head. Raises ValueError for ids of text."""
        if ranges[0][0] < self.first:
            raise ValueError(
                "Higgs Audio's head has no rows for text: it reads texts and writes codes alone"
            )
        return tuple((start - self.first, stop - self.first) for start, stop in ranges)


def _of_sound(name: str) -> str:
    """The name of the tensor that sound has in a layer in place of one of text."""
    return _PARTS.sub(r".audio_\1.", name)

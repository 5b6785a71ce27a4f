"""The decoder of Janus: a Llama with an embedding and a head of their own for codes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from unified.engine.backends.base import Array, Ranges
from unified.engine.backends.cpu.config import LlamaCpuConfig
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder, StoredWeight, widen
from unified_base.text import quoted

__all__ = ["JanusDecoder", "language_weights"]

_LANGUAGE = re.compile(r".*?\b(embed_tokens\.weight|layers\..+|norm\.weight)$")


def language_weights(stored: Mapping[str, StoredWeight]) -> dict[str, StoredWeight]:
    """The weights of the language model by the names that Llama's have."""
    weights = {}
    for name, weight in stored.items():
        if match := _LANGUAGE.match(name):
            weights[f"model.{match[1]}"] = weight
        elif name.endswith("lm_head.weight"):
            weights["lm_head.weight"] = weight
    return weights


class JanusDecoder(LlamaCpuDecoder):
    """Llama with an embedding and a head of their own for the codes of pictures.

    Their ids stand behind those of text. A code's embedding goes through Janus' aligner, once for
    all codes; its logits come of the generation head, not of the language model's.
    """

    def __init__(
        self, config: LlamaCpuConfig, stored: Mapping[str, StoredWeight], activation: str
    ) -> None:
        """stored: a whole checkpoint's. activation: of aligner and head, as transformers names it.

        Raises ValueError where the checkpoint lacks a part.
        """
        import torch
        from transformers.activations import ACT2FN

        super().__init__(config, language_weights(stored))
        if activation not in ACT2FN:
            raise ValueError(f"vq_config.hidden_act is {quoted(activation)}, which is not known")
        function = ACT2FN[activation]
        self._activate = lambda x: function(torch.from_numpy(np.ascontiguousarray(x))).numpy()
        generation = {
            name.partition("generation_")[2]: widen(weight)
            for name, weight in stored.items()
            if "generation_" in name
        }
        try:
            table = generation["embeddings.weight"]
            if table.ndim != 2:
                raise ValueError(f"generation_embeddings.weight has shape {table.shape}")
            rows = _linear(generation, "aligner.fc1", table)
            hidden = sorted(
                (name.removesuffix(".weight") for name in generation
                 if re.fullmatch(r"aligner\.hidden_layers\.\d+\.weight", name)),
                key=lambda name: int(name.rpartition(".")[2]),
            )  # fmt: skip
            for name in hidden:
                rows = _linear(generation, name, self._activate(rows))
            self._vision = {name: generation[name] for name in _HEAD}
            _check_head(self._vision, config.hidden_size)
        except KeyError as missing:
            raise ValueError(f"the checkpoint has no generation_{missing.args[0]}") from None
        self.text_rows = config.vocab_size
        self._codes = rows
        self.vocab_size = self.text_rows + len(rows)

    def embed(self, ids: Sequence[int]) -> Array:
        at = np.asarray(ids)
        embeddings = super().embed(np.minimum(at, self.text_rows - 1))
        codes = at >= self.text_rows
        embeddings[codes] = self._codes[at[codes] - self.text_rows]
        return embeddings

    def logits(self, hidden_states: Array, ranges: Ranges) -> Array:
        parts = []
        for start, stop in ranges:
            if stop <= self.text_rows:
                parts.append(super().logits(hidden_states, ((start, stop),)))
                continue
            assert start >= self.text_rows
            codes = slice(start - self.text_rows, stop - self.text_rows)
            seen = self._activate(_linear(self._vision, "head.proj_out", hidden_states))
            weight = self._vision["head.vision_head.weight"][codes]
            parts.append(seen @ weight.T + self._vision["head.vision_head.bias"][codes])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def logits_of_parts(
        self, hidden_states: Array, parts: Sequence[tuple[Sequence[int], Ranges]]
    ) -> list[Array]:
        return [self.logits(hidden_states[list(rows)], ranges) for rows, ranges in parts]


_HEAD = tuple(
    f"head.{layer}.{kind}" for layer in ("proj_out", "vision_head") for kind in ("weight", "bias")
)


def _check_head(head: Mapping[str, Array], width: int) -> None:
    """Raises ValueError for a generation head that does not follow on the decoder's width."""
    inner, codes = (len(head[f"head.{layer}.weight"]) for layer in ("proj_out", "vision_head"))
    shapes = [(inner, width), (inner,), (codes, inner), (codes,)]
    for name, shape in zip(_HEAD, shapes):
        if head[name].shape != shape:
            raise ValueError(f"generation_{name} has shape {head[name].shape}, expected {shape}")


def _linear(weights: Mapping[str, Array], name: str, x: Array) -> Array:
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    if weight.ndim != 2 or weight.shape[1] != x.shape[-1] or bias.shape != weight.shape[:1]:
        raise ValueError(
            f"generation_{name} has shapes {weight.shape} and {bias.shape}, which do not follow on"
            f" {x.shape[-1]} numbers"
        )
    outputs: Array = x @ weight.T + bias
    return outputs

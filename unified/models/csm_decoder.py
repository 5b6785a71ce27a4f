"""The decoder of CSM in compiled loops: a Llama over texts and frames, one over a frame's codes.

A frame is a position of as many codes as there are codebooks. The backbone's head writes the first,
the depth decoder the others. Texts are read and never written.

Ids: those of the text tokenizer's rows, then the codes of one codebook after another. The published
tables have rows for padding behind the codes of each codebook, which no recording holds; those have
no ids here.

Shape legend: `V` text rows, `K` codebooks, `C` codes of each, `R` rows of each in the published
tables, `E` the backbone's width, `D` that of the depth decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unified.engine.backends.base import Array, Ranges
from unified.engine.backends.cpu.config import LlamaCpuConfig
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder, StoredWeight, widen
from unified.engine.backends.cpu.stored import ToQuantize, Weight, to_quantize
from unified.engine.backends.depth_config import DepthConfig
from unified.models.stored_weights import narrow
from unified_base.text import quoted

__all__ = ["CsmDecoder", "CsmSizes", "depth_weights"]

_THETA = 500_000.0
_NAMES = {np.dtype(np.float32): "float32", np.dtype(np.uint16): "bfloat16",
          np.dtype(np.int16): "float16"}  # fmt: skip
_TABLES = ("backbone_model.embed_tokens.embed_audio_tokens.weight",
           "depth_decoder.model.embed_tokens.weight")  # fmt: skip
_TEXT = "embed_text_tokens.weight"
_HEADS = "depth_decoder.codebooks_head.weight"
_PROJECTION = "depth_decoder.model.inputs_embeds_projector.weight"


@dataclass(frozen=True)
class CsmSizes:
    """Sizes of a CSM by its config.json.

    text_rows, num_codebooks, codebook_size, codebook_rows: V, K, C and R.
    backbone: its Llama, whose only ids are the C that it writes. depth: its depth decoder.
    """

    text_rows: int
    num_codebooks: int
    codebook_size: int
    codebook_rows: int
    backbone: LlamaCpuConfig
    depth: DepthConfig

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> CsmSizes:
        """Raises ValueError for sizes that are missing, or do not fit each other."""
        depth, codec = (dict(config.get(name) or {}) for name in ("depth_decoder_config",
                                                                  "codec_config"))  # fmt: skip
        V, K, R = (_count(config, name) for name in ("text_vocab_size", "num_codebooks",
                                                     "vocab_size"))  # fmt: skip
        C = _count(codec, "codebook_size", "codec_config.")
        K_depth, R_depth = (_count(depth, name, "depth_decoder_config.")
                            for name in ("num_codebooks", "vocab_size"))  # fmt: skip
        if C > R or (K_depth, R_depth) != (K, R) or K < 2:
            raise ValueError(
                f"config.json has {K} codebooks of {R} rows for the backbone, {K_depth} of"
                f" {R_depth} for the depth decoder, and a codec of {C} codes; expected the same"
                " codebooks, 2 or more, and a row for each code"
            )
        backbone = _llama(config, C)
        inner = _llama(depth, C)
        if inner.attention_scaling != 1:
            raise ValueError(
                "config.json: depth_decoder_config.rope_parameters scale attention, which is not"
                " supported; expected rope_type default, linear or llama3"
            )
        return cls(
            V, K, C, R, backbone,
            DepthConfig(
                input_size=backbone.hidden_size, hidden_size=inner.hidden_size,
                num_layers=inner.num_layers, num_heads=inner.num_heads,
                num_kv_heads=inner.num_kv_heads, head_dim=inner.head_dim,
                intermediate_size=inner.intermediate_size, num_ids=K, ranges=((V, V + K * C),),
                norm_eps=inner.norm_eps, inv_freq=inner.inv_freq,
            ),
        )  # fmt: skip

    @property
    def vocab_size(self) -> int:
        return self.text_rows + self.num_codebooks * self.codebook_size

    def check(self, weights: Mapping[str, Any]) -> None:
        """Raises ValueError naming tensors, beside those of the layers, that are missing or of
        other shapes."""
        E, K, R = self.backbone.hidden_size, self.num_codebooks, self.codebook_rows
        depth = self.depth
        shapes = {
            _TEXT: (self.text_rows, E),
            "lm_head.weight": (R, E),
            _HEADS: (K - 1, depth.hidden_size, R),
            _PROJECTION: (depth.hidden_size, E),
        }
        tables = [name for name in _TABLES if name in weights] or [_TABLES[0]]
        shapes |= dict.fromkeys(tables, (K * R, E))
        for name, shape in shapes.items():
            if name not in weights:
                raise ValueError(f"weights do not fit config.json: {name} is missing")
            if tuple(weights[name].shape) != shape:
                raise ValueError(
                    f"weights do not fit config.json: {name} has shape"
                    f" {quoted(tuple(weights[name].shape))}, expected {shape}"
                )


def depth_weights(sizes: CsmSizes, weights: Mapping[str, StoredWeight]) -> dict[str, StoredWeight]:
    """The depth decoder's weights by the names of `DepthDecoder`.

    The published one looks ids up in the backbone's table and projects what it finds, as it does
    hidden states; here each id's projection is a row. Nothing reads the rows of the first
    codebook's head, which is the backbone's: they are 0.
    """
    K, C, R = sizes.num_codebooks, sizes.codebook_size, sizes.codebook_rows
    prefix = "depth_decoder.model."
    depth = {
        name.removeprefix(prefix): weight
        for name, weight in weights.items()
        if name.startswith((f"{prefix}layers.", f"{prefix}norm."))
    }
    quantized = isinstance(weights[_PROJECTION], ToQuantize)
    projection, heads = _plain(weights[_PROJECTION]), _plain(weights[_HEADS])
    table = _plain(_table(weights, own=1))
    dtype = _NAMES[np.dtype(projection.dtype)]
    by_E = widen(projection).T  # (E, D)
    rows = [narrow(widen(table[k * R : k * R + C]) @ by_E, dtype, _PROJECTION) for k in range(K)]
    outputs = [heads[k : k + 1][0, :, :C].T for k in range(K - 1)]  # (C, D) each
    own: dict[str, StoredWeight] = {
        "projection.weight": projection[:],
        "embed_tokens.weight": np.concatenate(rows),
        "lm_head.weight": np.concatenate([np.zeros_like(outputs[0]), *outputs]),
    }
    return {**depth, **(to_quantize(own) if quantized else own)}


class CsmDecoder(LlamaCpuDecoder):
    """A backbone that reads texts and frames, with its depth decoder; see the module."""

    def __init__(self, sizes: CsmSizes, weights: Mapping[str, StoredWeight]) -> None:
        """weights: by the names of transformers' CsmForConditionalGeneration, but the codec's.

        Raises ValueError where they do not fit the sizes.
        """
        sizes.check(weights)
        self.sizes = sizes
        # To the Llama its ids are those that it writes: its head, in place of a table.
        backbone = {
            name.replace("backbone_model.", "model.", 1): weight
            for name, weight in weights.items()
            if name.startswith(("backbone_model.layers.", "backbone_model.norm."))
        }
        head = weights["lm_head.weight"]
        codes: StoredWeight = _plain(head)[0 : sizes.codebook_size]
        backbone["model.embed_tokens.weight"] = (
            ToQuantize(codes) if isinstance(head, ToQuantize) else codes
        )
        super().__init__(
            sizes.backbone, backbone, depth=(sizes.depth, depth_weights(sizes, weights))
        )
        self._texts: Weight = _plain(weights[_TEXT])[:]
        self._codes: Weight = _plain(_table(weights, own=0))[:]
        self.vocab_size = sizes.vocab_size

    def embed(self, ids: Sequence[int]) -> Array:
        sizes = self.sizes
        at = np.asarray(ids)
        is_code = at >= sizes.text_rows
        embedded = np.empty((len(at), sizes.backbone.hidden_size), np.float32)
        embedded[~is_code] = widen(self._texts[at[~is_code]])
        level, code = np.divmod(at[is_code] - sizes.text_rows, sizes.codebook_size)
        embedded[is_code] = widen(self._codes[level * sizes.codebook_rows + code])
        return embedded

    def head_rows(self, ranges: Ranges) -> Ranges:
        return head_rows(self.sizes, ranges)


def head_rows(sizes: CsmSizes, ranges: Ranges) -> Ranges:
    """Ids of the first codebook as rows of the backbone's head. ValueError for any others."""
    first, stop = sizes.text_rows, sizes.text_rows + sizes.codebook_size
    for begin, end in ranges:
        if begin < first or end > stop:
            raise ValueError(
                f"the model's head has rows of ids {first} to {stop - 1} alone, the codes of a"
                f" frame's first codebook: it reads id {begin if begin < first else end - 1} and"
                " does not write it"
            )
    return tuple((begin - first, end - first) for begin, end in ranges)


def _llama(config: Mapping[str, Any], codes: int) -> LlamaCpuConfig:
    """The sizes of one of the two Llamas, whose ids are so many codes."""
    kind = {"model_type": "llama", "vocab_size": codes, "tie_word_embeddings": True}
    return LlamaCpuConfig.from_hf({"rope_theta": _THETA, **config, **kind})


def _table(weights: Mapping[str, StoredWeight], own: int) -> StoredWeight:
    """Embeddings (K R, E) of the backbone (0) or the depth decoder (1); where they are tied a
    checkpoint may hold one of them alone."""
    return weights[_TABLES[own]] if _TABLES[own] in weights else weights[_TABLES[1 - own]]


def _plain(weight: StoredWeight) -> StoredWeight:
    """A weight as it is stored, where it was to be quantized."""
    return weight.weight if isinstance(weight, ToQuantize) else weight


def _count(config: Mapping[str, Any], name: str, where: str = "") -> int:
    value = config.get(name)
    if type(value) is not int or not 1 <= value <= 1 << 20:
        raise ValueError(
            f"config.json: {where}{name} is {quoted(value)}, expected a whole number from 1 on"
        )
    return value

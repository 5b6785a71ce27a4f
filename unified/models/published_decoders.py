"""The decoders of published checkpoints whose language model is a part of something larger."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified.engine.backends.base import Decoder
from unified.engine.backends.cpu.config import LlamaCpuConfig
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder, StoredWeight
from unified.models.hf_checkpoint import (
    decoder_of,
    load_decoder,
    load_hf,
    read_config,
    weights_of,
)
from unified.models.janus_decoder import JanusDecoder, language_weights
from unified.models.pretrained import Pretrained
from unified.models.stored_weights import read_weights
from unified_base.foreign import foreign

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["load_published_decoder", "load_published_hf", "published_decoder_of"]

_OTHER = re.compile(r"\b(vqmodel|vision_model|aligner)\.")


def load_published_decoder(folder: Path, pretrained: Pretrained, dtype: str = "auto") -> Decoder:
    """The decoder of a checkpoint that `published.open_published` knows, for sampling.

    dtype: "float32", "bfloat16", "float16", "int8" or "auto": as its weights are stored.

    Raises ValueError for files that do not fit each other.
    """
    config = read_config(folder)
    if pretrained.decoder == "causal":
        return load_decoder(folder, dtype)
    if pretrained.decoder == "transformers":
        from unified.engine.backends.transformers import TransformersDecoder

        hf = load_published_hf(folder, pretrained, dtype)
        with foreign(f"checkpoint {folder} cannot be used"):  # which it is once, to know its head
            return TransformersDecoder(hf)
    stored = read_weights(folder, lambda name: not _OTHER.search(name), dtype=dtype)
    try:
        return _inner_llama(config, stored, pretrained)
    except ValueError as error:
        raise ValueError(f"checkpoint {folder}: {error}") from None


def published_decoder_of(
    hf: PreTrainedModel, pretrained: Pretrained, compiled: bool = True, dtype: str = "auto"
) -> Decoder:
    """The decoder of a published model with the weights of an object of transformers.

    compiled: whether the CPU backend, which packs a copy of them, is used where it can be. dtype:
    "int8": that copy is quantized.
    """
    if pretrained.decoder == "causal":
        return decoder_of(hf, compiled, dtype)
    if compiled and pretrained.decoder != "transformers" and hf.device.type == "cpu":
        all_weights = weights_of(hf, dtype)
        weights = {name: w for name, w in all_weights.items() if not _OTHER.search(name)}
        return _inner_llama(hf.config.to_dict(), weights, pretrained)
    from unified.engine.backends.transformers import TransformersDecoder
    from unified.models.janus_torch import JanusTorchDecoder

    return (JanusTorchDecoder if pretrained.decoder == "janus" else TransformersDecoder)(hf)


def _inner_llama(
    config: Mapping[str, Any], stored: Mapping[str, StoredWeight], pretrained: Pretrained
) -> Decoder:
    """The compiled decoder of a Llama inside a larger checkpoint, whose weights are `stored`."""
    text = {"model_type": "llama", "hidden_act": "silu", **(config.get("text_config") or {})}
    text["model_type"] = "llama"  # what both are but for their name
    language = language_weights(stored)
    # Whole checkpoints say of their embeddings' being the head in more than one place.
    text["tie_word_embeddings"] = "lm_head.weight" not in language
    sizes = LlamaCpuConfig.from_hf(text)
    if pretrained.decoder == "llama":
        return LlamaCpuDecoder(sizes, language)
    vq = config.get("vq_config") or {}
    return JanusDecoder(sizes, stored, str(vq.get("hidden_act") or "gelu"))


def load_published_hf(
    folder: Path, pretrained: Pretrained, dtype: str = "auto", device: str = "cpu"
) -> Any:
    """A published checkpoint as an object of its class in transformers.

    Its codec, and what else of it training must not change, has no gradients.

    Raises ValueError for files that do not fit each other.
    """
    import transformers

    kind = getattr(transformers, pretrained.hf_class) if pretrained.hf_class else None
    hf = load_hf(folder, kind, dtype, device)
    for name in (*pretrained.inside.values(), *pretrained.frozen):
        getattr(hf.base_model, name).requires_grad_(False)
    return hf

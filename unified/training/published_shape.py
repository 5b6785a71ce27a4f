"""What an estimate must know of CSM and Higgs Audio v2 beside the shape of their Llama."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from unified.engine.backends.depth_config import DepthConfig
from unified.models.csm_decoder import CsmSizes
from unified.models.pretrained import pretrained_models
from unified.training.config import TrainConfig
from unified.training.published_positions import PUBLISHED
from unified.training.weights import choose_trained
from unified_base.meta_device import on_meta_device

__all__ = ["count_published", "published_entries"]


def published_entries(stored: Mapping[str, Any]) -> tuple[dict[str, Any], DepthConfig | None]:
    """(entries of config.json in whose place an estimate needs others, the depth decoder)."""
    kind = stored.get("model_type")
    if kind == "csm":
        sizes = CsmSizes.from_hf(stored)
        return {"vocab_size": sizes.codebook_size, "tie_word_embeddings": False}, sizes.depth
    if kind == "higgs_audio_v2":  # the rows of its head
        rows = int(stored["num_codebooks"]) * int(stored["codebook_size"])
        return {"vocab_size": rows, "tie_word_embeddings": False}, None
    return {}, None


def count_published(stored: Mapping[str, Any], config: TrainConfig) -> tuple[int, int] | None:
    """(weights beside the codec, those of them that a run trains), counted in transformers' object
    without memory; None for models whose shape says it.

    Raises ValueError where there is nothing of the kind to train.
    """
    kind = str(stored.get("model_type"))
    if kind not in PUBLISHED:
        return None
    import transformers

    (pretrained,) = (p for p in pretrained_models().values() if p.model_type == kind)
    with on_meta_device():
        made_of = transformers.AutoConfig.for_model(**copy.deepcopy(dict(stored)))
        hf = getattr(transformers, str(pretrained.hf_class))._from_config(made_of)
    hf.tie_weights()
    for name in pretrained.inside.values():
        delattr(hf.base_model, name)
    parameters = sum(p.numel() for p in hf.parameters())
    choose_trained(hf, config.train, int(stored["vocab_size"]), asdict(config.lora))
    return parameters, sum(p.numel() for p in hf.parameters() if p.requires_grad)

"""The decoders of published checkpoints whose language model is a part of something larger."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified.engine.backends.base import Decoder
from unified.engine.backends.cpu.config import LlamaCpuConfig
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder, StoredWeight
from unified.engine.backends.depth_config import DepthConfig
from unified.models.choose_backend import torch_decoder, uses_cpu_backend
from unified.models.csm_decoder import CsmDecoder, CsmSizes
from unified.models.hf_checkpoint import (
    decoder_of,
    load_decoder,
    load_hf,
    read_config,
    weights_of,
)
from unified.models.higgs_decoder import HiggsDecoder
from unified.models.janus_decoder import JanusDecoder, language_weights
from unified.models.moshi_decoder import MoshiDecoder, MoshiSizes
from unified.models.pretrained import Pretrained, pretrained_models
from unified.models.stored_weights import read_weights
from unified_base.foreign import foreign

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unified.engine.backends.stepped_model import SteppedModel

__all__ = [
    "has_compiled_inside",
    "load_published_decoder",
    "load_published_hf",
    "published_decoder_of",
]

ENCODER_DECODERS = {
    "musicgen": ("cross_models", "MusicgenModel"),
    "dia": ("cross_models", "DiaModel"),
}
"""By `Pretrained.decoder`: module and class of a model with a text encoder, a `CrossModel`."""
_OTHER = re.compile(
    r"\b(vqmodel|vision_model|vision_tower|multi_modal_projector|aligner|codec_model|audio_encoder)\."
)


def load_published_decoder(
    folder: Path,
    pretrained: Pretrained,
    dtype: str = "auto",
    backend: str = "auto",
    depth: DepthConfig | None = None,
) -> Decoder:
    """The decoder of a checkpoint that `published.open_published` knows, for sampling.

    dtype: "float32", "bfloat16", "float16", "int8" or "auto": as its weights are stored; "int4",
    which torch steps. backend: of `unified.models.choose_backend`. depth: of the depth decoder
    beside it; None: it has none.

    Raises ValueError for files that do not fit each other.
    """
    config = read_config(folder)
    if pretrained.decoder == "causal":
        return load_decoder(folder, dtype, backend, depth)
    if pretrained.decoder in ENCODER_DECODERS:
        # What the CPU backend quantizes is its packed copy.
        packed = dtype == "int8" and backend in ("auto", "cpu")
        hf = load_published_hf(folder, pretrained, "auto" if packed else dtype)
        return published_decoder_of(hf, pretrained, True, backend, dtype)
    if dtype == "int4" or not _compiled(backend, pretrained, "cpu"):
        hf = load_published_hf(folder, pretrained, dtype, depth=depth)
        with foreign(f"checkpoint {folder} cannot be used"):  # which it is, to know its head
            return _torch(hf, backend, pretrained)
    stored = read_weights(folder, lambda name: not _OTHER.search(name), dtype=dtype)
    try:
        return _inner_llama(config, stored, pretrained)
    except ValueError as error:
        raise ValueError(f"checkpoint {folder}: {error}") from None


def published_decoder_of(
    hf: PreTrainedModel,
    pretrained: Pretrained,
    repack: bool = True,
    backend: str = "auto",
    dtype: str = "auto",
) -> Decoder:
    """The decoder of a published model with the weights of an object of transformers.

    repack, backend, dtype: see `unified.models.hf_checkpoint.decoder_of`.
    """
    if pretrained.decoder == "causal":
        return decoder_of(hf, repack, backend, dtype)
    if pretrained.decoder in ENCODER_DECODERS:
        return _encoder_decoder(hf, pretrained, repack, backend, dtype)
    if _compiled(backend, pretrained, str(hf.device), repack):
        all_weights = weights_of(hf, dtype)
        weights = {name: w for name, w in all_weights.items() if not _OTHER.search(name)}
        return _inner_llama(hf.config.to_dict(), weights, pretrained)
    return _torch(hf, backend, pretrained)


def has_compiled_inside(config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint with this config.json holds a decoder that the CPU backend computes."""
    return any(
        pretrained.model_type == config.get("model_type")
        and pretrained.decoder in ("llama", "janus", "csm", "moshi", "higgs", *ENCODER_DECODERS)
        for pretrained in pretrained_models().values()
    )


def _compiled(backend: str, pretrained: Pretrained, device: str, repack: bool = True) -> bool:
    """Whether the CPU backend computes the decoder inside: a Llama by any other name, or one with a
    text encoder."""
    inner = {"model_type": "llama", "hidden_act": "silu"}
    if not pretrained.compiles:
        inner["model_type"] = pretrained.name
    return uses_cpu_backend(backend, inner, device, repack)


def _torch(hf: PreTrainedModel, backend: str, pretrained: Pretrained) -> Decoder:
    """A decoder that steps an object of transformers."""
    if pretrained.decoder == "qwen-talker":
        if backend == "torch_static":
            raise ValueError(
                f"{type(hf).__name__} reads texts beside codes, which backend torch_static does not"
                " run; take backend auto or transformers"
            )
        from unified.models.qwen_talker import TalkerDecoder

        return TalkerDecoder(hf)
    return torch_decoder(hf, backend, _stepped(hf, pretrained))


def _encoder_decoder(
    hf: PreTrainedModel, pretrained: Pretrained, repack: bool, backend: str, dtype: str
) -> Decoder:
    """The decoder of a model with a text encoder."""
    if backend == "torch_static":
        raise ValueError(
            f"{type(hf).__name__} has a text encoder, which backend torch_static does not run; take"
            " backend auto, cpu or transformers"
        )
    from unified.models.compiled_cross import compiles, cross_decoder
    from unified.models.encoder_decoder import EncoderDecoder

    module, name = ENCODER_DECODERS[pretrained.decoder]
    model = getattr(import_module(f"unified.models.{module}"), name)(hf)
    packed = dtype != "int4" and _compiled(backend, pretrained, str(hf.device), repack)
    if packed and (backend == "cpu" or compiles(model)):
        return cross_decoder(model, dtype)
    return EncoderDecoder(model)


def _stepped(hf: PreTrainedModel, pretrained: Pretrained) -> SteppedModel | None:
    """What steps an object of transformers otherwise than plainly."""
    if pretrained.decoder == "csm":
        from unified.models.csm_torch import CsmModel

        return CsmModel(hf)
    if pretrained.decoder == "moshi":
        from unified.models.moshi_torch import MoshiModel

        return MoshiModel(hf)
    if pretrained.decoder == "janus":
        from unified.models.janus_torch import JanusModel

        return JanusModel(hf)
    if pretrained.decoder == "higgs":
        from unified.models.higgs_torch import HiggsModel

        return HiggsModel(hf)
    return None


def _inner_llama(
    config: Mapping[str, Any], stored: Mapping[str, StoredWeight], pretrained: Pretrained
) -> Decoder:
    """The compiled decoder of a Llama inside a larger checkpoint, whose weights are `stored`."""
    if pretrained.decoder == "csm":
        return CsmDecoder(CsmSizes.from_hf(config), stored)
    if pretrained.decoder == "higgs":
        return HiggsDecoder(config, stored)
    if pretrained.decoder == "moshi":
        return MoshiDecoder(MoshiSizes.from_hf(config), stored)
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
    folder: Path,
    pretrained: Pretrained,
    dtype: str = "auto",
    device: str = "cpu",
    depth: DepthConfig | None = None,
) -> Any:
    """A published checkpoint as an object of its class in transformers.

    Its codec, and what else of it training must not change, has no gradients. depth: of the depth
    decoder beside it; None: it has none.

    Raises ValueError for files that do not fit each other.
    """
    import transformers

    kind = getattr(transformers, pretrained.hf_class) if pretrained.hf_class else None
    hf = load_hf(folder, kind, dtype, device, depth)
    if pretrained.prepare is not None:
        pretrained.prepare(hf, folder)
    for name in (*pretrained.inside.values(), *pretrained.frozen):
        getattr(hf.base_model, name).requires_grad_(False)
    return hf

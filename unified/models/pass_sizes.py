"""What a pass of a decoder is of, by its transformers' object on the device "meta"."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from unified.engine.backends.cpu.config import LlamaCpuConfig
from unified.engine.backends.depth_config import DepthConfig
from unified.models.csm_decoder import CsmSizes
from unified.models.higgs_decoder import CODES, HEAD, TEXT
from unified.models.moshi_decoder import MoshiSizes
from unified.models.published_decoders import ENCODER_DECODERS

__all__ = ["PassSizes", "depth_cache_bytes", "plain_sizes", "published_sizes"]


@dataclass(frozen=True)
class PassSizes:
    """
    Attributes:
        cache_numbers: numbers of keys and values of a position.
        hidden: numbers for each new position of a pass, beside weights and cache.
        vocabulary: ids that have logits.
        positions: the most of a sequence.
        ids_of_a_position: the most that one holds by the checkpoint itself.
        depth: a depth decoder of the checkpoint's own.
        backbone: the Llama that the CPU backend packs, where it is not the object itself.
        packed: shapes of what the CPU backend packs instead, where it is no Llama; None: nothing.
        unpacked: numbers of tables that the CPU backend reads by rows, and of an encoder that it
            leaves to torch, beside the backbone's.
        is_plain: whether the object is a causal LM and nothing more, or holds one.
    """

    cache_numbers: int
    hidden: int
    vocabulary: int
    positions: int
    ids_of_a_position: int = 1
    depth: DepthConfig | None = None
    backbone: LlamaCpuConfig | None = None
    packed: Sequence[tuple[int, ...]] | None = None
    unpacked: int = 0
    is_plain: bool = False


def plain_sizes(hf: Any, where: str) -> PassSizes:
    """Of a causal LM, or of the one that a larger object holds. Raises ValueError for others."""
    try:
        text = hf.config.get_text_config()
        return _sizes(text, text.vocab_size, text.max_position_embeddings, is_plain=True)
    except (AttributeError, TypeError, ValueError) as missing:
        raise ValueError(
            f"{where} is not of a decoder whose keys and values can be counted: {missing}"
        ) from None


def published_sizes(hf: Any, where: str) -> PassSizes | None:
    """Of a published model whose positions hold several codes; None of others.

    Raises ValueError, naming the file, where its sizes do not fit each other.
    """
    config, kind = hf.config, str(hf.config.model_type)
    if kind == "csm":
        try:
            sizes = CsmSizes.from_hf(config.to_dict())
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        rows = sizes.text_rows + sizes.num_codebooks * sizes.codebook_rows
        return _sizes(
            config, sizes.codebook_size, config.max_position_embeddings,
            ids_of_a_position=sizes.num_codebooks, depth=sizes.depth, backbone=sizes.backbone,
            unpacked=rows * config.hidden_size,
        )  # fmt: skip
    if kind == "moshi":
        try:
            moshi = MoshiSizes.from_hf(config.to_dict())
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        rows = moshi.texts + 1 + 2 * moshi.num_codebooks * (moshi.codebook_size + 1)
        return _sizes(
            config, moshi.texts, config.max_position_embeddings,
            ids_of_a_position=1 + 2 * moshi.num_codebooks, depth=moshi.depth, backbone=moshi.main,
            unpacked=rows * config.hidden_size,
        )  # fmt: skip
    if kind == "qwen3_omni_moe":  # of which the talker alone is computed
        talker = config.talker_config
        levels, codes = talker.num_code_groups, talker.code_predictor_config.vocab_size
        text = talker.text_config
        return _sizes(text, levels * codes, text.max_position_embeddings, ids_of_a_position=levels)
    if kind == "higgs_audio_v2":
        rows = config.num_codebooks * config.codebook_size
        shapes = {name: tuple(p.shape) for name, p in hf.named_parameters()}
        packed = [shape for name, shape in shapes.items() if name.startswith("model.layers.")]
        return _sizes(
            config, rows, config.max_position_embeddings, ids_of_a_position=config.num_codebooks,
            packed=[*packed, shapes["model.norm.weight"], shapes[HEAD]],
            unpacked=math.prod(shapes[TEXT]) + math.prod(shapes[CODES]),
        )  # fmt: skip
    if kind in ENCODER_DECODERS:
        from unified.models.compiled_cross import packed_shapes

        module, name = ENCODER_DECODERS[kind]
        model = getattr(import_module(f"unified.models.{module}"), name)(hf)
        shapes = packed_shapes(model)
        table = shapes.pop("embed_tokens.weight")
        own = config.decoder if kind == "musicgen" else config.decoder_config
        return _sizes(
            own, model.num_codebooks * model.rows, model.max_positions,
            cache_numbers=model.shape.numbers_of_a_position, ids_of_a_position=model.num_codebooks,
            packed=list(shapes.values()),
            unpacked=math.prod(table) + sum(p.numel() for p in model.encoder.module.parameters()),
        )  # fmt: skip
    return None


def _sizes(config: Any, vocabulary: int, positions: int, **others: Any) -> PassSizes:
    """Of layers of this config."""
    layers, D, H = config.num_hidden_layers, config.hidden_size, config.num_attention_heads
    F = getattr(config, "intermediate_size", None)
    if F is None:  # Moshi's is of gate and value together
        F = config.ffn_dim // 2 if config.model_type == "moshi" else config.ffn_dim
    G = getattr(config, "num_key_value_heads", None) or H
    C = getattr(config, "head_dim", None) or D // H
    others.setdefault("cache_numbers", 2 * layers * G * C)
    hidden = 4 * D + (H + 2 * G) * C + H * C + 3 * F
    return PassSizes(hidden=hidden, vocabulary=vocabulary, positions=positions, **others)


def depth_cache_bytes(depth: DepthConfig, size: int) -> int:
    """Bytes of keys and values of a position that a depth decoder fills; size: of a number.

    The CPU backend rounds heads and ids up to whole panels of float32.
    """
    numbers = 2 * depth.num_layers * depth.num_kv_heads * depth.head_dim
    return numbers * depth.num_ids * size

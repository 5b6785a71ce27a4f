"""The sizes of a decoder that the CPU backend computes, read from its config.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unified_base.foreign import foreign
from unified_base.text import quoted

__all__ = ["PANEL", "LlamaCpuConfig", "default_inv_freq"]

PANEL = 32
"""Outputs of a packed weight that lie side by side (`unified.engine.backends.cpu.matmul`)."""

_MOST = 8192

# RoPE scaling that does not depend on the length of a sequence.
_STATIC_ROPE = ("linear", "llama3", "yarn")


@dataclass(frozen=True)
class LlamaCpuConfig:
    """The sizes of a decoder of the Llama family, from the fields of its Hugging Face config.json.

    Attributes:
        inv_freq: head_dim / 2 angles: how far each rotary pair turns from one position to the next.
        attention_scaling: what rotated queries and keys are multiplied by (YaRN).
        qk_norm: whether queries and keys have a norm of their own (Qwen3).
        qkv_bias: whether their projections have a bias (Qwen2).
    """

    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    norm_eps: float
    inv_freq: tuple[float, ...]
    qk_norm: bool
    tie_word_embeddings: bool
    qkv_bias: bool = False
    attention_scaling: float = 1.0

    @classmethod
    def covers(cls, config: Mapping[str, Any]) -> bool:
        """Whether the CPU backend computes this config.json as transformers would."""
        rope = _rope_entries(config)
        layer_types = config.get("layer_types") or []
        window = config.get("sliding_window") if config.get("model_type") == "mistral" else None
        positions = config.get("max_position_embeddings") or 0
        return (
            config.get("model_type") in ("llama", "mistral", "qwen2", "qwen3")
            and rope["rope_type"] in ("default", *_STATIC_ROPE)
            and (window is None or window >= positions)
            and rope.get("partial_rotary_factor", 1.0) == 1.0
            and config.get("hidden_act") == "silu"
            and not config.get("attention_bias")
            and not config.get("mlp_bias")
            and not config.get("use_sliding_window")
            and all(kind == "full_attention" for kind in layer_types)
        )

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> LlamaCpuConfig:
        """Raises ValueError for a config.json outside `covers`, or one that lacks a size."""
        if not cls.covers(config):
            raise ValueError(
                f"the CPU decoder does not cover model_type {config.get('model_type')!r} with "
                "these options; load it through TransformersDecoder"
            )
        hidden_size = _size(config, "hidden_size", 2**20)
        heads = _size(config, "num_attention_heads")
        head_dim = _size(config, "head_dim", 2**16, hidden_size // heads)
        kv_heads = _size(config, "num_key_value_heads", _MOST, heads)
        if head_dim < 2 or head_dim % 2 or heads % kv_heads:
            raise ValueError(
                f"config.json has {heads} heads of {head_dim} numbers and {kv_heads} of keys;"
                " expected an even width, and heads that divide among those of keys"
            )
        eps = config.get("rms_norm_eps")
        if not isinstance(eps, int | float) or not 0 <= eps < 1:
            raise ValueError(f"config.json: rms_norm_eps is {quoted(eps)}, expected from 0 to 1")
        inv_freq, attention_scaling = _rope(config, head_dim)
        return cls(
            hidden_size=hidden_size,
            num_layers=_size(config, "num_hidden_layers"),
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            intermediate_size=_size(config, "intermediate_size", 2**24),
            vocab_size=_size(config, "vocab_size", 2**26),
            max_position_embeddings=_size(config, "max_position_embeddings", 2**31 - 1),
            norm_eps=float(eps),
            inv_freq=inv_freq,
            attention_scaling=attention_scaling,
            qk_norm=config["model_type"] == "qwen3",
            qkv_bias=config["model_type"] == "qwen2",
            tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of a checkpoint of these sizes, by its Hugging Face name."""
        D, C = self.hidden_size, self.head_dim
        q_size, kv_size = self.num_heads * C, self.num_kv_heads * C
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocab_size, D),
            "model.norm.weight": (D,),
        }
        if not self.tie_word_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, D)
        for i in range(self.num_layers):
            prefix = f"model.layers.{i}."
            shapes |= {
                prefix + "input_layernorm.weight": (D,),
                prefix + "post_attention_layernorm.weight": (D,),
                prefix + "self_attn.q_proj.weight": (q_size, D),
                prefix + "self_attn.k_proj.weight": (kv_size, D),
                prefix + "self_attn.v_proj.weight": (kv_size, D),
                prefix + "self_attn.o_proj.weight": (D, q_size),
                prefix + "mlp.gate_proj.weight": (self.intermediate_size, D),
                prefix + "mlp.up_proj.weight": (self.intermediate_size, D),
                prefix + "mlp.down_proj.weight": (D, self.intermediate_size),
            }
            if self.qkv_bias:
                shapes[prefix + "self_attn.q_proj.bias"] = (q_size,)
                shapes[prefix + "self_attn.k_proj.bias"] = (kv_size,)
                shapes[prefix + "self_attn.v_proj.bias"] = (kv_size,)
            if self.qk_norm:
                shapes[prefix + "self_attn.q_norm.weight"] = (C,)
                shapes[prefix + "self_attn.k_norm.weight"] = (C,)
        return shapes

    def check(self, weights: Mapping[str, Any]) -> None:
        """Raise ValueError naming missing, unexpected or misshapen tensors."""
        expected = self.shapes()
        actual = {name: array.shape for name, array in weights.items()}
        if self.tie_word_embeddings:
            actual.pop("lm_head.weight", None)  # some writers store the tied head twice
        problems = [f"{name} is missing" for name in expected if name not in actual]
        problems += [f"{quoted(name)} is unexpected" for name in actual if name not in expected]
        problems += [
            f"{name} has shape {quoted(actual[name])}, expected {shape}"
            for name, shape in expected.items()
            if name in actual and actual[name] != shape
        ]
        if problems:
            more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
            raise ValueError(f"weights do not fit config.json: {'; '.join(problems[:3])}{more}")


def _size(config: Mapping[str, Any], name: str, most: int = _MOST, default: int = 0) -> int:
    """A size from config.json. Raises ValueError where it is missing or impossible."""
    value = config.get(name) or default
    if type(value) is not int or not 1 <= value <= most:
        if name not in config:
            raise ValueError(f"config.json has no field '{name}'")
        raise ValueError(
            f"config.json: {name} is {quoted(value)}, expected a whole number of 1 to {most:,}"
        )
    return value


def _rope_entries(config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of config.json about rotary positions, in the form of transformers 5."""
    rope: dict[str, Any] = {}
    for name in ("rope_scaling", "rope_parameters"):
        entries = config.get(name) or {}
        if not isinstance(entries, Mapping):
            raise ValueError(f"config.json: {name} is {quoted(entries)}, expected a mapping")
        rope |= entries
    rope["rope_type"] = rope.get("rope_type") or rope.pop("type", None) or "default"
    return {"rope_theta": config.get("rope_theta") or 10_000.0, **rope}


def default_inv_freq(theta: float, head_dim: int) -> tuple[float, ...]:
    """The angles of plain rotary positions (RoFormer, arXiv:2104.09864)."""
    return tuple(theta ** -(pair / head_dim) for pair in range(0, head_dim, 2))


def _rope(config: Mapping[str, Any], head_dim: int) -> tuple[tuple[float, ...], float]:
    entries = _rope_entries(config)
    theta = entries["rope_theta"]
    if isinstance(theta, bool) or not isinstance(theta, int | float) or not 1e-3 < theta < 1e18:
        raise ValueError(
            f"config.json: rope_theta is {quoted(theta)}, expected a number above 0.001"
        )
    if entries["rope_type"] == "default":
        return default_inv_freq(float(theta), head_dim), 1.0
    # Needed by few models, and torch takes seconds to import.
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    known: dict[str, Any] = {
        key: _size(config, key, 2**31 - 1)
        for key in ("hidden_size", "num_attention_heads", "max_position_embeddings")
    }
    with foreign("config.json: rope_parameters"):
        llama = LlamaConfig(**known, head_dim=head_dim, rope_parameters=entries)
        angles, scale = ROPE_INIT_FUNCTIONS[entries["rope_type"]](llama, None)
        values, factor = tuple(angles.double().tolist()), float(scale)
    if len(values) != head_dim // 2 or not all(map(math.isfinite, (*values, factor))):
        raise ValueError(
            f"config.json: rope_parameters are {quoted(entries)}, which give no angles"
        )
    return values, factor

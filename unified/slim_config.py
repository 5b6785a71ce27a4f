"""The sizes of a decoder that the slim path computes, read from its config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["PANEL", "SlimConfig", "rope_of"]

PANEL = 32
"""Outputs of a packed weight that lie side by side (`unified.tiles`)."""

# Ways of stretching rotary positions that do not depend on how long a sequence is.
_STATIC_ROPE = ("linear", "llama3", "yarn")


@dataclass(frozen=True)
class SlimConfig:
    """The sizes of a decoder of the Llama family, from the fields of its Hugging Face config.json.

    rope: the angle by which each rotary pair turns from one position to the next, head_width / 2
    of them. rope_scale: what rotated pairs are multiplied by. qk_norm: Qwen3's norms of queries
    and keys. qkv_bias: Qwen2's.
    """

    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_width: int
    ffn_width: int
    vocab_size: int
    max_ids: int
    norm_eps: float
    rope: tuple[float, ...]
    qk_norm: bool
    tied: bool
    qkv_bias: bool = False
    rope_scale: float = 1.0

    @classmethod
    def covers(cls, config: Mapping[str, Any]) -> bool:
        """Whether the slim path computes this config.json as transformers would."""
        rope = _rope_entries(config)
        layer_types = config.get("layer_types") or []
        window = config.get("sliding_window") if config.get("model_type") == "mistral" else None
        return (
            config.get("model_type") in ("llama", "mistral", "qwen2", "qwen3")
            and rope.get("rope_type", "default") in ("default", *_STATIC_ROPE)
            and (window is None or window >= config.get("max_position_embeddings", 0))
            and rope.get("partial_rotary_factor", 1.0) == 1.0
            and config.get("hidden_act") == "silu"
            and not config.get("attention_bias")
            and not config.get("mlp_bias")
            and not config.get("use_sliding_window")
            and all(kind == "full_attention" for kind in layer_types)
        )

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> SlimConfig:
        """Raises ValueError for a config.json outside `covers`, or one that lacks a size."""
        if not cls.covers(config):
            raise ValueError(
                f"the slim decoder does not cover model_type {config.get('model_type')!r} with "
                "these options; load it through GenericDecoder"
            )
        try:
            heads, width = int(config["num_attention_heads"]), int(config["hidden_size"])
            head_width = int(config.get("head_dim") or width // heads)
            rope, rope_scale = _rope(config, head_width)
            return cls(
                width=width,
                num_layers=int(config["num_hidden_layers"]),
                num_heads=heads,
                num_kv_heads=int(config.get("num_key_value_heads") or heads),
                head_width=head_width,
                ffn_width=int(config["intermediate_size"]),
                vocab_size=int(config["vocab_size"]),
                max_ids=int(config["max_position_embeddings"]),
                norm_eps=float(config["rms_norm_eps"]),
                rope=rope,
                rope_scale=rope_scale,
                qk_norm=config["model_type"] == "qwen3",
                qkv_bias=config["model_type"] == "qwen2",
                tied=bool(config.get("tie_word_embeddings", False)),
            )
        except KeyError as missing:
            raise ValueError(f"config.json has no field {missing}") from None

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of a checkpoint of these sizes, by its Hugging Face name."""
        D, C = self.width, self.head_width
        q_size, kv_size = self.num_heads * C, self.num_kv_heads * C
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocab_size, D),
            "model.norm.weight": (D,),
        }
        if not self.tied:
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
                prefix + "mlp.gate_proj.weight": (self.ffn_width, D),
                prefix + "mlp.up_proj.weight": (self.ffn_width, D),
                prefix + "mlp.down_proj.weight": (D, self.ffn_width),
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
        found = {name: array.shape for name, array in weights.items()}
        if self.tied:
            found.pop("lm_head.weight", None)  # some writers store the tied head twice
        problems = [f"{name} is missing" for name in expected if name not in found]
        problems += [f"{name} is unexpected" for name in found if name not in expected]
        problems += [
            f"{name} has shape {found[name]}, expected {shape}"
            for name, shape in expected.items()
            if name in found and found[name] != shape
        ]
        if problems:
            more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
            raise ValueError(f"weights do not fit config.json: {'; '.join(problems[:3])}{more}")


def _rope_entries(config: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json says of rotary positions, in transformers' form of today."""
    found = dict(config.get("rope_scaling") or {}) | dict(config.get("rope_parameters") or {})
    found["rope_type"] = found.get("rope_type") or found.pop("type", None) or "default"
    return {"rope_theta": config.get("rope_theta") or 10_000.0, **found}


def rope_of(theta: float, head_width: int) -> tuple[float, ...]:
    """The angles of plain rotary positions (RoFormer, arXiv:2104.09864)."""
    return tuple(theta ** -(pair / head_width) for pair in range(0, head_width, 2))


def _rope(config: Mapping[str, Any], head_width: int) -> tuple[tuple[float, ...], float]:
    entries = _rope_entries(config)
    if entries["rope_type"] == "default":
        return rope_of(float(entries["rope_theta"]), head_width), 1.0
    # Needed by few models, and torch takes seconds to import.
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    known = {
        key: config[key]
        for key in ("hidden_size", "num_attention_heads", "max_position_embeddings")
    }
    llama = LlamaConfig(**known, head_dim=head_width, rope_parameters=entries)
    angles, scale = ROPE_INIT_FUNCTIONS[entries["rope_type"]](llama, None)
    return tuple(angles.double().tolist()), float(scale)

"""Tiny causal LMs of transformers with random weights, one for each family that is covered."""

from __future__ import annotations

from typing import Any

import torch
import transformers

VOCAB = 61
WINDOW = 7
# Heads share keys; the model's width is not that of its heads together.
_SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 600,
}
_VQ = {
    "num_embeddings": 8, "embed_dim": 8, "double_latent": False, "latent_channels": 8,
    "base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1,
}  # fmt: skip
_CHAMELEON = {
    "vq_config": _VQ,
    "vocabulary_map": {"<image>": 5, **{f"IMGIMG{chr(65 + n)}Z": 10 + n for n in range(8)}},
}
_EMU3 = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_GEMMA2 = {"head_dim": 10, "sliding_window": WINDOW, "query_pre_attn_scalar": 10}
_GRANITE = {
    "logits_scaling": 3.0, "residual_multiplier": 0.5, "embedding_multiplier": 2.0,
    "attention_multiplier": 0.3,
}  # fmt: skip

# Model class, config class, options of the config.
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", {"head_dim": 10}),
    "mistral": (
        "MistralForCausalLM", "MistralConfig", {"head_dim": 10, "sliding_window": WINDOW},
    ),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", {}),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {"head_dim": 10}),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", _GEMMA2),
    "gemma3": (
        "Gemma3ForCausalLM", "Gemma3TextConfig", {"head_dim": 10, "sliding_window": WINDOW},
    ),
    "phi": ("PhiForCausalLM", "PhiConfig", {}),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", {"pad_token_id": 0, "sliding_window": WINDOW}),
    "chameleon": ("ChameleonForConditionalGeneration", "ChameleonConfig", _CHAMELEON),
    "chameleon swin": (
        "ChameleonForConditionalGeneration", "ChameleonConfig", {**_CHAMELEON, "swin_norm": True},
    ),
    "emu3": ("Emu3ForCausalLM", "Emu3TextConfig", _EMU3),
    "olmo2": ("Olmo2ForCausalLM", "Olmo2Config", {"pad_token_id": 0}),
    "granite": ("GraniteForCausalLM", "GraniteConfig", _GRANITE),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", {"num_local_experts": 4}),
    "qwen3 moe": (
        "Qwen3MoeForCausalLM", "Qwen3MoeConfig",
        {"head_dim": 10, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    ),
}  # fmt: skip


def tiny_model(family: str, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """A model of a family, in evaluation mode, the same at every call."""
    model_class, config_class, own = FAMILIES[family]
    torch.manual_seed(3)
    config = getattr(transformers, config_class)(**{**_SIZES, **own, **options})
    hf = getattr(transformers, model_class)(config)
    for parameter in hf.parameters():  # far from the initial near-zero logits
        torch.nn.init.normal_(parameter, std=0.3)
    return hf.eval().to(dtype)

"""One random Qwen3 in the forms that llama.cpp and CTranslate2 read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

__all__ = ["random_weights", "write_ct2", "write_gguf"]

# Names of a layer's tensors in GGUF and in transformers.
_LAYER = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip


def write_gguf(model: Any, path: Path, kind: str) -> None:
    """Write a Qwen3 of transformers for llama.cpp, without a tokenizer.

    kind: "BF16" or "Q8_0", of the matrices; norms are float32 in both.
    """
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(config.vocab_size)
    quantized = gguf.GGMLQuantizationType[kind]
    weights = model.state_dict()

    def add(name: str, source: str) -> None:
        weight = weights[f"{source}.weight"].float().numpy()
        if weight.ndim == 1:
            writer.add_tensor(f"{name}.weight", weight)
            return
        data = gguf.quants.quantize(weight, quantized)
        writer.add_tensor(f"{name}.weight", data, raw_dtype=quantized)

    add("token_embd", "model.embed_tokens")
    add("output_norm", "model.norm")
    for layer in range(config.num_hidden_layers):
        for name, source in _LAYER.items():
            add(f"blk.{layer}.{name}", f"model.layers.{layer}.{source}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_ct2(model: Any, folder: Path, kind: str) -> None:
    """Write a Qwen3 of transformers for CTranslate2; ids are named by their numbers.

    kind: "int8", "bfloat16", ... of the matrices. The model is used up.
    """
    from ctranslate2.converters.transformers import Qwen3Loader

    spec = Qwen3Loader().get_model_spec(model)
    spec.register_vocabulary([str(id) for id in range(model.config.vocab_size)])
    # Nothing of what is measured ends a sequence: the length does.
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = "0"
    spec.config.layer_norm_epsilon = model.config.rms_norm_eps
    spec.validate()
    spec.optimize(quantization=kind)
    folder.mkdir()
    spec.save(str(folder))


def random_weights(model: Any, seed: int) -> None:
    """Fill a model in place with numbers whose logits are plain: normal, of spread 0.02."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.02, generator=generator)

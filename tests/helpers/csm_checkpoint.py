"""A tiny CSM, laid out as sesame/csm-1b is: random weights, Mimi of 32 codebooks inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from tests.helpers.codes_checkpoints import byte_level, randomize

CSM = ["<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", "<|AUDIO|>",
       "<|audio_eos|>"]  # fmt: skip
CODES, ROWS, LEVELS = 16, 19, 32
"""Codes of a codebook, rows of it in the tables (three are padding's), and codebooks."""
MIMI = {
    "sampling_rate": 16_000, "upsampling_ratios": [4, 2], "hidden_size": 16, "num_filters": 4,
    "codebook_size": CODES, "codebook_dim": 8, "vector_quantization_hidden_dimension": 8,
    "num_quantizers": LEVELS, "num_semantic_quantizers": 1, "upsample_groups": 16,
    "num_hidden_layers": 1, "intermediate_size": 32, "num_attention_heads": 2,
    "num_key_value_heads": 2, "sliding_window": 8,
}  # fmt: skip


def rope(positions: int) -> dict[str, Any]:
    """Rotary positions scaled as CSM's are, with changes within so many positions."""
    return {"rope_type": "llama3", "rope_theta": 5e5, "factor": 32.0, "low_freq_factor": 0.125,
            "high_freq_factor": 0.5, "original_max_position_embeddings": positions}  # fmt: skip


@torch.no_grad()
def randomize_codebooks(codec: Any) -> None:
    """Codebooks of a Mimi, which are buffers and begin as zeros."""
    rng = torch.Generator().manual_seed(1)
    for name, buffer in codec.named_buffers():
        if name.endswith(".embed_sum"):
            buffer.copy_(torch.randn(buffer.shape, generator=rng))
    for module in codec.modules():
        if getattr(module, "_embed", None) is not None:
            module._embed = None  # a quotient that is computed again


def make_csm(folder: Path, tied: bool = True) -> Any:
    """tied: whether both tables of codes are one, as published."""
    text = byte_level(CSM)
    tokens = text.tokens
    config = transformers.CsmConfig(
        num_codebooks=LEVELS, vocab_size=ROWS, text_vocab_size=text.size + 3, hidden_size=32,
        intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=512, rope_parameters=rope(64), codebook_pad_token_id=ROWS - 1,
        pad_token_id=tokens["<|finetune_right_pad_id|>"],
        bos_token_id=tokens["<|begin_of_text|>"], audio_token_id=tokens["<|AUDIO|>"],
        audio_eos_token_id=tokens["<|audio_eos|>"], tie_codebooks_embeddings=tied,
        depth_decoder_config={
            "num_codebooks": LEVELS, "backbone_hidden_size": 32, "vocab_size": ROWS,
            "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
            "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 8,
            "max_position_embeddings": 33, "rope_parameters": rope(16),
        },
        codec_config={"model_type": "mimi", **MIMI},
    )  # fmt: skip
    model = transformers.CsmForConditionalGeneration(config).eval()
    randomize(model)
    randomize_codebooks(model.codec_model)
    model.save_pretrained(folder)
    text.save(folder)
    return model

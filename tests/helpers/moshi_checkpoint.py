"""A tiny Moshi, laid out as kmhf/hf-moshika is: random weights, eight codebooks of each voice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers

from tests.helpers.codes_checkpoints import byte_level, randomize
from tests.helpers.csm_checkpoint import CODES, MIMI, randomize_codebooks

MOSHI = ["<unk>", "<s>", "</s>", "<pad>"]


def make_moshi(folder: Path) -> Any:
    text = byte_level(MOSHI)
    config = transformers.MoshiConfig(
        vocab_size=text.size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        head_dim=8, ffn_dim=40, max_position_embeddings=200, sliding_window=200, num_codebooks=8,
        depth_decoder_config={
            "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "head_dim": 8,
            "ffn_dim": 20,
        },
        audio_encoder_config={"model_type": "mimi", **MIMI, "codebook_size": CODES},
    )  # fmt: skip
    model = transformers.MoshiForConditionalGeneration(config).eval()
    randomize(model)
    randomize_codebooks(model.audio_encoder)
    model.save_pretrained(folder)
    text.save(folder)
    return model

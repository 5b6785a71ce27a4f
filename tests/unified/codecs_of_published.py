"""Tiny codecs for the tiny checkpoints of models that come without theirs, and checkpoints that
hold their codec whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from unified_tokenizers.adapters_snac import SnacAdapter
from unified_tokenizers.chameleon_decoder import ChameleonDecoder
from unified_tokenizers.snac_model import SnacConfig, SnacModel

TURNS = ("<start_of_turn>", "<end_of_turn>")


def save_snac(folder: Path) -> Path:
    """SNAC with Orpheus' seven codebooks of 4,096 codes, 16 samples a frame."""
    torch.manual_seed(0)
    config = SnacConfig(
        sampling_rate=24_000, encoder_dim=4, encoder_rates=(2, 2), decoder_dim=8,
        decoder_rates=(2, 2), attn_window_size=None, codebook_size=4096, codebook_dim=2,
        vq_strides=(4, 2, 1), depthwise=False, noise=False,
    )  # fmt: skip
    SnacAdapter(SnacModel(config).eval()).save_pretrained(folder)
    return folder


def save_chameleon_vq(folder: Path, codes: int = 8192) -> Path:
    """Chameleon's codec with a decoder, of 8,192 codes, 2x2 pixels a code."""
    torch.manual_seed(0)
    config = transformers.ChameleonVQVAEConfig(
        base_channels=32, channel_multiplier=[1, 1], num_res_blocks=1, latent_channels=4,
        embed_dim=4, num_embeddings=codes, resolution=64, attn_type="none",
    )  # fmt: skip
    transformers.ChameleonVQVAE(config).save_pretrained(folder)
    _add_decoder(folder, config, "")
    return folder


def make_anole(published: Any, folder: Path) -> Path:
    """A Chameleon that holds the decoder of its pictures, as Anole's checkpoint does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(published.LLAMA, "num_hidden_layers", 1)  # 1,024 ids make one picture
        checkpoint = published.make("chameleon", folder)
    torch.manual_seed(0)
    _add_decoder(folder, checkpoint.hf.config.vq_config, "model.vqmodel.")
    return folder


def make_liquid_with_turns(published: Any, folder: Path) -> Path:
    """A Liquid whose text tokenizer has the tokens of Gemma's turns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(published.SPECIAL, "liquid", [*published.SPECIAL["liquid"], *TURNS])
        patch.setitem(published.LLAMA, "num_hidden_layers", 1)
        published.make("liquid", folder)
    return folder


def save_qwen(kind: str, text: Any, folder: Path) -> Path:
    """An untrained Qwen2 or Qwen3 with a text tokenizer, some of its rows padding."""
    torch.manual_seed(0)
    shape = {
        "vocab_size": text.size + 6, "hidden_size": 20, "intermediate_size": 28,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 200,
    }  # fmt: skip
    if kind == "qwen2":
        model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**shape))
    else:
        model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**shape, head_dim=10))
    model.save_pretrained(folder)
    text.save(folder)
    return folder


def _add_decoder(folder: Path, config: Any, prefix: str) -> None:
    """Put a decoder's random weights beside those of an encoder, under the original's names."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name, value in ChameleonDecoder(config).state_dict().items():
        tensors[f"{prefix}decoder.{name}"] = value.contiguous()
    save_file(tensors, path, metadata={"format": "pt"})

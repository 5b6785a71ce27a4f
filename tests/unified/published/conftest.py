"""Tiny checkpoints laid out as the published ones are: random weights, tokens by their names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.helpers import codes_checkpoints, csm_checkpoint
from tests.helpers.moshi_checkpoint import MOSHI, make_moshi
from tests.helpers.qwen_omni_checkpoint import QWEN, make_qwen_omni
from tokenizers import AddedToken
from unified import UnifiedModel
from unified.vocabulary.text_tokenizer import TextTokenizer

VQ = {"base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1, "embed_dim": 4,
      "latent_channels": 4}  # fmt: skip
LLAMA = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
CODES = 24
# Processors that make small pictures: these codecs halve a side, so that 512x512 pixels, which the
# published sixteenth of a side makes 32x32 codes, would be 256x256 of them, and their attention
# takes 17 GB.
CHAMELEON = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
SMALL = {"min_pixels": 64, "max_pixels": 256, "spatial_factor": 2}
JANUS = {"image_processor_type": "JanusImageProcessor", "size": {"height": 96, "width": 96}}
PROCESSORS = {
    "emu3": SMALL, "apertus": SMALL, "chameleon": CHAMELEON, "janus": JANUS, "janus-pro": JANUS,
}  # fmt: skip
TEXTS = ["a red fox on a green ground", "two owls and a lamp 90*12", "what is this? a tree"] * 3

PAD, BEGIN, END = (
    f"<\uff5c{name}\uff5c>"
    for name in ("\u2581pad\u2581", "begin\u2581of\u2581sentence", "end\u2581of\u2581sentence")
)
SPECIAL = {
    "emu3": ["<|endoftext|>", "<|extra_203|>", "<|extra_204|>", "<|image start|>",
             "<|image end|>", "<|image token|>", "<|extra_200|>", "<|extra_201|>", "<|extra_5|>",
             "<image>", *(f"<|visual token {code:06d}|>" for code in range(CODES))],
    # Codes of pictures in no order, among the ids of text.
    "chameleon": ["<s>", "<pad>", "</s>", "<unk>",
                  *(f"IMGIMG{''.join(chr(65 + int(d)) for d in str(code))}Z"
                    for code in (*range(9, CODES), *range(9))),
                  "<racm3:break>", "<eoss>", "<image>", "<reserved08706>"],
    "janus": [BEGIN, END, PAD, "<begin_of_image>", "<end_of_image>", "<image_placeholder>"],
    "janus-pro": [BEGIN, END, PAD, "<begin_of_image>", "<end_of_image>", "<image_placeholder>",
                  "<|User|>", "<|Assistant|>"],
    "apertus": ["<unk>", "<s>", "</s>", "<pad>",
                *(f"<|{part}_{end}|>" for part in ("system", "developer", "user", "assistant")
                  for end in ("start", "end")),
                "<|img_start|>", "<|img_end|>", "<|img_token_start|>", "<|img_end_of_row|>",
                "<|image|>", "<|audio_start|>", "<|audio_end|>", "<|audio|>"],
    "liquid": ["<pad>", "<eos>", "<bos>", "<unk>", "<boi>", "<eoi>", "<unconditional>"],
    "orpheus": ["<|begin_of_text|>", "<|eot_id|>", "<|python_tag|>",
                *(f"<custom_token_{number}>" for number in range(10 + 7 * 4096))],
    "moshi": MOSHI, "qwen-omni": QWEN,
}  # fmt: skip


def text_tokenizer(kind: str):
    """A byte-level tokenizer with the special tokens of a kind, and their ids."""
    backend = TextTokenizer.train(TEXTS, 280)._tokenizer
    backend.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL[kind]])
    return TextTokenizer(backend)


IN_POSITIONS = {
    "csm": csm_checkpoint.make_csm,
    "higgs-audio-v2": codes_checkpoints.make_higgs,
    "musicgen": codes_checkpoints.make_musicgen,
    "dia": codes_checkpoints.make_dia,
}
"""What makes models with several codes in a position, by the names of their formats."""


WAV = {"num_filters": 4, "upsampling_ratios": [5, 4], "hidden_size": 8, "codebook_dim": 8,
       "codebook_size": 12, "num_lstm_layers": 1}  # fmt: skip


def apertus_config(tokens, size: int):
    """An Apertus 1.5 whose head has the rows of text and turns, as the published ones have."""
    image_offset = size + 2  # some ids are reserved
    return transformers.Apertus1p5Config(
        text_config={
            **LLAMA, "vocab_size": image_offset + CODES + WAV["codebook_size"] + 1,
            "output_vocab_size": tokens["<|img_start|>"], "max_position_embeddings": 700,
            "pad_token_id": tokens["<pad>"], "bos_token_id": tokens["<s>"],
            "eos_token_id": tokens["</s>"],
        },
        vision_config={"codebook_size": CODES, "embed_dim": 4, "latent_channels": 4,
                       "base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1,
                       "attn_resolutions": [], "resolution": 16},
        audio_config={"model_type": "wavtokenizer_encoder", **WAV},
        image_token_id=tokens["<|image|>"], audio_token_id=tokens["<|audio|>"],
        image_token_offset=image_offset, audio_token_offset=image_offset + CODES,
    )  # fmt: skip


def randomize(model, seed: int = 0) -> None:
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                scale = 0.4 if "embed" in name else 1.5 * weight[0].numel() ** -0.5
                weight.copy_(torch.randn(weight.shape, generator=rng) * scale)


@dataclass
class Checkpoint:
    folder: Path
    hf: Any
    text: TextTokenizer
    special: list[str]
    codes: int = CODES


def make(kind: str, folder: Path) -> Checkpoint:
    if kind in IN_POSITIONS:
        return Checkpoint(folder, IN_POSITIONS[kind](folder), TextTokenizer.load(folder), [])
    if kind in ("moshi", "qwen-omni"):  # whose positions hold several ids
        hf = (make_moshi if kind == "moshi" else make_qwen_omni)(folder)
        return Checkpoint(folder, hf, TextTokenizer.load(folder), SPECIAL[kind])
    text = text_tokenizer(kind)
    tokens, rows = text.tokens, text.size + 3  # some rows are padding
    vocabulary = {name: tokens[name] for name in SPECIAL[kind]}
    if kind == "emu3":
        ends = {"pad_token_id": tokens["<|endoftext|>"], "bos_token_id": tokens["<|extra_203|>"],
                "eos_token_id": tokens["<|extra_204|>"]}  # fmt: skip
        config = transformers.Emu3Config(
            vq_config={**VQ, "codebook_size": CODES, "attn_resolutions": [1], "hidden_size": 32,
                       "temporal_downsample_factor": 4},
            vocabulary_map=vocabulary,
            text_config={**LLAMA, **ends, "vocab_size": rows, "max_position_embeddings": 400},
        )  # fmt: skip
        model = transformers.Emu3ForConditionalGeneration(config)
    elif kind == "chameleon":
        config = transformers.ChameleonConfig(
            vq_config={**VQ, "num_embeddings": CODES, "resolution": 64},
            vocabulary_map=vocabulary, pad_token_id=tokens["<pad>"], bos_token_id=tokens["<s>"],
            eos_token_id=tokens["</s>"], vocab_size=rows, max_position_embeddings=2048, **LLAMA,
        )  # fmt: skip
        model = transformers.ChameleonForConditionalGeneration(config)
    elif kind == "apertus":
        config, rows = apertus_config(tokens, text.size), text.size
        model = transformers.Apertus1p5ForConditionalGeneration(config)
    elif kind in ("janus", "janus-pro"):
        config = transformers.JanusConfig(
            text_config={"model_type": "llama", **LLAMA, "vocab_size": rows,
                         "max_position_embeddings": 1024},
            vision_config={"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                           "image_size": 96, "patch_size": 4, "projection_dim": 32},
            vq_config={**VQ, "num_embeddings": CODES, "num_patches": 24, "projection_dim": 32,
                       "image_token_embed_dim": 32},
        )  # fmt: skip
        model = transformers.JanusForConditionalGeneration(config)
    elif kind == "liquid":
        config = transformers.GemmaConfig(
            **LLAMA, head_dim=8, vocab_size=text.size + 8192, max_position_embeddings=2048,
            pad_token_id=tokens["<pad>"], bos_token_id=tokens["<bos>"],
            eos_token_id=tokens["<eos>"],
        )  # fmt: skip
        model = transformers.GemmaForCausalLM(config)
    else:
        config = transformers.LlamaConfig(
            **LLAMA, vocab_size=rows, max_position_embeddings=512, tie_word_embeddings=True,
            rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, "factor": 32.0,
                             "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 64},
        )  # fmt: skip
        model = transformers.LlamaForCausalLM(config)
    randomize(model)
    model.eval().save_pretrained(folder)
    text.save(folder)
    if kind in PROCESSORS:
        (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSORS[kind]))
    return Checkpoint(folder, model, text, SPECIAL[kind])


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    root = tmp_path_factory.mktemp("published")
    return {kind: make(kind, root / kind) for kind in SPECIAL}


@pytest.fixture(scope="session")
def opened(checkpoints):
    return {
        kind: UnifiedModel.from_pretrained(checkpoint.folder)
        for kind, checkpoint in checkpoints.items()
    }

"""A tiny Qwen3-Omni, laid out as Qwen/Qwen3-Omni-30B-A3B-Instruct is: random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers

from tests.helpers.codes_checkpoints import TEXTS, randomize
from tokenizers import AddedToken
from unified.vocabulary.text_tokenizer import TextTokenizer

QWEN = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tts_pad>", "<tts_text_bos>",
        "<tts_text_eod>", "<|audio_pad|>", "<|image_pad|>", "<|video_pad|>",
        "<|vision_start|>", "<|audio_start|>"]  # fmt: skip
CODES = 16
"""Codes of a level. The talker's own table has 1,024 rows more, as published."""
SPEAKERS = {"ethan": 1031, "chelsie": 1032}


def make_qwen_omni(folder: Path) -> Any:
    backend = TextTokenizer.train(TEXTS, 280)._tokenizer
    backend.add_tokens([AddedToken(name, normalized=False) for name in ("user", "assistant")])
    backend.add_special_tokens([AddedToken(token, special=True) for token in QWEN])
    text = TextTokenizer(backend)
    tokens = text.tokens
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12}
    own = 1024 + CODES
    config = transformers.Qwen3OmniMoeConfig(
        thinker_config={
            "text_config": {**shape, **experts, "vocab_size": text.size + 3, "hidden_size": 32,
                            "intermediate_size": 40, "head_dim": 8, "rope_parameters": rope},
            "audio_config": {"num_mel_bins": 16, "encoder_layers": 1, "encoder_attention_heads": 2,
                             "encoder_ffn_dim": 16, "d_model": 16, "output_dim": 32,
                             "downsample_hidden_size": 8, "max_source_positions": 40},
            "vision_config": {"depth": 1, "hidden_size": 16, "intermediate_size": 16,
                              "num_heads": 2, "out_hidden_size": 32,
                              "deepstack_visual_indexes": [0]},
            "audio_token_id": tokens["<|audio_pad|>"], "image_token_id": tokens["<|image_pad|>"],
            "video_token_id": tokens["<|video_pad|>"],
            "vision_start_token_id": tokens["<|vision_start|>"],
            "audio_start_token_id": tokens["<|audio_start|>"],
        },
        talker_config={
            "text_config": {**shape, **experts, "vocab_size": own, "hidden_size": 24,
                            "intermediate_size": 28, "head_dim": 8, "rope_parameters": rope,
                            "shared_expert_intermediate_size": 10,
                            "max_position_embeddings": 400},
            "code_predictor_config": {**shape, "vocab_size": CODES, "hidden_size": 24,
                                      "intermediate_size": 28, "head_dim": 8,
                                      "num_code_groups": 16},
            "num_code_groups": 16, "thinker_hidden_size": 32, "accept_hidden_layer": 1,
            "spatial_merge_size": 2,
            "codec_eos_token_id": CODES + 1, "codec_nothink_id": CODES + 2,
            "codec_think_bos_id": CODES + 3, "codec_think_eos_id": CODES + 4,
            "codec_pad_id": CODES + 5, "codec_bos_id": CODES + 6, "speaker_id": SPEAKERS,
            "audio_token_id": tokens["<|audio_pad|>"], "image_token_id": tokens["<|image_pad|>"],
            "video_token_id": tokens["<|video_pad|>"],
            "vision_start_token_id": tokens["<|vision_start|>"],
            "audio_start_token_id": tokens["<|audio_start|>"],
        },
        code2wav_config={
            "codebook_size": CODES, "hidden_size": 16, "num_attention_heads": 2,
            "num_key_value_heads": 2, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_quantizers": 16, "upsample_rates": [2, 2], "upsampling_ratios": [2],
            "decoder_dim": 16, "sliding_window": 8,
        },
        im_start_token_id=tokens["<|im_start|>"], im_end_token_id=tokens["<|im_end|>"],
        tts_pad_token_id=tokens["<tts_pad>"], tts_bos_token_id=tokens["<tts_text_bos>"],
        tts_eos_token_id=tokens["<tts_text_eod>"], user_token_id=tokens["user"],
        assistant_token_id=tokens["assistant"], system_token_id=text.size + 1,
    )  # fmt: skip
    model = transformers.Qwen3OmniMoeForConditionalGeneration(config).eval()
    randomize(model, scales={"code2wav.decoder.4.conv.weight": 0.02})  # most samples within 1
    model.save_pretrained(folder)
    text.save(folder)
    return model

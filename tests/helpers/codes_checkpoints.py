"""Tiny checkpoints of models that have several codes in a position, laid out as published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from tokenizers import AddedToken
from unified.vocabulary.text_tokenizer import TextTokenizer

TEXTS = ["a red fox on a green ground", "two owls and a lamp 90*12", "what is this? a tree"] * 3
CODES = 16


def byte_level(special: list[str]) -> TextTokenizer:
    """A byte-level tokenizer with special tokens."""
    backend = TextTokenizer.train(TEXTS, 280)._tokenizer
    backend.add_special_tokens([AddedToken(token, special=True) for token in special])
    return TextTokenizer(backend)


@torch.no_grad()
def randomize(
    model: Any, seed: int = 0, scales: dict[str, float] | None = None, embedding: float = 0.4
) -> None:
    """Random weights of a size that keeps signals alive, and random codebooks, which are zeros."""
    rng = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            scale = embedding if "embed" in name else weight[0].numel() ** -0.5
            scale *= (scales or {}).get(name, 1)
            weight.copy_(torch.randn(weight.shape, generator=rng) * scale)
    for name, buffer in model.named_buffers():
        if name.endswith(".embed"):
            buffer.copy_(torch.randn(buffer.shape, generator=rng))


HIGGS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
         "<|eot_id|>", "<|scene_desc_start|>", "<|scene_desc_end|>", "<|audio_out_bos|>",
         "<|audio_eos|>", "<|reserved_special_token_6|>", "<|AUDIO_OUT|>"]  # fmt: skip


def make_higgs(folder: Path, seed: int = 4) -> Any:
    """Eight levels of 16 codes; the end of level 0 follows on its code 3, and the others' in turn."""
    text = byte_level(HIGGS)
    tokens = text.tokens
    config = transformers.HiggsAudioV2Config(
        vocab_size=text.size + 3, hidden_size=64, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=12, max_position_embeddings=1200,
        num_codebooks=8, codebook_size=CODES + 2, audio_stream_bos_id=CODES,
        audio_stream_eos_id=CODES + 1, pad_token_id=tokens["<|end_of_text|>"],
        bos_token_id=tokens["<|begin_of_text|>"], eos_token_id=tokens["<|audio_eos|>"],
        audio_token_id=tokens["<|AUDIO_OUT|>"], audio_bos_token_id=tokens["<|audio_out_bos|>"],
        audio_delay_token_id=tokens["<|reserved_special_token_6|>"],
    )  # fmt: skip
    model = transformers.HiggsAudioV2ForConditionalGeneration(config).eval()
    randomize(model, seed)
    teach_ends(
        model.model.embed_audio_tokens.embed_audio_tokens.weight.view(8, CODES + 2, -1),
        model.audio_lm_head.weight.view(8, CODES + 2, -1),
    )
    model.save_pretrained(folder)
    text.save(folder)
    return model


@torch.no_grad()
def teach_ends(embeddings_KRD: torch.Tensor, head_KRD: torch.Tensor) -> None:
    """What a trained model has learnt: level k + 1 ends where level k did, a position before; and
    no level begins anew. Level 0 ends behind its code 3."""
    K, _, D = head_KRD.shape
    rng = torch.Generator().manual_seed(1)
    directions_KD = torch.linalg.qr(torch.randn(D, D, generator=rng))[0][:K]
    head_KRD -= head_KRD @ directions_KD.T @ directions_KD  # codes do not see them
    head_KRD[:, CODES:] = 0
    embeddings_KRD[0, 3] = 40 * directions_KD[0]
    for k in range(K):
        head_KRD[k, CODES + 1] = 0.25 * directions_KD[k]
        if k + 1 < K:  # the sum of a position has the next direction alone
            before = directions_KD[k] if k else 0
            embeddings_KRD[k, CODES + 1] = 40 * (directions_KD[k + 1] - before)


def save_higgs_codec(folder: Path) -> Path:
    """Its tokenizer, of eight codebooks."""
    semantic = transformers.HubertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        conv_dim=[8] * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    acoustic = transformers.DacConfig(
        encoder_hidden_size=4, decoder_hidden_size=64, hidden_size=12,
        downsampling_ratios=[8, 5, 4, 2, 3], upsampling_ratios=[8, 5, 4, 2, 3],
    )  # fmt: skip
    config = transformers.HiggsAudioV2TokenizerConfig(
        codebook_size=CODES, codebook_dim=8, target_bandwidths=[0.4, 0.8],
        acoustic_model_config=acoustic, semantic_model_config=semantic,
    )  # fmt: skip
    model = transformers.HiggsAudioV2TokenizerModel(config).eval()
    randomize(
        model, scales={"quantizer.project_in.weight": 3, "acoustic_decoder.conv2.weight": 1e-3}
    )
    model.save_pretrained(folder)
    return folder


T5 = ["<pad>", "</s>", "<unk>"]


def make_musicgen(folder: Path, seed: int = 0, **sizes: int) -> Any:
    """A T5 encoder, a decoder of four levels of 16 codes, and an EnCodec of 6 samples a frame."""
    text = byte_level(T5)
    shape = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 40}
    tokens = text.tokens
    config = transformers.MusicgenConfig(
        text_encoder=transformers.T5Config(
            vocab_size=text.size + 2, d_model=20, d_kv=5, d_ff=28, num_layers=2, num_heads=4,
            pad_token_id=tokens["<pad>"], eos_token_id=tokens["</s>"],
        ),
        audio_encoder=transformers.EncodecConfig(
            target_bandwidths=[1.6], sampling_rate=600, hidden_size=12, codebook_size=CODES,
            codebook_dim=12, num_filters=4, upsampling_ratios=[3, 2], num_lstm_layers=1,
            normalize=False, chunk_length_s=None,
        ),
        decoder=transformers.MusicgenDecoderConfig(
            vocab_size=CODES, num_codebooks=4, max_position_embeddings=600, pad_token_id=CODES,
            bos_token_id=CODES, **{**shape, **sizes},
        ),
    )  # fmt: skip
    model = transformers.MusicgenForConditionalGeneration(config).eval()
    randomize(model, seed, embedding=2.0)
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=CODES, pad_token_id=CODES, decoder_start_token_id=CODES, guidance_scale=3.0,
        do_sample=True, max_length=60,
    )  # fmt: skip
    model.save_pretrained(folder)
    text.save(folder)
    return model

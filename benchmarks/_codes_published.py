"""Speed of published models with several codes a position, at an eighth of their widths.

Each has its published layers, codebooks and codes, an eighth of its widths (heads fewer, not
narrower, where there are enough), random bfloat16 weights, and its published sampling with its
guidance. One row: positions a second, and seconds of sound a second, without the codec. Sequences
are a second or two long, so that attention to long ones is not measured.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from _codes_csm import config_of
from _shared import say

from tokenizers import AddedToken
from unified.engine.engine import Engine
from unified.engine.request import CodedSlot, Finished, Request
from unified.formats.coded import CodedText
from unified.models.model import UnifiedModel
from unified.vocabulary.text_tokenizer import TextTokenizer

TEXT = "[S1] eighty words of a pop track with bassy drums and synth"
HIGGS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
         "<|eot_id|>", "<|scene_desc_start|>", "<|scene_desc_end|>", "<|audio_out_bos|>",
         "<|audio_eos|>", "<|reserved_special_token_6|>", "<|AUDIO_OUT|>")  # fmt: skip
CSM = ("<|finetune_right_pad_id|>", "<|begin_of_text|>", "<|end_of_text|>", "<|audio_eos|>")
MIMI = {"num_filters": 4, "hidden_size": 16, "codebook_size": 2048, "codebook_dim": 8,
        "vector_quantization_hidden_dimension": 8, "num_quantizers": 32, "upsample_groups": 16,
        "num_hidden_layers": 1, "intermediate_size": 32, "num_attention_heads": 2,
        "num_key_value_heads": 2}  # fmt: skip


class Shape(NamedTuple):
    """codes: of a position. rate: positions a second of sound. make: from a folder, to which it may
    save a text tokenizer, to the model of transformers. listens: codes of a voice that is given."""

    codes: int
    rate: float
    make: Callable[[Path], Any]
    listens: int = 0


def _words(folder: Path, special: tuple[str, ...]) -> TextTokenizer:
    backend = TextTokenizer.train([TEXT], 280)._tokenizer
    backend.add_special_tokens([AddedToken(token, special=True) for token in special])
    text = TextTokenizer(backend)
    text.save(folder)
    return text


def _csm(folder: Path) -> Any:
    text = _words(folder, CSM)
    tokens = dict(zip(("pad", "bos", "audio", "audio_eos"), (text.tokens[t] for t in CSM)))
    own = {f"{name}_token_id": id for name, id in tokens.items()}
    config = {**config_of(16), **own, "text_vocab_size": text.size}
    return transformers.CsmForConditionalGeneration(transformers.CsmConfig(**config))


def _moshi(folder: Path) -> Any:
    text = _words(folder, ("<unk>", "<s>", "</s>", "<pad>"))
    config = transformers.MoshiConfig(
        vocab_size=text.size, hidden_size=512, num_hidden_layers=32, num_attention_heads=4,
        head_dim=128, ffn_dim=2816, max_position_embeddings=3000, sliding_window=3000,
        num_codebooks=8, audio_encoder_config={"model_type": "mimi", **MIMI},
        depth_decoder_config={
            "hidden_size": 128, "num_hidden_layers": 6, "num_attention_heads": 2, "head_dim": 64,
            "ffn_dim": 704,
        },
    )  # fmt: skip
    return transformers.MoshiForConditionalGeneration(config)


def _higgs(folder: Path) -> Any:
    text = _words(folder, HIGGS)
    tokens = text.tokens
    config = transformers.HiggsAudioV2Config(
        vocab_size=text.size, hidden_size=384, intermediate_size=1024, num_hidden_layers=28,
        num_attention_heads=3, num_key_value_heads=1, head_dim=128, max_position_embeddings=2048,
        num_codebooks=8, codebook_size=1026, audio_stream_bos_id=1024, audio_stream_eos_id=1025,
        pad_token_id=tokens["<|end_of_text|>"], bos_token_id=tokens["<|begin_of_text|>"],
        eos_token_id=tokens["<|audio_eos|>"], audio_token_id=tokens["<|AUDIO_OUT|>"],
        audio_bos_token_id=tokens["<|audio_out_bos|>"],
        audio_delay_token_id=tokens["<|reserved_special_token_6|>"],
    )  # fmt: skip
    return transformers.HiggsAudioV2ForConditionalGeneration(config)


def _musicgen(folder: Path) -> Any:
    text = _words(folder, ("<pad>", "</s>"))
    config = transformers.MusicgenConfig(
        text_encoder=transformers.T5Config(
            vocab_size=text.size, d_model=96, d_kv=8, d_ff=384, num_layers=12, num_heads=12,
            pad_token_id=text.tokens["<pad>"], eos_token_id=text.tokens["</s>"],
        ),
        audio_encoder=transformers.EncodecConfig(
            target_bandwidths=[2.2], sampling_rate=32_000, hidden_size=32, codebook_size=2048,
            codebook_dim=32, num_filters=4, upsampling_ratios=[8, 5, 4, 4], num_lstm_layers=1,
            normalize=False, chunk_length_s=None,
        ),
        decoder=transformers.MusicgenDecoderConfig(
            vocab_size=2048, num_codebooks=4, max_position_embeddings=2048, hidden_size=128,
            num_hidden_layers=24, num_attention_heads=2, ffn_dim=512, pad_token_id=2048,
            bos_token_id=2048,
        ),
    )  # fmt: skip
    return transformers.MusicgenForConditionalGeneration(config)


def _dia(folder: Path) -> Any:
    config = transformers.DiaConfig(
        encoder_config=transformers.DiaEncoderConfig(
            num_hidden_layers=12, hidden_size=128, intermediate_size=512, num_attention_heads=2,
            num_key_value_heads=2, head_dim=64, max_position_embeddings=1024,
        ),
        decoder_config=transformers.DiaDecoderConfig(
            num_hidden_layers=18, hidden_size=256, intermediate_size=1024, num_attention_heads=2,
            num_key_value_heads=1, head_dim=128, cross_num_attention_heads=2, cross_head_dim=128,
            cross_num_key_value_heads=2, cross_hidden_size=128, vocab_size=1028,
            eos_token_id=1024, pad_token_id=1025, bos_token_id=1026, max_position_embeddings=3072,
        ),
    )  # fmt: skip
    transformers.DiaTokenizer().save_pretrained(folder)
    return transformers.DiaForConditionalGeneration(config)


SHAPES = {
    "CSM": Shape(32, 12.5, _csm),
    "Moshi": Shape(17, 12.5, _moshi, listens=8),
    "Higgs Audio v2": Shape(8, 25, _higgs),
    "MusicGen small": Shape(4, 50, _musicgen),
    "Dia": Shape(9, 44_100 / 512, _dia),
}


@torch.no_grad()
def checkpoint(shape: Shape, folder: Path) -> None:
    """A checkpoint of a shape with random weights of a size that keeps signals alive."""
    torch.manual_seed(0)
    model = shape.make(folder)
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            weight.normal_(std=0.4 if "embed" in name else weight[0].numel() ** -0.5)
    model.to(torch.bfloat16).eval().save_pretrained(folder)


class Speaker:
    """An opened model, and a request for so many frames of its sound."""

    def __init__(self, shape: Shape, folder: Path, frames: int) -> None:
        model = UnifiedModel.from_pretrained(folder)
        self.shape, self.decoder = shape, model.decoder()
        self.engine = Engine(self.decoder, model.grammar, model.text_tokenizer)
        self.sampling = replace(model.sampling, max_audio_frames=frames, max_ids=40 * (frames + 60))
        codes = np.random.default_rng(0).integers(0, 1024, (shape.listens, frames))
        slot, roles = CodedSlot("audio"), model.grammar.format.roles
        if shape.listens:
            self.segments: tuple[Any, ...] = (CodedSlot("audio", streams={"listener": codes}),)
        else:
            words = tuple(model.text_tokenizer.encode(TEXT))
            text = CodedText(words)
            if roles:
                text, slot = CodedText(words, "prompt"), CodedSlot("audio", role="response")
            self.segments = (text, slot)

    def positions_per_second(self, seed: int) -> float:
        """From the first chosen code to the last."""
        (end,) = (
            event
            for event in self.engine.run([Request(self.segments, seed)], self.sampling)
            if isinstance(event, Finished)
        )
        prompt = 0 if self.shape.listens else end.usage["prompt_ids"]
        positions = (len(end.ids) - prompt) / self.shape.codes
        return float(positions / (end.timings["total"] - end.timings["first_id"]))


def run(quick: bool) -> dict[str, Any]:
    """`published`: codes, positions a second and seconds of sound a second of each model."""
    results: dict[str, Any] = {}
    for name, shape in SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            checkpoint(shape, Path(folder))
            frames = round(shape.rate * (0.5 if quick else 1.5))
            speaker = Speaker(shape, Path(folder), frames)
            speeds = [speaker.positions_per_second(seed) for seed in range(3 if quick else 6)]
        speed = median(speeds[1:])
        results[name] = {
            "codes": shape.codes, "positions_per_second": round(speed, 1),
            "sound_per_second": round(speed / shape.rate, 2), "backend": speaker.decoder.backend,
        }  # fmt: skip
        say(f"{name}: {results[name]}")
    return {"published": results}

"""musicgen_ratio: music by a small MusicGen, transformers' own `generate` over ours.

One checkpoint of musicgen-small's layout at an eighth of its width, with random float32 weights: T5
of 12 layers of width 96, a decoder of 24 layers of width 128 over four codebooks of 2,048 codes;
guidance of 3, top-k 250, temperature 1, as published. The time of a second of sound (50 frames),
with one text, and with four.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers
from _shared import interleaved, say

from tokenizers import AddedToken
from unified.engine.engine import Engine
from unified.engine.request import CodedSlot, Finished, Request, Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.formats.coded import CodedText
from unified.models.model import UnifiedModel
from unified.vocabulary.text_tokenizer import TextTokenizer

FRAMES_PER_SECOND, CODES = 50, 2048
ROWS = (1, 4)
TEXT = "80s pop track with bassy drums and synth"


def _checkpoint(folder: Path) -> Any:
    backend = TextTokenizer.train([TEXT], 256)._tokenizer
    backend.add_special_tokens([AddedToken(token, special=True) for token in ("<pad>", "</s>")])
    text = TextTokenizer(backend)
    config = transformers.MusicgenConfig(
        text_encoder=transformers.T5Config(
            vocab_size=text.size, d_model=96, d_kv=8, d_ff=384, num_layers=12, num_heads=12,
            pad_token_id=text.tokens["<pad>"], eos_token_id=text.tokens["</s>"],
        ),
        audio_encoder=transformers.EncodecConfig(
            target_bandwidths=[2.2], sampling_rate=32_000, hidden_size=32, codebook_size=CODES,
            codebook_dim=32, num_filters=4, upsampling_ratios=[8, 5, 4, 4], num_lstm_layers=1,
            normalize=False, chunk_length_s=None,
        ),
        decoder=transformers.MusicgenDecoderConfig(
            vocab_size=CODES, num_codebooks=4, max_position_embeddings=2048, hidden_size=128,
            num_hidden_layers=24, num_attention_heads=2, ffn_dim=512, pad_token_id=CODES,
            bos_token_id=CODES,
        ),
    )  # fmt: skip
    torch.manual_seed(0)
    hf = transformers.MusicgenForConditionalGeneration(config).eval()
    hf.generation_config = transformers.GenerationConfig(
        bos_token_id=CODES, pad_token_id=CODES, decoder_start_token_id=CODES, max_length=100
    )
    hf.save_pretrained(folder)
    text.save(folder)
    return hf


def run(quick: bool) -> dict[str, float]:
    """`musicgen_ratio` of one text, `musicgen_ratio_4` of four; both without decoding waveforms."""
    frames = FRAMES_PER_SECOND // (2 if quick else 1)
    results: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        hf = _checkpoint(Path(folder))
        model = UnifiedModel.from_pretrained(folder)
        hf.audio_encoder.decode = lambda codes, **rest: transformers.utils.ModelOutput(
            audio_values=codes
        )
        engine = Engine(model.decoder(), model.grammar, model.text_tokenizer)
        ids = model.text_tokenizer.encode(TEXT)
        sampling = Sampling(
            audio=SpanSampling(1.0, top_k=250, guidance=Guidance(3.0)), max_ids=4096,
            max_audio_frames=frames,
        )  # fmt: skip
        for rows in ROWS:
            prompt = torch.tensor([[*ids, model.text_tokenizer.tokens["</s>"]]] * rows)

            def ours(rows: int = rows) -> None:
                requests = [
                    Request((CodedText(tuple(ids)), CodedSlot("audio")), seed)
                    for seed in range(rows)
                ]
                ends = [e for e in engine.run(requests, sampling) if isinstance(e, Finished)]
                assert len(ends) == rows

            def theirs(prompt: torch.Tensor = prompt) -> None:
                with torch.inference_mode():
                    hf.generate(
                        prompt, attention_mask=torch.ones_like(prompt), do_sample=True, top_k=250,
                        guidance_scale=3.0, max_length=frames + 4,
                    )  # fmt: skip

            runs = interleaved([ours, theirs], 3 if quick else 5)
            seconds = dict(zip(("ours", "theirs"), map(median, runs)))
            name = "musicgen_ratio" if rows == 1 else f"musicgen_ratio_{rows}"
            results[name] = round(seconds["theirs"] / seconds["ours"], 2)
            each = ", ".join(f"{who} {value * 1e3:.0f} ms" for who, value in seconds.items())
            say(f"musicgen, {rows} texts, {frames} frames: {each}, ratio {results[name]}")
    return results

"""CSM against transformers' own generate, and its shape at an eighth of its width.

csm_ratio: seconds of `CsmForConditionalGeneration.generate` over ours, on one small checkpoint of
the published layout (32 codebooks of 2,051 rows; backbone of 4 layers of width 256, depth decoder
of 4 of width 128), saved and opened by either: greedy codes, the same ones, which is checked.
realtime_factor_csm_shape: seconds of speech a second, at 12.5 frames, of CSM's own shape at an
eighth of its width: 16 layers of width 256 and 4 of width 128, bfloat16 weights. Random weights.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from _shared import say

from unified.engine.backends.cpu.stored import StoredWeight
from unified.engine.engine import Engine
from unified.engine.request import CodedSlot, Finished, Request
from unified.engine.sampler import SpanSampling
from unified.formats.coded import CodedText
from unified.formats.grammar import Grammar
from unified.models.csm_decoder import CsmDecoder, CsmSizes
from unified.models.hf_checkpoint import read_config
from unified.models.stored_weights import read_weights
from unified.vocabulary.block import Block
from unified.vocabulary.vocabulary import Vocabulary

CODEBOOKS, ROWS, CODES, TEXT, MARKERS = 32, 2051, 2048, 4096, 4
FRAMES_PER_SECOND = 12.5
PROMPT = tuple(range(10, 34))


def config_of(layers: int) -> dict[str, Any]:
    """The shape of CSM at an eighth of its width, with so many layers of the backbone."""
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 0.125,
            "high_freq_factor": 0.5, "original_max_position_embeddings": 1024}  # fmt: skip
    codec = {
        "model_type": "mimi", "num_filters": 4, "hidden_size": 16, "codebook_size": CODES,
        "codebook_dim": 8, "vector_quantization_hidden_dimension": 8, "num_quantizers": CODEBOOKS,
        "upsample_groups": 16, "num_hidden_layers": 1, "intermediate_size": 32,
        "num_attention_heads": 2, "num_key_value_heads": 2,
    }  # fmt: skip
    depth = {
        "num_codebooks": CODEBOOKS, "vocab_size": ROWS, "backbone_hidden_size": 256,
        "hidden_size": 128, "intermediate_size": 1024, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 32,
        "rope_parameters": {**rope, "original_max_position_embeddings": 16},
    }  # fmt: skip
    return {
        "num_codebooks": CODEBOOKS, "vocab_size": ROWS, "text_vocab_size": TEXT, "hidden_size": 256,
        "intermediate_size": 1024, "num_hidden_layers": layers, "num_attention_heads": 4,
        "num_key_value_heads": 1, "head_dim": 64, "max_position_embeddings": 2048,
        "pad_token_id": 0, "bos_token_id": 1, "audio_token_id": 2, "audio_eos_token_id": 3,
        "rope_parameters": rope, "depth_decoder_config": depth, "codec_config": codec,
    }  # fmt: skip


def checkpoint(layers: int, folder: Path, dtype: torch.dtype) -> Any:
    """A checkpoint with random weights, and transformers' object of it."""
    import transformers

    torch.manual_seed(0)
    model = transformers.CsmForConditionalGeneration(transformers.CsmConfig(**config_of(layers)))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and not name.startswith("codec_model"):
                weight.normal_(std=0.4 if "embed" in name else weight[0].numel() ** -0.5)
        model.depth_decoder.codebooks_head.weight.normal_(std=128**-0.5)
    model.to(dtype).eval().save_pretrained(folder)
    return model


def engine_of(folder: Path) -> Engine:
    """The checkpoint's compiled decoder under CSM's format."""
    texts = Block("text", 0, TEXT)
    markers = Block("markers", 0, MARKERS, symbols=("<pad>", "<bos>", "<eos>", "<end>"))
    codes = [Block(f"audio.{k}", TEXT + k * CODES, CODES, level=k) for k in range(CODEBOOKS)]
    grammar = Grammar.load("csm", Vocabulary((texts, markers, *codes), TEXT, TEXT))
    stored: dict[str, StoredWeight] = dict(
        read_weights(folder, lambda name: not name.startswith("codec_model."))
    )
    return Engine(CsmDecoder(CsmSizes.from_hf(read_config(folder)), stored), grammar)


def speak(engine: Engine, frames: int, rows: int = 1, temperature: float = 0.0) -> list[np.ndarray]:
    """Codes (T, K) of each row."""
    from dataclasses import replace

    from unified.engine.request import Sampling

    sampling = Sampling(audio=SpanSampling(temperature), max_audio_frames=frames)
    sampling = replace(sampling, max_ids=2 * CODEBOOKS * (frames + 8))
    requests = [Request((CodedText(PROMPT), CodedSlot("audio")), seed) for seed in range(rows)]
    ends = {e.row: e.ids for e in engine.run(requests, sampling) if isinstance(e, Finished)}
    return [engine.grammar.parse(ends[row])[-1].codes.T for row in range(rows)]


def run(quick: bool) -> dict[str, Any]:
    """Both figures; see the module."""
    frames = 6 if quick else 25
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, engine = checkpoint(4, folder, torch.float32), engine_of(folder)
        unused = list(range(CODES, ROWS))
        ids = torch.tensor([[1, *PROMPT, 2]])

        def theirs() -> np.ndarray:
            with torch.no_grad():
                codes = model.generate(
                    ids, max_new_tokens=frames, do_sample=False, suppress_tokens=unused,
                    depth_decoder_do_sample=False, depth_decoder_suppress_tokens=unused,
                )  # fmt: skip
            return codes[0].numpy()

        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(2 if quick else 5):
            outputs = []
            for own, job in zip(times, (theirs, lambda: speak(engine, frames)[0])):
                began = time.perf_counter()
                outputs.append(job())
                own.append(time.perf_counter() - began)
            assert (outputs[0] == outputs[1]).all(), "other codes than transformers' generate"
        slow, fast = (median(own[1:]) for own in times)
        results["csm_ratio"] = round(slow / fast, 2)
        results["csm_ms_per_frame"] = [round(1000 * s / frames, 2) for s in (slow, fast)]
        say(f"csm: {results['csm_ms_per_frame']} ms a frame, transformers and here")
    with tempfile.TemporaryDirectory() as name:
        checkpoint(16, Path(name), torch.bfloat16)
        engine, frames = engine_of(Path(name)), 12 if quick else 50
        seconds = []
        for _ in range(2 if quick else 5):
            began = time.perf_counter()
            (codes,) = speak(engine, frames, temperature=0.9)
            seconds.append((time.perf_counter() - began) / len(codes))
        factor = 1 / (FRAMES_PER_SECOND * median(seconds[1:]))
        results["realtime_factor_csm_shape"] = round(factor, 2)
        say(f"csm's shape at 1/8 width: {factor:.2f} seconds of speech a second")
    return results

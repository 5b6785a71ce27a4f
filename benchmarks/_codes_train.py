"""Seconds of speech learnt a second of training: a frame's codes together and in a row.

    python benchmarks/_codes_train.py [--quick]

The same backbone (the pocket's shape) with the same weights learns the same documents, a text and
the speech that answers it (25 frames a second, 3 codes a frame), in packed sequences of as many
positions: with three positions a frame; and with one, its other codes by a depth decoder of the
default sizes, or by the decoder's own head. A side's step is all that a training's step does once
its sequences are there: tensors, forward, backward, clipping, AdamW. The sides take turns. Speech
counts with its markers and its text: they are learnt with it.
"""

from __future__ import annotations

import _path  # noqa: F401 (before all others)

# isort: split
import json
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from _shared import say

from unified.dataloading.layout import Layout
from unified.dataloading.packed_sequence import PackedSequence
from unified.dataloading.packing import Packer, pack, split_document
from unified.formats.coded import CodedAudio
from unified.formats.grammar import MODALITIES, Grammar
from unified.formats.load import load_format
from unified.models.code_output import attach_depth_decoder, default_depth
from unified.training.config import OptimizerConfig
from unified.training.kernels.ir import SUPPORTED
from unified.training.layer_modes import LayerModes
from unified.training.loss_factors import modality_factors
from unified.training.micro_batch import make_micro_batch
from unified.training.optimizers import make_optimizers
from unified.training.train_module import TrainModule, layers_of
from unified.training.weights import MasterWeights
from unified.vocabulary.vocabulary import Vocabulary
from unified_base.training.memory import keep_freed_memory
from unified_data.document import Text

__all__ = ["train_ratio"]

FRAMES_PER_SECOND, LEVELS, CODES = 25, 3, 1024
SEQ_LEN = 1024
SHAPE: dict[str, Any] = {
    "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 4, "head_dim": 64, "intermediate_size": 768,
    "max_position_embeddings": 4096, "tie_word_embeddings": True, "pad_token_id": None,
    "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip


class _Bytes:
    """A text tokenizer of letters: what it makes of a text does not matter to the time."""

    size = 4096
    fingerprint = None

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


def _sequences(grammar: Grammar, number: int) -> list[PackedSequence]:
    """Packed sequences of documents of 2 to 6 seconds of speech behind a short text."""
    rng = np.random.default_rng(0)
    layout, packer = Layout(grammar, _Bytes()), Packer(SEQ_LEN)  # type: ignore[arg-type]
    sequences: list[PackedSequence] = []
    while len(sequences) < number:
        while packer.wants_more:
            frames = int(rng.integers(2 * FRAMES_PER_SECOND, 6 * FRAMES_PER_SECOND))
            codes = rng.integers(CODES, size=(LEVELS, frames))
            segments: list[Text | CodedAudio] = [
                Text("say: pandas eat", "prompt", 0.0),
                CodedAudio(codes, "response"),
            ]
            document = layout.encode(segments)
            packer.add(split_document(document, document.ids, SEQ_LEN, "a", "a", 0))
        fields = pack(packer.next(), SEQ_LEN, grammar.padding, layout.ranges)
        sequences.append(
            PackedSequence(**fields, stream=0, number=len(sequences), counters={}, reports=(),
                           state={})
        )  # fmt: skip
    return sequences


def _side(
    name: str, output: str, sequences: int, precision: str
) -> tuple[Callable[[], float], float]:
    """(a function that does a step and says how many seconds it took; seconds of speech in it)."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    vocabulary = Vocabulary.build(
        text_size=_Bytes.size, text_rows=_Bytes.size, markers=load_format(name).markers,
        max_grid=32, image=((CODES,), "image"), audio=((CODES,) * LEVELS, "audio"),
    )  # fmt: skip
    grammar = Grammar.load(name, vocabulary)
    torch.manual_seed(0)
    hf: Any = Qwen3ForCausalLM(Qwen3Config(**SHAPE, vocab_size=vocabulary.size)).float()
    if output == "depth":
        attach_depth_decoder(hf, default_depth(grammar, hf.config))
    layers = layers_of(hf)
    module = TrainModule(hf, None).train()
    master_weights = MasterWeights(module, precision)
    LayerModes(hf, layers, module.by_documents, False)
    optimizers = make_optimizers(OptimizerConfig(lr=1e-4), master_weights.parameters)
    factors = modality_factors({})
    packed = _sequences(grammar, sequences)

    def step() -> float:
        began = time.perf_counter()
        master_weights.copy_to_model()
        for sequence in packed:
            module(make_micro_batch([sequence], factors)).total.backward()
            master_weights.accumulate_grads()
        torch.nn.utils.clip_grad_norm_(master_weights.parameters.values(), 1.0)
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - began

    return step, _frames(packed) / FRAMES_PER_SECOND


def _frames(packed: Sequence[PackedSequence]) -> float:
    """Frames of speech in sequences."""
    audio = MODALITIES["audio"]
    codes = sum(
        int((s.modality == audio).sum())
        + (0 if s.deeper is None else int((s.deeper.modality == audio).sum()))
        for s in packed
    )
    return codes / LEVELS


def train_ratio(quick: bool = False, threads: int = 2) -> dict[str, Any]:
    """Seconds of speech learnt a second of training by each side, and together over in a row."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    # Without products of bfloat16 numbers a processor is ten times slower in it than in float32.
    precision = "bfloat16" if SUPPORTED else "float32"
    sides = {
        "in_a_row": ("pocket", ""), "depth": ("pocket-together", "depth"),
        "heads": ("pocket-together", "heads"),
    }  # fmt: skip
    steps = {
        name: _side(format, output, 1 if quick else 2, precision)
        for name, (format, output) in sides.items()
    }
    for step, _ in steps.values():
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(2 if quick else 7):
        for name, (step, _) in steps.items():
            seconds[name].append(step())
    learnt = {name: speech / median(seconds[name]) for name, (_, speech) in steps.items()}
    for name, value in learnt.items():
        say(f"{name}: {value:.2f} s of speech a second ({precision}, {threads} threads)")
    return {
        "precision": precision,
        "threads": threads,
        "speech_seconds_per_second": {name: round(value, 3) for name, value in learnt.items()},
        "train_ratio": round(learnt["depth"] / learnt["in_a_row"], 2),
        "train_ratio_heads": round(learnt["heads"] / learnt["in_a_row"], 2),
    }


def run(quick: bool) -> dict[str, Any]:
    """What `codes.py` reports of this part."""
    return train_ratio(quick)


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv)))

"""Held-out bits a second of speech, of a decoder trained as long each way: together and in a row.

    python benchmarks/_codes_quality.py [--minutes 60] [--scale 0.5]

The pocket world's sentences with their speech (`unified data build pocket --only speak`), coded by
the shipped tokenizer (3 codes a frame, 25 frames a second). Two decoders of the pocket's shape,
with weights drawn from one seed, the same optimizer and sequences of as many positions, train in
turns of a minute. Minutes are of the processor, by one thread: what else the machine does counts
less. Each tells what the codes of held-out sentences cost it, six times on the way and afterwards:
`bits_a_second`, all three levels, the end of the sound included.
"""

from __future__ import annotations

import _path  # noqa: F401 (before all others)

# isort: split
import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from _shared import say

from unified import UnifiedModel
from unified.dataloading import Loader, Source, prepare_sources
from unified.training.config import OptimizerConfig
from unified.training.kernels.ir import SUPPORTED
from unified.training.layer_modes import LayerModes
from unified.training.loss_factors import modality_factors
from unified.training.micro_batch import make_micro_batch
from unified.training.optimizers import make_optimizers
from unified.training.train_module import TrainModule, layers_of
from unified.training.validation import Validation
from unified.training.weights import MasterWeights
from unified_base.training.dist import DistContext
from unified_base.training.memory import keep_freed_memory
from unified_data.pocket.build import build_pocket

CODES_PER_SECOND, SEQ_LEN, HELD_OUT, THREADS = 75, 1024, 200, 1
SHAPE: dict[str, Any] = {
    "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 4, "head_dim": 64, "intermediate_size": 768,
    "max_position_embeddings": 4096, "tie_word_embeddings": True,
}  # fmt: skip


def _clock() -> float:
    """Seconds of the processor, as threads that never wait would take them."""
    return time.process_time() / THREADS


class _Side:
    """One way to lay the codes out: a decoder, its data and what it has learnt so far."""

    def __init__(self, format: str, world: Path, precision: str) -> None:
        pocket = UnifiedModel.from_pretrained("pocket")
        torch.manual_seed(0)
        model = UnifiedModel.create(
            SHAPE, text_tokenizer=pocket.text_tokenizer, image_tokenizer=pocket.image_tokenizer,
            audio_tokenizer=pocket.audio_tokenizer, format=format,
        )  # fmt: skip
        sources = {"speak": Source((str(world / "train-speak-*.tar"),))}
        held_out = {"speak": Source((str(world / "heldout-speak-*.tar"),))}
        folder = world / "codes"
        sources, held_out = (
            prepare_sources(part, model.sequencer, folder) for part in (sources, held_out)
        )
        self.sequences: Iterator[Any] = iter(
            Loader(sources, model.sequencer, SEQ_LEN, streams=1, tasks=model.tasks)
        )
        self.validation = Validation(
            held_out, model.sequencer, SEQ_LEN, HELD_OUT, DistContext(), model.tasks
        )
        layers = layers_of(model.hf)
        self.module = TrainModule(model.hf, None).train()
        self.weights = MasterWeights(self.module, precision)
        LayerModes(model.hf, layers, self.module.by_documents, False)
        self.optimizers = make_optimizers(OptimizerConfig(lr=1e-3), self.weights.parameters)
        self.factors = modality_factors({})
        self.steps, self.seconds, self.ids = 0, 0.0, 0

    def train(self, seconds: float, lr: Callable[[float], float]) -> None:
        """Go on for so many seconds; lr: by the seconds trained so far."""
        began = _clock()
        while (spent := _clock() - began) < seconds:
            for optimizer in self.optimizers.values():
                for group in optimizer.param_groups:
                    group["lr"] = lr(self.seconds + spent)
            sequence = next(self.sequences)
            self.weights.copy_to_model()
            batch = make_micro_batch([sequence], self.factors)
            (self.module(batch).total / batch.weight).backward()
            self.weights.accumulate_grads()
            torch.nn.utils.clip_grad_norm_(self.weights.parameters.values(), 1.0)
            for optimizer in self.optimizers.values():
                optimizer.step()
                optimizer.zero_grad()
            self.steps += 1
            self.ids += batch.num_ids
        self.seconds += _clock() - began

    def bits_a_second(self) -> float:
        """What held-out speech costs now."""
        self.weights.copy_to_model()
        nats = self.validation.measure(self.module, 1)["speak/audio"]
        return nats / math.log(2) * CODES_PER_SECOND


def run(quick: bool, minutes: float = 10.0, scale: float = 0.2) -> dict[str, Any]:
    """`quality_gain`, and what each side reached after as many minutes."""
    keep_freed_memory()
    torch.set_num_threads(THREADS)
    precision = "bfloat16" if SUPPORTED else "float32"
    minutes, scale = (0.3, 0.02) if quick else (minutes, scale)
    with tempfile.TemporaryDirectory() as folder:
        build_pocket(folder, scale=scale, only=("speak",), workers=1)
        formats = {"in_a_row": "pocket", "together": "pocket-together"}
        sides = {name: _Side(format, Path(folder), precision) for name, format in formats.items()}
        whole, turn = minutes * 60, min(60.0, minutes * 20)

        def lr(spent: float) -> float:
            """Warmed up in the first twentieth, down to nothing over the last third."""
            share = spent / whole
            return 1e-3 * min(1.0, share * 20 + 0.01, max(0.0, (1 - share) * 3))

        turns = 0
        while any(side.seconds < whole for side in sides.values()):
            turns += 1
            for name, side in sides.items():
                side.train(min(turn, whole - side.seconds), lr)
                say(f"{name}: {side.seconds:.0f} s, {side.steps} steps, {side.ids:,} ids")
                if turns % 10 == 0:
                    say(f"{name}: {side.bits_a_second():.1f} bits a second of held-out speech")
        bits = {name: round(side.bits_a_second(), 1) for name, side in sides.items()}
    for name, value in bits.items():
        say(f"{name}: {value} bits a second of held-out speech")
    return {
        "quality_minutes": minutes,
        "quality_precision": precision,
        "quality_steps": {name: side.steps for name, side in sides.items()},
        "bits_a_second_of_speech": bits,
        "quality_gain": round(bits["in_a_row"] / bits["together"], 3),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--minutes", type=float, default=60.0, help="of training, for each side")
    parser.add_argument("--scale", type=float, default=0.5, help="share of the pocket world")
    options = parser.parse_args()
    print(json.dumps(run(options.quick, options.minutes, options.scale)))

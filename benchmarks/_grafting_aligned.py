"""Codes aligned with texts, reconstruction against zero-shot accuracy: of grafting.py, or alone.

    python benchmarks/_grafting_aligned.py [--steps 1500] [--quick]

Image tokenizers of one shape on the same pictures of the world for the same steps: without
alignment, held to the captions' words, and held to the captions by contrast (`alignment: {kind:
contrastive}`). Of each the PSNR on held-out pictures, and how many single things are named right
from the codes of the first group, among all subjects, in styles of training and in the one that was
never seen. A Markdown table on stderr; one JSON object on the last line of stdout.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _path  # noqa: F401 (before all of ours)

if TYPE_CHECKING:
    from _grafting_world import SinglePictures

    from unified_tokenizers.training import TokenizerTrainer

TOKENIZER = {
    "stride": 12, "quantizer": {"kind": "fsq", "levels": [8, 8, 6, 5], "groups": 2},
    "encoder": "conv", "encoder_width": 96, "encoder_depths": [1, 1, 1], "decoder_width": 96,
    "decoder_depths": [1, 1, 1],
}  # fmt: skip
KINDS = ("none", "words", "contrastive")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=1500, help="of each training")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--quick", action="store_true", help="12 subjects, 30 steps")
    options = parser.parse_args()
    print(json.dumps(measure(options.steps, options.batch_size, options.quick)))


def measure(steps: int = 1500, batch_size: int = 128, quick: bool = False) -> dict[str, Any]:
    """`aligned`: of each kind psnr_db, zero_shot and zero_shot_unseen."""
    from _grafting_world import save_pairs, single_pictures
    from _shared import machine, say

    subjects, each = (12, 8) if quick else (None, 60)
    steps, batch_size = (30, 24) if quick else (steps, batch_size)
    rows: dict[str, dict[str, float | None]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        data = save_pairs(single_pictures(False, each, subjects, "train", seed=0), work / "train")
        known, unseen = (single_pictures(style, 2, subjects) for style in (False, True))
        held = save_pairs(known, work / "held")
        for kind in KINDS:
            say(f"training: {kind}")
            trainer = _train(kind, data, held, work / kind, steps, batch_size)
            rows[kind] = {
                "psnr_db": round(trainer.measured["psnr_db"], 2),
                "zero_shot": _named(trainer, known),
                "zero_shot_unseen": _named(trainer, unseen),
            }
    say("| alignment | PSNR | named | in a style never seen |\n|---|---|---|---|")
    for kind, row in rows.items():
        say(f"| {kind} | {row['psnr_db']} dB | {row['zero_shot']} | {row['zero_shot_unseen']} |")
    return {
        "aligned": rows, "steps": steps, "batch_size": batch_size, "classes": len(known.classes),
        "machine": machine(1, ("torch",)),
    }  # fmt: skip


def _train(
    kind: str, data: Path, held: Path, output: Path, steps: int, batch_size: int
) -> TokenizerTrainer:
    """A tokenizer trained to its end, with the heads that training alone has."""
    from dataclasses import asdict

    from unified_base.training.dist import DistContext
    from unified_base.training.loop import LoopConfig, run_training
    from unified_base.training.metric_logger import MetricLogger
    from unified_tokenizers.training import TokenizerTrainer
    from unified_tokenizers.training_config import (
        TokenizerOptimizer,
        TokenizerSchedule,
        TokenizerTraining,
    )

    alignment = None if kind == "none" else {"kind": kind, "weight": 0.5, "alone": steps // 2}
    config = TokenizerTraining(
        modality="image", output=str(output), data=(str(data),), validation=(str(held),),
        tokenizer=TOKENIZER, steps=steps, batch_size=batch_size, alignment=alignment,
        optimizer=TokenizerOptimizer(lr=0.002), precision="float32", save_every=steps,
        schedule=TokenizerSchedule(name="wsd", warmup_steps=min(60, steps // 4), cooldown=0.35),
        validate_every=steps,
    )  # fmt: skip
    loop = LoopConfig(output, asdict(config), steps, 50, steps, steps, 0, 1)
    trainers: list[TokenizerTrainer] = []

    def make(dist: DistContext, logger: MetricLogger) -> TokenizerTrainer:
        trainers.append(TokenizerTrainer(config, dist, logger))
        return trainers[0]

    run_training(loop, make, lambda trainer: trainer.folder)
    return trainers[0]


def _named(trainer: TokenizerTrainer, singles: SinglePictures) -> float | None:
    """The share of pictures whose codes are nearest to their own subject."""
    import numpy as np
    import torch

    from unified_tokenizers.image import VQImageTokenizer
    from unified_tokenizers.training_media import values_of

    if trainer.alignment is None:
        return None
    model = trainer.averaged
    assert isinstance(model, VQImageTokenizer)
    right = 0
    for first in range(0, len(singles.pictures), 64):
        part = np.stack(singles.pictures[first : first + 64])
        codes = model.encode(torch.from_numpy(part).movedim(3, 1)).codes
        numbers = trainer.alignment.name(values_of(model, codes), singles.classes)
        right += int((np.array(numbers) == singles.labels[first : first + 64]).sum())
    return round(right / len(singles.pictures), 4)


if __name__ == "__main__":
    main()

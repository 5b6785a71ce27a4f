"""Every kind of quantizer in one small image tokenizer, at 12 bits for each place of the grid.

    python benchmarks/quantizers.py [--quick]

The same pictures of the pocket world in the same order, the same network (but for the few numbers
to and from each quantizer's width, and the rows of its codes), steps and learning rate; three
seeds. A Markdown table and, on the last line, one JSON object on stdout; progress on stderr. The
whole takes about half an hour on one core, --quick (a few steps of each, one seed) two minutes.
"""

from __future__ import annotations

import argparse

import _path  # noqa: F401 (before all others)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few steps of each, one seed")
    parser.add_argument("--steps", type=int, metavar="N", help="steps of every training")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    return parser


if __name__ == "__main__":  # --help and mistakes, before what follows is loaded: that takes seconds
    _parser().parse_args()

# isort: split
import json
import time
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from _media import pictures
from _shared import machine, numbers, say
from _sides import reconstruct_picture
from _training import Task, fit
from torch import Tensor

from unified_tokenizers import VQImageTokenizer
from unified_tokenizers.image import ImageTokenizerConfig
from unified_tokenizers.losses import IMAGE_LOSSES, ImageLoss
from unified_tokenizers.measures import CodeUse
from unified_tokenizers.quantizers import QuantizerConfig
from unified_tokenizers.report import evaluate_pictures

# 4,096 codes, 2 codebooks of 64, or 4 of 8: 12 bits a place.
QUANTIZERS = {
    "vq": QuantizerConfig("vq", codes=4096, dim=8),
    "vq, no revival": QuantizerConfig("vq", codes=4096, dim=8, revive=0.0),
    "cosine-vq": QuantizerConfig("cosine-vq", codes=4096, dim=8),
    "simvq": QuantizerConfig("simvq", codes=4096, dim=8),
    "fsq": QuantizerConfig("fsq", levels=(8, 8, 8, 8)),
    "lfq": QuantizerConfig("lfq", codes=4096),
    "bsq": QuantizerConfig("bsq", codes=4096),
    "residual vq": QuantizerConfig("vq", codes=64, dim=8, depth=2),
    "residual simvq": QuantizerConfig("simvq", codes=64, dim=8, depth=2),
    "residual fsq": QuantizerConfig("fsq", levels=(4, 4, 4), depth=2),
    "grouped vq": QuantizerConfig("vq", codes=64, dim=4, groups=2),
    "grouped residual vq": QuantizerConfig("vq", codes=8, dim=4, groups=2, depth=2),
}
RATE = 2e-3  # of the pocket tokenizers' configurations


@dataclass(frozen=True)
class Sizes:
    """Of one training, and how many pictures there are."""

    steps: int = 400
    seeds: int = 3
    batch: int = 32
    pictures: int = 1_500
    heldout: int = 256


QUICK = Sizes(10, 1, 16, 256, 32)


def tokenizer(config: QuantizerConfig) -> VQImageTokenizer:
    return VQImageTokenizer(
        ImageTokenizerConfig(
            stride=8, quantizer=config, encoder_width=128, decoder_width=128,
            decoder_depths=(2, 2, 1),
        )
    )  # fmt: skip


def measured(model: Any, train: np.ndarray, held: np.ndarray) -> dict[str, float]:
    """PSNR of held-out pictures; usage and perplexity, means over codebooks, over all pictures.

    bits: of a place's codes by how often each occurs, of the 12 that they have.
    """
    use = CodeUse(model.codebook_sizes)
    for part in torch.from_numpy(np.concatenate([held, train])).split(128):
        use.add(model.encode(part.movedim(3, 1)).codes)
    return {
        "psnr_db": evaluate_pictures(model, held)["psnr_db"],
        "usage": fmean(use.usage),
        "perplexity": fmean(use.perplexity),
        "bits": sum(use.entropy),
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| quantizer | codebooks | PSNR, dB | codes used | perplexity | entropy, bits of 12 |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        quality = f"{row['psnr_db']:.2f} ± {row['psnr_spread_db']:.2f}"
        lines.append(
            f"| {name} | {row['codebooks']} | {quality} | {row['usage']:.1%} |"
            f" {row['perplexity']:,.0f} | {row['bits']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    sizes = QUICK if options.quick else Sizes()
    if options.steps:
        sizes = replace(sizes, steps=options.steps)
    began = time.perf_counter()
    train, held = pictures("train", sizes.pictures), pictures("heldout", sizes.heldout)
    say(f"{len(train)} pictures to train on, {len(held)} held out")

    def batch(step: int) -> Tensor:
        chosen = np.random.default_rng(step).integers(len(train), size=sizes.batch)
        return torch.from_numpy(train[chosen]).movedim(3, 1).float() / 255

    task = Task(batch, ImageLoss(IMAGE_LOSSES), sizes.steps, half=True)
    rows: dict[str, dict[str, Any]] = {}
    for name, config in QUANTIZERS.items():
        assert np.prod(np.array(config.codebook_sizes, dtype=float)) == 4096, name
        runs = []
        for seed in range(sizes.seeds):
            trained = fit(partial(tokenizer, config), reconstruct_picture, task, RATE, seed)
            runs.append(measured(trained.model, train, held))
            say(f"{name}, seed {seed}: {runs[-1]}, {trained.seconds:.2f} s a step")
        psnr = [run["psnr_db"] for run in runs]
        rows[name] = {
            **{key: round(fmean(run[key] for run in runs), 4) for key in runs[0]},
            "psnr_spread_db": round(stdev(psnr), 3) if len(psnr) > 1 else 0.0,
            "codebooks": " x ".join(f"{size:,}" for size in config.codebook_sizes),
            "numbers": numbers(trained.model.state_dict().items()),
        }
    print(table(rows))
    results = {
        "quantizers": rows,
        "steps": sizes.steps,
        "seeds": sizes.seeds,
        "codes_counted": 36 * (len(train) + len(held)),
        "sample": "quick" if options.quick else "full",
        "benchmark_seconds": round(time.perf_counter() - began, 1),
        "machine": machine(options.threads, ("vector-quantize-pytorch",)),
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main()

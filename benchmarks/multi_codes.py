"""Pictures with 1, 2, 4 and 8 codes a place: at equal positions, and at equal bits.

    python benchmarks/multi_codes.py [--quick] [--only positions,bits,places]

Small image tokenizers of the pocket world's pictures (48 x 48 pixels), the same network, pictures,
order, steps and learning rate, that differ in the codes of a place: of codebooks side by side, each
for its part of the channels (UniTok, arXiv:2502.20321), or residual ones (arXiv:2203.01941).

positions: 8 x 8 pixels a place, 256 codes in each codebook: as many positions, more bits.
bits: 8 bits a place in codebooks of 256, 16, 4 and 2 codes: as many positions and bits.
places: 144 codes of 256 a picture as 144 places of one, 36 of four and 16 of nine: as many bits in
fewer positions.

Behind each a small decoder learns to draw captions, all codes of a place in one position (depth
decoder), for as many processor seconds; its loss on held-out captions is in bits a picture, codes
alone. One seed. A Markdown table and, on the last line, one JSON object on stdout; progress on
stderr. The whole takes about eight minutes of one core, --quick under two.
"""

from __future__ import annotations

import argparse

import _path  # noqa: F401 (before all others)

PARTS = ("positions", "bits", "places")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few steps and seconds of each")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    parser.add_argument("--steps", type=int, metavar="N", help="steps of every tokenizer")
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="processor seconds of every decoder"
    )
    return parser


if __name__ == "__main__":  # --help and mistakes, before what follows is loaded: that takes seconds
    _parser().parse_args()

# isort: split
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
import torch
from _codes_decoder import PRECISION, coded, decoder_figures
from _media import pictures, scenes
from _shared import machine, numbers, say
from _sides import reconstruct_picture
from _training import Task, fit
from torch import Tensor

from unified import TextTokenizer
from unified.training.kernels.ir import SUPPORTED
from unified_tokenizers import VQImageTokenizer
from unified_tokenizers.image import ImageTokenizerConfig
from unified_tokenizers.losses import IMAGE_LOSSES, ImageLoss
from unified_tokenizers.measures import CodeUse
from unified_tokenizers.quantizers import QuantizerConfig
from unified_tokenizers.report import evaluate_pictures

THREADS = 1  # a processor second is then a second of the training's own
TOKENIZER_RATE = 2e-3
SIDE = 48


@dataclass(frozen=True)
class Case:
    """codes: in a place, each of `codebook` codes. dim: numbers of each code's vector."""

    codes: int = 1
    codebook: int = 256
    stride: int = 8
    residual: bool = False
    dim: int = 8

    @property
    def places(self) -> int:
        return (SIDE // self.stride) ** 2

    @property
    def bits(self) -> int:
        """Of a picture's codes as they are."""
        return self.places * self.codes * (self.codebook.bit_length() - 1)

    @property
    def config(self) -> ImageTokenizerConfig:
        several = {"depth" if self.residual else "groups": self.codes}
        quantizer = QuantizerConfig("vq", codes=self.codebook, dim=self.dim, **several)
        return ImageTokenizerConfig(
            stride=self.stride, quantizer=quantizer, encoder_width=128, decoder_width=96,
            decoder_depths=(2, 2, 1),
        )  # fmt: skip


CASES = {
    "1": Case(),
    "2": Case(2),
    "4": Case(4),
    "8": Case(8),
    "4 residual": Case(4, residual=True),
    "2 of 16": Case(2, 16),
    "4 of 4": Case(4, 4),
    "8 of 2": Case(8, 2),
    "1, 144 places": Case(1, stride=4),
    "9, 16 places": Case(9, stride=12),
}
TABLES = {
    "positions": ("1", "2", "4", "8", "4 residual"),
    "bits": ("1", "2 of 16", "4 of 4", "8 of 2"),
    "places": ("1, 144 places", "4", "9, 16 places"),
}


@dataclass(frozen=True)
class Sizes:
    """steps: of a tokenizer. seconds: of a decoder, the processor's."""

    steps: int = 200
    seconds: float = 12.0
    batch: int = 16
    pictures: int = 2_000
    heldout: int = 128


QUICK = Sizes(3, 0.5, 16, 96, 16)


class World:
    """Pictures and captions of the pocket world, and the text tokenizer of the captions."""

    def __init__(self, sizes: Sizes) -> None:
        self.train, self.held = (
            pictures("train", sizes.pictures),
            pictures("heldout", sizes.heldout),
        )
        self.captions, self.held_captions = (
            [scene.caption for scene in scenes(split, number)]
            for split, number in (("train", sizes.pictures), ("heldout", sizes.heldout))
        )
        self.text_tokenizer = TextTokenizer.train(self.captions, 512)
        say(f"{len(self.train)} pictures to train on, {len(self.held)} held out")


def trained_tokenizer(case: Case, world: World, sizes: Sizes) -> tuple[VQImageTokenizer, float]:
    """(the tokenizer, seconds of a step)."""

    def batch(step: int) -> Tensor:
        chosen = np.random.default_rng(step).integers(len(world.train), size=sizes.batch)
        return torch.from_numpy(world.train[chosen]).movedim(3, 1).float() / 255

    task = Task(batch, ImageLoss(IMAGE_LOSSES), sizes.steps, half=SUPPORTED)
    trained = fit(partial(VQImageTokenizer, case.config), reconstruct_picture, task, TOKENIZER_RATE)
    assert isinstance(trained.model, VQImageTokenizer)
    return trained.model, trained.seconds


def measured(case: Case, world: World, sizes: Sizes) -> dict[str, Any]:
    tokenizer, seconds = trained_tokenizer(case, world, sizes)
    codes = coded(tokenizer, world.train), coded(tokenizer, world.held)
    use = CodeUse(tokenizer.codebook_sizes)
    for part in codes:
        use.add(part)
    return {
        **asdict(case),
        "places": case.places,
        "bits_a_picture": case.bits,
        "psnr_db": round(evaluate_pictures(tokenizer, world.held)["psnr_db"], 2),
        "usage": round(fmean(use.usage), 4),
        "perplexity": round(fmean(use.perplexity), 1),
        # By how often each code occurs, every codebook by itself.
        "entropy_bits_a_picture": round(case.places * sum(use.entropy), 1),
        "tokenizer_seconds_a_step": round(seconds, 3),
        "tokenizer_numbers": numbers(tokenizer.state_dict().items()),
        **decoder_figures(
            tokenizer,
            (world.captions, codes[0]),
            (world.held_captions, codes[1]),
            world.text_tokenizer,
            sizes.seconds,
        ),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| codes a place | places | bits a picture | PSNR, dB | codes used | perplexity |"
        " decoder's loss, bits a picture | pictures it saw |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        kind = " residual" if row["residual"] else ""
        lines.append(
            f"| {row['codes']}{kind} of {row['codebook']} | {row['places']} |"
            f" {row['bits_a_picture']:,} | {row['psnr_db']:.2f} | {row['usage']:.1%} |"
            f" {row['perplexity']:,.0f} | {row['decoder_bits_a_picture']:,.0f} |"
            f" {row['decoder_pictures_seen']:,} |"
        )
    return "\n".join(lines)


def main() -> None:
    options = _parser().parse_args()
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        _parser().error(f"--only has {sorted(unknown)}, expected some of {', '.join(PARTS)}")
    torch.set_num_threads(THREADS)
    sizes = QUICK if options.quick else Sizes()
    if options.steps:
        sizes = replace(sizes, steps=options.steps)
    if options.seconds:
        sizes = replace(sizes, seconds=options.seconds)
    began = time.perf_counter()
    world = World(sizes)
    rows: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for part in parts for name in TABLES[part]):
        rows[name] = measured(CASES[name], world, sizes)
        say(json.dumps({name: rows[name]}))
    for part in parts:
        print(f"{part}\n\n{table([rows[name] for name in TABLES[part]])}\n")
    results = {
        "codes_a_place": rows,
        "comparisons": {part: TABLES[part] for part in parts},
        "photos": None,
        "photos_why": "scikit-image, whose photos these would be, is in no extra of this project",
        **asdict(sizes),
        "precision": PRECISION,
        "sample": "quick" if options.quick else "full",
        "benchmark_seconds": round(time.perf_counter() - began, 1),
        "processor_seconds": round(time.process_time(), 1),
        "machine": machine(THREADS, ("vector-quantize-pytorch", "transformers")),
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main()

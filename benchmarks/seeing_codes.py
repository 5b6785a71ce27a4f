"""Which codes of a picture say what is in it: image tokenizers side by side, for equal seconds.

    python benchmarks/seeing_codes.py [--quick] [--only NAME,...] [--subjects 64]

Pictures of the world (96 x 96 pixels: one thing of three art styles at any place, size, turn and on
any ground) in 64 places of about 11 bits, by

- `patch`: squares of 12 x 12 pixels coded alone, as the shipped pocket tokenizer does;
- `conv`: convolutions that see around; `vit`: a transformer;
- `conv, named`: its codes held to the captions' words from the start (`alignment`);
- `conv, named first`: the encoder names for two fifths of the time before it is quantized;
- `conv, named first, two of half`: two codes a place, the first held to the words, equal bits;
- `conv, named first, two`: two codes of 1,920 a place: equal positions, twice the bits.

Each trains for as many processor seconds, its heads included. Then: PSNR on held-out pictures and
on photos; the share of codes that stay under a shift of one pixel, a gain of 0.9 and JPEG; the
share of things that a probe names from the codes, all with noise of place, size and turn, in the
styles of training and in one that was never shown; and what held-out pictures and captions cost a
small decoder, drawing and describing in turns. One seed. A Markdown table and, on the last line,
one JSON object on stdout; progress on stderr. --quick takes two of them (42 s of a core).
"""

from __future__ import annotations

import argparse

import _path  # noqa: F401 (before all others)

ARMS = ("patch", "conv", "vit", "conv, named", "conv, named first",
        "conv, named first, two of half", "conv, named first, two")  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds of two")
    parser.add_argument("--only", help="tokenizers, ';' between them")
    parser.add_argument("--subjects", type=int, metavar="N", help="things that are told apart")
    parser.add_argument("--seconds", type=float, metavar="S", help="of every tokenizer")
    return parser


if __name__ == "__main__":  # --help and mistakes, before what follows is loaded: that takes seconds
    _parser().parse_args()

# isort: split
import io
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from _codes_decoder import PRECISION, coded, decoder_figures
from _shared import machine, numbers, say
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from unified import TextTokenizer
from unified_data.pocket.subjects import load_subjects
from unified_data.world.captions_en import caption_en
from unified_data.world.composing import SceneKind, compose_scene
from unified_data.world.description import describe_scene
from unified_data.world.glyphs import styles_of
from unified_data.world.painting import paint
from unified_data.world.style_names import STYLES, TRAIN_STYLES
from unified_tokenizers import VQImageTokenizer
from unified_tokenizers.alignment import Alignment, AlignmentSettings
from unified_tokenizers.image import ImageTokenizerConfig
from unified_tokenizers.layers import ConvNeXt2d
from unified_tokenizers.losses import IMAGE_LOSSES, ImageLoss
from unified_tokenizers.measures import CodeUse
from unified_tokenizers.quantizers import QuantizerConfig
from unified_tokenizers.report import evaluate_pictures

THREADS = 1  # a processor second is then a second of the training's own
BATCH, RATE = 32, 2e-3
_ALONE = 0.4  # of the time, where a tokenizer learns to name first
_CONV = {"encoder": "conv", "encoder_width": 192, "encoder_depths": (2, 2, 1)}
_VIT = {"encoder": "vit", "encoder_width": 192, "encoder_depths": (3,)}


@dataclass(frozen=True)
class Arm:
    """encoder: its settings. levels, groups: of FSQ. aligned: by `alignment`; first: alone at
    first."""

    encoder: dict[str, Any]
    levels: tuple[int, ...] = (8, 8, 6, 5)
    groups: int = 1
    aligned: bool = False
    first: bool = False

    @property
    def config(self) -> ImageTokenizerConfig:
        quantizer = QuantizerConfig("fsq", levels=self.levels, groups=self.groups)
        return ImageTokenizerConfig(
            stride=12, quantizer=quantizer, decoder_width=192, decoder_depths=(2, 2, 1),
            **self.encoder,
        )  # fmt: skip


CASES = dict(
    zip(
        ARMS,
        (
            Arm({"encoder": "patch", "encoder_width": 320, "encoder_depths": (3,)}),
            Arm(_CONV),
            Arm(_VIT),
            Arm(_CONV, aligned=True),
            Arm(_CONV, aligned=True, first=True),
            Arm(_CONV, (8, 6), 2, aligned=True, first=True),
            Arm(_CONV, (8, 8, 6, 5), 2, aligned=True, first=True),
        ),
    )
)


@dataclass(frozen=True)
class Sizes:
    """seconds: the processor's, of a tokenizer, a probe and a decoder."""

    subjects: int = 64
    pictures: int = 12_000
    heldout: int = 600
    tokenizer_seconds: float = 150.0
    probe_seconds: float = 30.0
    decoder_seconds: float = 60.0


QUICK = Sizes(4, 160, 48, 3.0, 1.0, 1.5)


class Things:
    """Pictures of one thing each, uint8 (N, 96, 96, 3), with captions and the subjects' numbers.

    Those that are told of are other pictures of the same things: place, size, turn, ground and
    colour are drawn anew.
    """

    def __init__(self, seed: int, number: int, subjects: int, styles: tuple[str, ...]) -> None:
        rng = np.random.default_rng([seed, number])
        names = [subject.name for subject in load_subjects()]
        # Of every kind some: every so many-th of the list, which goes by kinds.
        chosen = names[:: max(1, len(names) // subjects)][:subjects]
        self.pictures = np.empty((number, 96, 96, 3), np.uint8)
        self.captions: list[str] = []
        self.labels = rng.integers(len(chosen), size=number)
        for at, label in enumerate(self.labels):
            drawn = [style for style in styles if style in styles_of(chosen[label])]
            style = drawn[int(rng.integers(len(drawn)))]
            kind: SceneKind = "single" if rng.random() < 0.6 else "small"
            scene = compose_scene(rng, kind, ((chosen[label], style),))
            self.pictures[at] = paint(scene)
            self.captions.append(caption_en(describe_scene(scene)))


class World:
    """What all tokenizers train on and are held to."""

    def __init__(self, sizes: Sizes) -> None:
        began = time.process_time()
        number = sizes.subjects
        self.train = Things(1, sizes.pictures, number, TRAIN_STYLES)
        self.held = Things(2, sizes.heldout, number, TRAIN_STYLES)
        unseen = tuple(style for style in STYLES if style not in TRAIN_STYLES)
        self.unseen = Things(3, sizes.heldout // 2, number, unseen)
        self.text_tokenizer = TextTokenizer.train(self.train.captions, 512)
        say(
            f"{sizes.pictures} pictures of {number} things in {time.process_time() - began:.0f} s;"
            f" never shown: {', '.join(unseen)}"
        )


def _tensor(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(pictures).movedim(3, 1).float() / 255


def _share_of(began: float, seconds: float) -> float:
    return (time.process_time() - began) / seconds


def _rate(share: float) -> float:
    """Warm-up over a twentieth, then a cosine to a fiftieth."""
    return RATE * min(1.0, share * 20 + 0.02) * (0.02 + 0.49 * (1 + math.cos(math.pi * share)))


def trained_tokenizer(arm: Arm, world: World, seconds: float) -> tuple[VQImageTokenizer, int]:
    """(the tokenizer, pictures it saw)."""
    torch.manual_seed(0)
    model = VQImageTokenizer(arm.config).train()
    measure, captions = ImageLoss(IMAGE_LOSSES), world.train.captions
    alignment = None
    if arm.aligned:
        width = arm.config.quantizer.width // arm.groups
        alignment = Alignment(AlignmentSettings(), captions, model.config.encoder_width, width)
    parameters = [*model.parameters(), *(alignment.parameters() if alignment else ())]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, betas=(0.9, 0.99), weight_decay=0.01)
    rng, steps, began = np.random.default_rng(0), 0, time.process_time()
    while (share := _share_of(began, seconds)) < 1:
        chosen = rng.integers(len(captions), size=BATCH)
        target = _tensor(world.train.pictures[chosen])
        texts = [captions[number] for number in chosen]
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.hidden(target)
            if alignment is not None and arm.first and share < _ALONE:
                loss = alignment(hidden, None, texts)
            else:
                values, codes, loss = model.quantize(model.to_quantizer(hidden))
                loss = loss + measure(model.pictures(values, codes).float(), target)
                if alignment is not None:
                    loss = loss + alignment.settings.weight * alignment(hidden, values, texts)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = _rate(share)
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
    return model.eval(), steps * BATCH


class Probe(nn.Module):
    """Codes (N, K, h, w) to logits of subjects (N, S), by two blocks that look around."""

    def __init__(self, sizes: tuple[int, ...], subjects: int, width: int = 96) -> None:
        super().__init__()
        self.rows = nn.ModuleList(nn.Embedding(size, width) for size in sizes)
        self.blocks = nn.Sequential(ConvNeXt2d(width), ConvNeXt2d(width), nn.LayerNorm(width))
        self.names = nn.Linear(width, subjects)

    def forward(self, codes: Tensor) -> Tensor:
        x = torch.stack([rows(codes[:, level]) for level, rows in enumerate(self.rows)]).sum(0)
        return self.names(self.blocks(x).mean((1, 2)))


def probed(
    tokenizer: VQImageTokenizer, codes: Tensor, world: World, sizes: Sizes
) -> dict[str, float]:
    """The share of things that a probe names from codes, after so many seconds of its own."""
    torch.manual_seed(0)
    probe = Probe(tokenizer.codebook_sizes, sizes.subjects)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=RATE, weight_decay=0.05)
    labels, rng = torch.from_numpy(world.train.labels), np.random.default_rng(0)
    began = time.process_time()
    while (share := _share_of(began, sizes.probe_seconds)) < 1:
        chosen = torch.from_numpy(rng.integers(len(codes), size=64))
        logits = probe(codes[chosen])
        F.cross_entropy(logits, labels[chosen], label_smoothing=0.05).backward()
        for group in optimizer.param_groups:
            group["lr"] = _rate(share)
        optimizer.step()
        optimizer.zero_grad()
    shares = {}
    for name, things in (("named", world.held), ("named_unseen_style", world.unseen)):
        with torch.no_grad():
            guesses = probe.eval()(coded(tokenizer, things.pictures)).argmax(1).numpy()
        shares[name] = round(float((guesses == things.labels).mean()), 4)
    return shares


def _jpeg(picture: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=75)
    return np.asarray(Image.open(buffer))


def kept_codes(tokenizer: VQImageTokenizer, pictures: np.ndarray) -> dict[str, float]:
    """The share of codes that stay when pictures move by a pixel, get darker, or are compressed."""
    altered = {
        "shift": np.roll(pictures, 1, axis=2),
        "gain": np.rint(pictures * 0.9).astype(np.uint8),
        "jpeg": np.stack([_jpeg(picture) for picture in pictures]),
    }
    codes = coded(tokenizer, pictures)
    return {
        f"kept_{name}": round(float((coded(tokenizer, some) == codes).float().mean()), 4)
        for name, some in altered.items()
    }


def photos() -> np.ndarray | None:
    """96 x 96 pixels from the middles of scikit-image's photos; None where it is not installed."""
    if find_spec("skimage") is None:
        return None
    data = import_module("skimage.data")
    names = ("astronaut", "chelsea", "coffee", "rocket")
    pictures = []
    for name in names:
        picture = Image.fromarray(getattr(data, name)())
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.crop((left, top, left + side, top + side))
        pictures.append(np.asarray(square.resize((96, 96), Image.Resampling.LANCZOS)))
    return np.stack(pictures)


def measured(arm: Arm, world: World, sizes: Sizes) -> dict[str, Any]:
    tokenizer, seen = trained_tokenizer(arm, world, sizes.tokenizer_seconds)
    codes = coded(tokenizer, world.train.pictures)
    use = CodeUse(tokenizer.codebook_sizes)
    use.add(codes)
    outside = photos()
    held = coded(tokenizer, world.held.pictures)
    bits = sum(math.log2(size) for size in tokenizer.codebook_sizes)
    return {
        **asdict(arm),
        "bits_a_picture": round(64 * bits),
        "pictures_seen": seen,
        "psnr_db": round(evaluate_pictures(tokenizer, world.held.pictures)["psnr_db"], 2),
        "psnr_db_photos": None
        if outside is None
        else round(evaluate_pictures(tokenizer, outside)["psnr_db"], 2),
        "usage": [round(share, 3) for share in use.usage],
        **kept_codes(tokenizer, world.held.pictures),
        **probed(tokenizer, codes, world, sizes),
        "encoder_numbers": numbers(tokenizer.encoder.state_dict().items()),
        **decoder_figures(
            tokenizer, (world.train.captions, codes), (world.held.captions, held),
            world.text_tokenizer, sizes.decoder_seconds, seen=True,
        ),
    }  # fmt: skip


def table(rows: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| codes | bits | pictures seen | PSNR, dB | photos | kept: shift, gain, JPEG | named |"
        " style never shown | decoder: bits a picture | a caption |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        outside = row["psnr_db_photos"]
        lines.append(
            f"| {name} | {row['bits_a_picture']:,} | {row['pictures_seen']:,} |"
            f" {row['psnr_db']:.1f} | {'' if outside is None else f'{outside:.1f}'} |"
            f" {row['kept_shift']:.0%}, {row['kept_gain']:.0%}, {row['kept_jpeg']:.0%} |"
            f" {row['named']:.1%} | {row['named_unseen_style']:.1%} |"
            f" {row['decoder_bits_a_picture']:,.0f} | {row['decoder_bits_a_caption']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    options = _parser().parse_args()
    names = list(ARMS[0:5:4] if options.quick else ARMS)
    if options.only:
        names = options.only.split(";")
    if unknown := set(names) - set(ARMS):
        _parser().error(f"--only has {sorted(unknown)}, expected some of {'; '.join(ARMS)}")
    torch.set_num_threads(THREADS)
    sizes = QUICK if options.quick else Sizes()
    if options.subjects:
        sizes = replace(sizes, subjects=options.subjects)
    if options.seconds:
        sizes = replace(sizes, tokenizer_seconds=options.seconds)
    began = time.perf_counter()
    world, rows = World(sizes), {}
    for name in names:
        rows[name] = measured(CASES[name], world, sizes)
        say(json.dumps({name: rows[name]}))
    print(f"{table(rows)}\n")
    results = {
        "codes": rows,
        "chance_named": round(1 / sizes.subjects, 4),
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

"""How well the tokenizers keep media, beside VQModel of diffusers and DacModel of transformers.

    python benchmarks/tokenizers.py [--quick] [--only image,audio,pocket] [--world DIR]

Both sides of a comparison are trained here from nothing: the same pictures or speech in the same
order, the same loss of reconstruction, steps, schedule, averaging and rates tried, as many codes of
as many bits, and no fewer numbers (parameters and codebooks) on the side of the others. All are
measured by `unified_tokenizers.report` on what none was trained on.

Progress goes to stderr; the last line on stdout is one JSON object. Needs the extra `measure` and
espeak-ng. The whole takes about an hour on one core, --quick (a few steps of everything, its
figures mean nothing) under two.
"""

from __future__ import annotations

import argparse

import _path  # noqa: F401 (before all others)
from _path import needs

PARTS = ("image", "audio", "pocket")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few steps of everything")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    parser.add_argument("--world", metavar="DIR", help="take held-out media from a built world")
    parser.add_argument("--kind", default="cosine-vq", help="our image tokenizer's quantizer")
    parser.add_argument("--steps", type=int, metavar="N", help="steps of every training")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    return parser


if __name__ == "__main__":  # --help and mistakes, before what follows is loaded: that takes seconds
    _parser().parse_args()
    needs("measure", "pesq")

# isort: split
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
import torch
from _media import SAMPLE_RATE, crops, pictures, speech, voices
from _shared import machine, numbers, say
from _sides import (
    audio_tokenizer,
    dac_model,
    image_tokenizer,
    narrowest_dac,
    reconstruct_dac,
    reconstruct_picture,
    reconstruct_sound,
    reconstruct_vq_model,
    vq_model,
    widest,
)
from _training import Task, Trained, fit, fit_best
from torch import Tensor, nn

import unified
from unified_tokenizers import load_tokenizer
from unified_tokenizers.adapters_audio import DacAdapter
from unified_tokenizers.adapters_diffusers import VqModelAdapter
from unified_tokenizers.losses import AUDIO_LOSSES, AudioLoss, ImageLoss
from unified_tokenizers.measures import CodeUse
from unified_tokenizers.media import load_pictures, load_recordings
from unified_tokenizers.report import evaluate_pictures, evaluate_sounds


@dataclass(frozen=True)
class Sizes:
    """Steps of each training, and how much is trained and measured on."""

    image_steps: int = 600
    large_steps: int = 250
    audio_steps: int = 400
    batch: int = 32
    crops: int = 8
    pictures: int = 4_608
    heldout: int = 512
    sentences: int = 400
    recordings: int = 60
    voices: int = 200  # all there are


QUICK = Sizes(15, 5, 5, 16, 4, 512, 32, 12, 4, 4)
FRAMES = 16  # of 40 ms in a crop of sound: a step of DAC takes ten times as long as one of ours


# Images.


class Pictures:
    """Training pictures, a few of them kept aside, and held-out ones."""

    def __init__(self, sizes: Sizes) -> None:
        self.train = pictures("train", sizes.pictures)
        self.held = pictures("heldout", sizes.heldout)
        self.batch = sizes.batch
        self.aside = min(128, len(self.train) // 4)
        say(f"image: {len(self.train)} pictures to train on, {len(self.held)} held out")

    def media(self, chosen: np.ndarray | slice) -> Tensor:
        return torch.from_numpy(self.train[chosen]).movedim(3, 1).float() / 255

    def task(self, steps: int, half: bool = True) -> Task:
        measure = ImageLoss({"l1": 1.0, "l2": 1.0})

        def batch(step: int) -> Tensor:
            rng = np.random.default_rng(step)
            return self.media(rng.integers(self.aside, len(self.train), self.batch))

        def loss(restored: Tensor, media: Tensor) -> Tensor:
            return measure(2 * restored, 2 * media)  # of pictures in [-1, 1]

        return Task(batch, loss, steps, half, self.media(slice(self.aside)))

    def use(self, tokenizer: Any) -> dict[str, Any]:
        """Share of the codes that occur anywhere in the training and the held-out pictures."""
        use, total = CodeUse(tokenizer.codebook_sizes), 0
        for part in torch.from_numpy(np.concatenate([self.held, self.train])).split(128):
            codes = tokenizer.encode(part.movedim(3, 1)).codes
            use.add(codes)
            total += codes.numel()
        return {
            "usage": round(fmean(use.usage), 4),
            "perplexity": round(fmean(use.perplexity), 1),
            "codes_counted": total,
        }


def measured_image(data: Pictures, tokenizer: Any, trained: Trained) -> dict[str, Any]:
    report = evaluate_pictures(tokenizer, data.held)
    return {
        "psnr_db": report["psnr_db"], "ssim": report["ssim"], "bpp": report["bpp"],
        **data.use(tokenizer), "rate": trained.rate, "seconds_a_step": round(trained.seconds, 3),
        "numbers": numbers(trained.model.state_dict().items()),
    }  # fmt: skip


def image_part(sizes: Sizes, kind: str) -> dict[str, Any]:
    data = Pictures(sizes)
    task = data.task(sizes.image_steps)
    sides: dict[str, dict[str, Any]] = {}
    for name, legacy in (("vq_model", True), ("vq_model_legacy_false", False)):
        trained = fit_best(name, partial(vq_model, 4096, legacy), reconstruct_vq_model, task)
        sides[name] = measured_image(data, VqModelAdapter(trained.model), trained)
        say(f"{name}: {sides[name]}")
    width = widest(sides["vq_model"]["numbers"], 4096, kind)
    trained = fit_best(
        "ours", partial(image_tokenizer, width, 4096, kind), reconstruct_picture, task
    )
    ours = measured_image(data, trained.model, trained)
    say(f"ours: {ours}")
    large = large_codebooks(data, sizes, kind, trained.rate)
    return {
        "image_gain_over_vqmodel_db": round(
            ours["psnr_db"] - max(side["psnr_db"] for side in sides.values()), 2
        ),
        "image_usage_4096": ours["usage"],
        "image_usage_16384_min": min(run["usage"] for run in large),
        "image": {"ours": {"quantizer": kind, "width": width, **ours}, **sides,
                  "codes_16384": large, "steps": sizes.image_steps},
    }  # fmt: skip


def large_codebooks(data: Pictures, sizes: Sizes, kind: str, rate: float) -> list[dict[str, Any]]:
    """Our tokenizer with 16,384 codes, from three scales of the encoder's output, at two dtypes."""
    runs = []
    for half in (False, True):
        for scale in (0.1, 1.0, 10.0):
            make: Callable[[], nn.Module] = partial(image_tokenizer, 128, 16_384, kind, scale)
            trained = fit(make, reconstruct_picture, data.task(sizes.large_steps, half), rate)
            psnr = evaluate_pictures(trained.model, data.held)["psnr_db"]
            dtype = "bfloat16" if half else "float32"
            runs.append({"scale": scale, "dtype": dtype, **data.use(trained.model),
                         "psnr_db": psnr, "steps": sizes.large_steps})  # fmt: skip
            say(f"16,384 codes: {runs[-1]}")
    return runs


# Sound.


def audio_part(sizes: Sizes) -> dict[str, Any]:
    train, held = speech("train", sizes.sentences), speech("heldout", sizes.recordings)
    say(f"audio: {sum(map(len, train)) / SAMPLE_RATE / 60:.1f} minutes to train on")
    num_heldout = max(1, len(train) // 10)
    aside, rest = train[:num_heldout], train[num_heldout:]
    length = FRAMES * audio_tokenizer().hop

    def batch(step: int) -> Tensor:
        return torch.from_numpy(crops(rest, sizes.crops, length, step))

    loss = AudioLoss(AUDIO_LOSSES, SAMPLE_RATE)
    apart = torch.from_numpy(crops(aside, 32, length, 0))
    # In float32: DAC is trained so, its activations lose too much in bfloat16.
    task = Task(batch, loss, sizes.audio_steps, False, apart)
    width = narrowest_dac(numbers(audio_tokenizer().state_dict().items()))
    sides = {}
    for name, make, reconstruct in (
        ("ours", audio_tokenizer, reconstruct_sound),
        ("dac", partial(dac_model, width), reconstruct_dac),
    ):
        trained = fit_best(name, make, reconstruct, task)
        tokenizer: Any = DacAdapter(trained.model) if name == "dac" else trained.model
        report = evaluate_sounds(tokenizer, held)
        figures = ("stoi", "pesq", "mel_distance", "kbps", "usage", "seconds")
        sides[name] = {
            **{key: report[key] for key in figures}, "rate": trained.rate,
            "seconds_a_step": round(trained.seconds, 3),
            "numbers": numbers(trained.model.state_dict().items()),
        }  # fmt: skip
        say(f"{name}: {sides[name]}")
    gains = {}
    for measure in ("stoi", "pesq"):
        ours, theirs = sides["ours"][measure], sides["dac"][measure]
        known = ours is not None and theirs is not None
        gains[f"audio_{measure}_gain_over_dac"] = round(ours - theirs, 4) if known else None
    return {**gains, "audio": {**sides, "dac_width": width, "steps": sizes.audio_steps}}


# The shipped tokenizers.


def pocket_part(sizes: Sizes, world: str | None) -> dict[str, Any]:
    """On whole held-out pictures and sentences, and on voices that are in no training data."""
    folder = unified.__path__[0] + "/pocket"
    image, audio = (load_tokenizer(f"{folder}/{kind}_tokenizer") for kind in ("image", "audio"))
    if world is None:
        scenes = pictures("heldout", sizes.heldout, half=False)
        sentences = speech("heldout", sizes.recordings)
    else:
        scenes = load_pictures((f"{world}/heldout-draw-*.tar",), sizes.heldout)
        recorded = load_recordings(
            (f"{world}/heldout-speak-*.tar",), SAMPLE_RATE, 4 * sizes.recordings
        )
        sentences = [wave / np.float32(32768) for wave in recorded]
    seen = evaluate_pictures(image, scenes)
    say(f"pocket: {seen['pictures']} pictures done")
    heard = evaluate_sounds(audio, sentences)
    unseen = evaluate_sounds(audio, voices(sizes.voices))
    say(f"pocket: {heard['seconds']} s of speech, {unseen['seconds']} s of other voices done")
    return {
        "pocket_psnr_db": seen["psnr_db"],
        "pocket_bpp": seen["bpp"],
        "pocket_stoi": heard["stoi"],
        "pocket_pesq": heard["pesq"],
        "pocket_kbps": heard["kbps"],
        "pocket_stoi_unseen_voice": unseen["stoi"],
        "pocket": {"image": seen, "speech": heard, "unseen_voices": unseen},
    }


def main() -> None:
    options = _parser().parse_args()
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        _parser().error(f"--only has {sorted(unknown)}, expected some of {', '.join(PARTS)}")
    torch.set_num_threads(options.threads)
    sizes = QUICK if options.quick else Sizes()
    if options.steps:
        steps = options.steps
        sizes = replace(sizes, image_steps=steps, large_steps=steps, audio_steps=steps)
    began = time.perf_counter()
    results: dict[str, Any] = {}
    if "image" in parts:
        results |= image_part(sizes, options.kind)
    if "audio" in parts:
        results |= audio_part(sizes)
    if "pocket" in parts:
        results |= pocket_part(sizes, options.world)
    results["sample"] = "quick" if options.quick else "full"
    results["benchmark_seconds"] = round(time.perf_counter() - began, 1)
    packages = ("diffusers", "transformers", "vector-quantize-pytorch", "pystoi", "pesq")
    results["machine"] = machine(options.threads, packages)
    print(json.dumps(results))


if __name__ == "__main__":
    main()

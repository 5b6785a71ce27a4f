"""Speed and memory of the tokenizers, beside VQModel of diffusers and EncodecModel of transformers.

    python benchmarks/tokenizer_speed.py [--quick]

Speed: the shipped tokenizers and presets, each beside a model of the other library with random
weights, made as large in code: equal to 2% in what encodes and decodes, tables of codes left out on
both sides (they cost no time, and would make the other side larger). Same media, float32, inference
mode, two threads; all runs in turn, medians. A ratio is our throughput over theirs: above 1 ours is
faster. Memory: what a fresh process holds at most, coding a long recording and a large picture.

Progress goes to stderr; the last line on stdout is one JSON object. The whole takes about
three minutes on two cores, --quick (the shipped tokenizers and two presets, fewer runs) under two.
"""

from __future__ import annotations

import argparse

import _path  # noqa: F401 (before all others)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two presets and fewer runs")
    parser.add_argument("--runs", type=int, metavar="N", help="timed runs of each job")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument(
        "--memory-of", choices=("imports", "recording", "picture"),
        help="code one thing, print the most memory held in MB, and end",
    )  # fmt: skip
    return parser


if __name__ == "__main__":  # --help and mistakes, before what follows is loaded: that takes seconds
    _parser().parse_args()

# isort: split
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from _shared import interleaved, machine, numbers, say
from torch import Tensor, nn

import unified
from unified_tokenizers import VQAudioTokenizer, VQImageTokenizer, load_tokenizer

TABLES = ("code_rows", "quantizer", "quantize.")
POCKET = unified.__path__[0] + "/pocket/checkpoint"


@dataclass(frozen=True)
class Sizes:
    runs: int
    image_presets: Sequence[str]
    audio_presets: Sequence[str]


FULL = Sizes(
    9, ("conv-small", "conv-base", "vit-small", "vit-base"), ("speech-16k", "speech-24k")
)  # fmt: skip
QUICK = Sizes(3, ("conv-small",), ("speech-16k",))


def coding(model: nn.Module) -> int:
    """Parameters of what encodes and decodes."""
    return numbers(model.named_parameters(), without=TABLES)


def nearest(wanted: int, make: Callable[[int], nn.Module], low: int, high: int) -> nn.Module:
    """The model that has about `wanted` parameters; `make` takes a size in [low, high)."""

    def size(scale: int) -> int:
        with torch.device("meta"):
            return coding(make(scale))

    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) <= wanted else (low, middle)
    best = min((low, high), key=lambda scale: abs(size(scale) - wanted))
    return make(best).eval()


def vq_model(ours: VQImageTokenizer) -> Any:
    """A VQModel at stride 16, the power of two that is nearest to 12, with our codebook.

    One layer a block, its own default; widths as those of VQGAN at this stride: 1, 1, 2, 2, 4.
    """
    from diffusers import VQModel

    def make(scale: int) -> nn.Module:
        # Rounded one by one: so there is a model between any two widths.
        widths = tuple(max(4, round(scale * times / 256) * 4) for times in (1, 1, 2, 2, 4))
        return VQModel(
            down_block_types=("DownEncoderBlock2D",) * 5, up_block_types=("UpDecoderBlock2D",) * 5,
            block_out_channels=widths, norm_num_groups=4, num_vq_embeddings=ours.codebook_sizes[0],
            latent_channels=ours.quantizer.config.width,
        )  # fmt: skip

    return nearest(coding(ours), make, 64, 64 * 256)


def encodec(ours: VQAudioTokenizer) -> Any:
    """An EncodecModel of our sample rate, hop and number of codebooks, of 1,024 codes each.

    Its hidden size is four times its filters, as its own, and then as much more as is wanting. The
    normalisation of its weights, which is for training, is folded into them.
    """
    from torch.nn.utils import parametrize
    from transformers import EncodecConfig, EncodecModel

    ratios = {640: (8, 5, 4, 4), 480: (8, 5, 4, 3)}[ours.hop]
    kbps = len(ours.codebook_sizes) * 10 * ours.frame_rate / 1000

    def make(filters: int, hidden: int) -> nn.Module:
        config = EncodecConfig(
            sampling_rate=ours.sample_rate, upsampling_ratios=ratios, target_bandwidths=[kbps],
            num_filters=filters, hidden_size=hidden,
        )  # fmt: skip
        return EncodecModel(config)

    wanted, filters = coding(ours), 4
    with torch.device("meta"):
        while coding(make(filters + 1, 4 * (filters + 1))) <= wanted:
            filters += 1
    model: Any = nearest(
        wanted, lambda hidden: make(filters, hidden), 4 * filters, 4 * filters + 4096
    )
    for module in model.modules():
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")
    return model


def compare(ours: Any, theirs: Any, jobs: dict[str, Any], amount: float, runs: int) -> dict:
    """jobs: by name, (ours, theirs) encoding and decoding the same `amount` of media."""
    if abs(coding(theirs) / coding(ours) - 1) > 0.02:
        raise SystemExit(f"parameters differ: {coding(ours):,} and {coding(theirs):,}")
    seconds = interleaved([job for pair in jobs.values() for job in pair], runs)
    figures: dict[str, Any] = {"parameters": coding(ours), "their_parameters": coding(theirs)}
    for index, name in enumerate(jobs):
        mine, other = (median(times) for times in seconds[2 * index : 2 * index + 2])
        figures |= {
            f"{name}_ratio": round(other / mine, 3),
            f"{name}_per_second": round(amount / mine, 3),
            f"their_{name}_per_second": round(amount / other, 3),
        }
    return figures


@torch.inference_mode()
def compare_images(ours: VQImageTokenizer, theirs: Any, side: int, batch: int, runs: int) -> dict:
    """Megapixels a second, of square pictures whose sides both strides divide."""
    pixels = torch.rand(batch, 3, side, side)
    codes, size = ours.encode(pixels), side // 16

    def their_codes() -> Tensor:
        return theirs.quantize(theirs.encode(pixels * 2 - 1).latents)[2][2]

    indices = their_codes()
    shape = (batch, size, size, theirs.quantize.vq_embed_dim)

    def their_pixels() -> Tensor:
        rows = theirs.quantize.get_codebook_entry(indices, shape)
        return (theirs.decode(rows, force_not_quantize=True).sample * 0.5 + 0.5).clamp(0, 1)

    jobs = {
        "encode": (lambda: ours.encode(pixels), their_codes),
        "decode": (lambda: ours.decode(codes), their_pixels),
    }
    report = compare(ours, theirs, jobs, batch * side**2 / 1e6, runs)
    return {"unit": "megapixels", "pictures": f"{batch} of {side} x {side}", **report}


@torch.inference_mode()
def compare_audio(ours: VQAudioTokenizer, theirs: Any, batch: int, seconds: int, runs: int) -> dict:
    """Seconds of sound a second."""
    sound = 0.1 * torch.randn(batch, 1, seconds * ours.sample_rate)
    codes, theirs_coded = ours.encode(sound), theirs.encode(sound)
    jobs = {
        "encode": (lambda: ours.encode(sound), lambda: theirs.encode(sound)),
        "decode": (
            lambda: ours.decode(codes),
            lambda: theirs.decode(theirs_coded.audio_codes, theirs_coded.audio_scales),
        ),
    }
    report = compare(ours, theirs, jobs, batch * seconds, runs)
    speeds = [report["encode_per_second"], report["decode_per_second"]]
    report["realtime_factor"] = round(1 / sum(1 / speed for speed in speeds), 1)
    return {"unit": "seconds of sound", "recordings": f"{batch} of {seconds} s", **report}


# Memory.


def peak_mb() -> float:
    """Megabytes (10^6 bytes) that this process has held at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@torch.inference_mode()
def code_in_this_process(what: str) -> None:
    """Load both tokenizers, encode one thing and print what the process held at most."""
    image, audio = (load_tokenizer(f"{POCKET}/{kind}_tokenizer") for kind in ("image", "audio"))
    if what == "recording":
        audio.encode(0.1 * torch.randn(1, 1, 9_600_000))
    elif what == "picture":
        image.encode(torch.randint(256, (1, 3, 4096, 4096), dtype=torch.uint8))
    print(peak_mb())


def measure_memory(threads: int) -> dict[str, Any]:
    figures = {}
    for what in ("imports", "recording", "picture"):
        # A shell between: Linux counts what the starting process held as the started one's, too.
        command = ["sh", "-c", '"$0" "$@"; exit $?', sys.executable, __file__]
        command += ["--memory-of", what, "--threads", str(threads)]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        figures[what] = round(float(run.stdout), 1)
        say(f"memory, {what}: {figures[what]} MB")
    return {
        "peak_memory_mb": max(figures.values()),
        "memory_mb": {"imports": figures["imports"], "recording_10_minutes": figures["recording"],
                      "picture_4096x4096": figures["picture"]},
    }  # fmt: skip


@torch.inference_mode()
def equal_in_parts() -> dict[str, float]:
    """Share of the codes that are the same coded in parts and whole, where whole fits in memory."""
    shares = {}
    image, audio = (load_tokenizer(f"{POCKET}/{kind}_tokenizer") for kind in ("image", "audio"))
    # Noise, where the nearest two codes are near; four parts of the picture, two of the recording.
    torch.manual_seed(0)
    side = 170 * image.stride
    for name, tokenizer, media in (
        ("picture_2040x2040", image, torch.rand(1, 3, side, side)),
        ("recording_2_minutes", audio, 0.1 * torch.randn(1, 1, 120 * audio.sample_rate)),
    ):
        whole = tokenizer.features(media if tokenizer is image else media[:, 0])
        same = tokenizer.encode(media).codes == tokenizer.quantize(whole).codes
        shares[name] = round(float(same.double().mean()), 6)
    say(f"codes that are the same in parts and whole: {shares}")
    return shares


def main() -> None:
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        code_in_this_process(options.memory_of)
        return
    sizes = QUICK if options.quick else FULL
    runs = options.runs or sizes.runs
    began = time.perf_counter()
    results: dict[str, Any] = measure_memory(options.threads)
    results["same_codes_in_parts"] = equal_in_parts()
    image, audio = (load_tokenizer(f"{POCKET}/{kind}_tokenizer") for kind in ("image", "audio"))
    pictures = compare_images(image, vq_model(image), 96, 16, runs)
    say(f"image: {pictures}")
    sound = compare_audio(audio, encodec(audio), 4, 10, runs)
    say(f"audio: {sound}")
    presets: dict[str, Any] = {}
    for preset in sizes.image_presets:
        image = VQImageTokenizer(VQImageTokenizer.parse_config({"preset": preset})).eval()
        presets[preset] = compare_images(image, vq_model(image), 240, 2, runs)
        say(f"{preset}: {presets[preset]}")
    for preset in sizes.audio_presets:
        audio = VQAudioTokenizer(VQAudioTokenizer.parse_config({"preset": preset})).eval()
        audio.fill()
        presets[preset] = compare_audio(audio, encodec(audio), 2, 10, runs)
        say(f"{preset}: {presets[preset]}")
    names = ("encode_ratio", "decode_ratio")
    results = {
        **{f"image_{name}": pictures[name] for name in names},
        **{f"audio_{name}": sound[name] for name in names},
        "audio_realtime_factor": sound["realtime_factor"],
        **results,
        "least_ratio_of_presets": min(p[name] for p in presets.values() for name in names),
        "image": pictures,
        "audio": sound,
        "presets": presets,
        "runs": runs,
        "sample": "quick" if options.quick else "full",
        "benchmark_seconds": round(time.perf_counter() - began, 1),
        "machine": machine(options.threads, ("diffusers", "transformers")),
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main()

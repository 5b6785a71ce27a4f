"""Speed of sampling on a GPU through the batched backend, beside `generate` of transformers.

    python benchmarks/gpu.py [--device cuda] [--quick] [--seconds 420]

Two decoders with random weights in bfloat16, made on the device: the shape of Qwen3-0.6B with
168,320 rows, and that of Chameleon-7B. Of each: steps of 1, 16 and 64 rows after 512 ids, every id
chosen on the device among the codes of pictures; the share of the time in which one row's bytes can
be read, with a probe of the bandwidth; reading a prompt; one guided picture through the engine, and
as many ids through `generate` with its own guidance and a constraint.

In one command and in less than eight minutes on a GPU: what would begin after `--seconds` is left
out, and said to be. `--device cpu --quick` runs all of it on small shapes, to prove the script.

Progress goes to stderr; a table and, as the last line, one JSON object to stdout.
"""

from __future__ import annotations

import argparse

import _path  # noqa: F401 (before all others)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="of torch")
    parser.add_argument("--quick", action="store_true", help="small shapes, few ids")
    parser.add_argument("--seconds", type=float, default=420, help="begin nothing after so many")
    return parser


if __name__ == "__main__":  # --help and mistakes, before what follows is loaded: that takes seconds
    _parser().parse_args()

# isort: split
import gc
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from _shared import machine, say
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from unified.engine.backends.device_choice import DeviceChoice
from unified.engine.backends.torch_static.static_decoder import TorchStaticDecoder
from unified.engine.engine import Engine
from unified.engine.handle import EngineEvent
from unified.engine.request import CodedSlot, Finished, Request, Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.formats.coded import CodedText
from unified.formats.grammar import Grammar
from unified.formats.load import load_format
from unified.models.opening import check_device
from unified.vocabulary.vocabulary import Vocabulary

PROMPT = tuple(range(5, 25))


@dataclass(frozen=True)
class Shape:
    """A decoder to measure. text, codes: ids of its vocabulary. grid: of its picture, in codes."""

    name: str
    model: Any
    config: Any
    sizes: dict[str, int]
    text: int
    codes: int
    grid: tuple[int, int] = (16, 16)
    context: int = 512
    prompt: int = 4096
    rows: tuple[int, ...] = (1, 16, 64)
    steps: int = 64


QWEN_06B = {
    "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072,
    "max_position_embeddings": 8192,
}  # fmt: skip
LLAMA_7B = {
    "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "head_dim": 128, "intermediate_size": 11008,
    "max_position_embeddings": 8192,
}  # fmt: skip
SMALL = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 96,
    "max_position_embeddings": 512,
}  # fmt: skip
FULL = (
    Shape("06b", Qwen3ForCausalLM, Qwen3Config, QWEN_06B, 151_936, 16_304),
    Shape("7b", LlamaForCausalLM, LlamaConfig, LLAMA_7B, 57_000, 8192),
)
QUICK = (
    Shape("06b", Qwen3ForCausalLM, Qwen3Config, SMALL, 300, 128, (4, 4), 40, 200, (1, 4, 8), 4),
    Shape("7b", LlamaForCausalLM, LlamaConfig, SMALL, 200, 64, (4, 4), 40, 200, (1, 4, 8), 4),
)


def synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def seconds_of(job: Callable[[], Any], device: torch.device) -> float:
    synchronize(device)
    began = perf_counter()
    job()
    synchronize(device)
    return perf_counter() - began


def bandwidth(device: torch.device, quick: bool) -> dict[str, float]:
    """Bytes a second that a sum reads at best, over ten runs, and how far those are apart."""
    block = torch.ones(1 << (22 if quick else 30), dtype=torch.float32, device=device)
    block.sum()
    rates = [block.nbytes / seconds_of(block.sum, device) for _ in range(10)]
    return {
        "read_gb_per_second": round(max(rates) / 1e9, 1),
        "probe_spread": round((max(rates) - median(rates)) / max(rates), 3),
    }


class Measured:
    """One decoder on a device, and what is measured of it."""

    def __init__(self, shape: Shape, device: torch.device) -> None:
        self.shape, self.device = shape, device
        self.words = Vocabulary.build(
            text_size=shape.text, text_rows=shape.text, markers=load_format("pocket").markers,
            max_grid=64, image=((shape.codes,), "image"), audio=((2,), "audio"),
        )  # fmt: skip
        torch.manual_seed(0)
        torch.set_default_dtype(torch.bfloat16)
        try:
            config = shape.config(**shape.sizes, vocab_size=self.words.size)
            with device:
                self.hf = shape.model(config).eval()
        finally:
            torch.set_default_dtype(torch.float32)
        # `generate` samples what we sample: neither stops at an id of its own.
        self.hf.generation_config.eos_token_id = None
        self.hf.generation_config.pad_token_id = 0
        self.decoder = TorchStaticDecoder(self.hf)
        self.grammar = Grammar.load("pocket", self.words)
        self.codes = self.words.id_range("image.0")

    def least_bytes(self) -> int:
        """What a step of one row reads: the layers, the head's rows for codes, its cache."""
        layers = sum(parameter.nbytes for parameter in self.hf.model.layers.parameters())
        head = (self.codes[1] - self.codes[0]) * self.shape.sizes["hidden_size"] * 2
        return layers + head + self.decoder.cache_bytes(self.shape.context)

    def steps(self, rows: int) -> dict[str, float]:
        """Milliseconds of a step of so many rows, with and without choosing: medians."""
        shape, decoder = self.shape, self.decoder
        cache = decoder.new_cache(rows, shape.context + shape.steps + 16)
        rng = np.random.default_rng(rows)
        for slot in range(rows):
            ids = rng.integers(shape.text, size=shape.context).tolist()
            states = decoder.forward(cache, [slot], [ids])
        sampling, slots = SpanSampling(temperature=1.0), range(rows)
        ids = [int(self.codes[0])] * rows
        passes, whole = [], []
        for step in range(shape.steps + 8):
            began = perf_counter()
            states = decoder.forward(cache, slots, [[id] for id in ids])
            if step % 2:  # every other one, so that the whole is not held up
                synchronize(self.device)
                passes.append(perf_counter() - began)
            choices = [
                DeviceChoice((row,), (self.codes,), sampling, row, step) for row in range(rows)
            ]
            ids = decoder.sample(states, choices)
            if not step % 2:
                whole.append(perf_counter() - began)
        # The first ones record graphs and choose kernels.
        return {
            "ms": round(median(whole[4:]) * 1e3, 3),
            "ms_of_pass": round(median(passes[4:]) * 1e3, 3),
        }

    def prompt_rate(self) -> float:
        """Ids of a prompt read in a second, the best of three."""
        rng = np.random.default_rng(0)
        ids = rng.integers(self.shape.text, size=self.shape.prompt).tolist()

        def read() -> Tensor:
            return self.decoder.forward(self.decoder.new_cache(1, len(ids)), [0], [ids])

        return round(len(ids) / min(seconds_of(read, self.device) for _ in range(3)))

    def picture(self) -> float:
        """Seconds of one guided picture through the engine."""
        image = SpanSampling(temperature=1.0, guidance=Guidance(3.0))
        slot = CodedSlot("image", self.shape.grid, role="response")
        request = Request((CodedText(PROMPT, "prompt"), slot), 0)
        sampling = Sampling(image=image, max_ids=400)

        engine, events = Engine(self.decoder, self.grammar), list[EngineEvent]()

        def draw() -> None:
            events.clear()
            engine.add(request, events.append, sampling)
            while engine.step():
                pass
            assert isinstance(events[-1], Finished)

        draw()  # records graphs; the next one finds them, and the prompt, too
        return seconds_of(draw, self.device)

    def generate(self, number: int) -> float:
        """Seconds of so many guided ids of codes through `generate`."""
        head = self.words.marker
        prompt = [head("<bos>"), head("<prompt>"), *PROMPT, head("<response>"), head("<image>")]
        blank = [head("<bos>"), head("<response>"), head("<image>")]
        ids, negative = (torch.tensor([row], device=self.device) for row in (prompt, blank))
        codes = list(range(*self.codes))

        def run(count: int) -> None:
            with torch.inference_mode():
                self.hf.generate(
                    ids, attention_mask=torch.ones_like(ids), do_sample=True, guidance_scale=3.0,
                    negative_prompt_ids=negative,
                    negative_prompt_attention_mask=torch.ones_like(negative),
                    min_new_tokens=count, max_new_tokens=count,
                    prefix_allowed_tokens_fn=lambda *_: codes,
                )  # fmt: skip

        run(4)
        return seconds_of(lambda: run(number), self.device)


def measure(
    shape: Shape, device: torch.device, gb: float, late: Callable[[], bool]
) -> dict[str, Any]:
    """All figures of one shape, by name; what there was no time for is left out."""
    began = perf_counter()
    measured = Measured(shape, device)
    say(f"{shape.name}: made in {perf_counter() - began:.1f} s")
    name, decoder = shape.name, measured.decoder
    results: dict[str, Any] = {f"flash_{name}": decoder.flash}
    rates = {}
    for rows in shape.rows:
        if late():
            return results
        times = measured.steps(rows)
        rates[rows] = rows / times["ms"] * 1e3
        results[f"ms_{rows}rows_{name}"] = times["ms"]
        results[f"ms_of_pass_{rows}rows_{name}"] = times["ms_of_pass"]
        results[f"ids_per_second_{rows}rows_{name}"] = round(rates[rows], 1)
        say(f"{name}, {rows} rows: {times['ms']} ms a step, {rates[rows]:.0f} ids/s")
    results[f"graphs_{name}"] = decoder.graphs
    least = measured.least_bytes() / gb / 1e6  # ms
    results[f"bound_ms_{name}"] = round(least, 3)
    results[f"bound_share_{name}"] = round(least / results[f"ms_{shape.rows[0]}rows_{name}"], 3)
    most = shape.rows[-1]
    results[f"ratio_{most}rows_{name}"] = round(rates[most] / rates[shape.rows[0]], 1)
    if late():
        return results
    results[f"prompt_ids_per_second_{name}"] = measured.prompt_rate()
    if late():
        return results
    ids = shape.grid[0] * shape.grid[1]
    ours, theirs = measured.picture(), measured.generate(ids)
    results[f"picture_seconds_{name}"] = [round(ours, 3), round(theirs, 3)]
    results[f"over_generate_{name}"] = round(theirs / ours, 2)
    say(f"{name}: a guided picture {ours:.2f} s, generate {theirs:.2f} s")
    return results


def table(results: dict[str, Any], shapes: Sequence[Shape]) -> str:
    """The figures as a table of Markdown; a dash where there was no time."""
    lines = ["| figure | " + " | ".join(shape.name for shape in shapes) + " |"]
    lines.append("|---|" + "---|" * len(shapes))
    rows = shapes[0].rows
    figures = {
        **{f"ms a step, {n} rows": f"ms_{n}rows" for n in rows},
        **{f"of it the pass, {n} rows": f"ms_of_pass_{n}rows" for n in rows},
        **{f"ids/s, {n} rows": f"ids_per_second_{n}rows" for n in rows},
        "least ms of one row": "bound_ms",
        "share of the bandwidth": "bound_share",
        f"{rows[-1]} rows over one": f"ratio_{rows[-1]}rows",
        "ids/s of a prompt": "prompt_ids_per_second",
        "guided picture, seconds: ours, generate": "picture_seconds",
        "over generate": "over_generate",
        "flash attention over pages": "flash",
        "CUDA graphs": "graphs",
    }
    for title, key in figures.items():
        cells = [results.get(f"{key}_{shape.name}", "-") for shape in shapes]
        lines.append(f"| {title} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main(arguments: argparse.Namespace) -> dict[str, Any]:
    began = perf_counter()
    device = torch.device(check_device(arguments.device))
    shapes = QUICK if arguments.quick else FULL

    def late() -> bool:
        return perf_counter() - began > arguments.seconds

    results: dict[str, Any] = {"device": str(device), "quick": arguments.quick}
    if device.type == "cuda":
        results["gpu"] = torch.cuda.get_device_name(device)
    results |= bandwidth(device, arguments.quick)
    say(f"reads {results['read_gb_per_second']} GB/s")
    left_out = []
    for shape in shapes:
        if late():
            left_out.append(shape.name)
            continue
        results |= measure(shape, device, results["read_gb_per_second"], late)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    results["left_out"] = left_out
    results["seconds"] = round(perf_counter() - began, 1)
    results["machine"] = machine(torch.get_num_threads(), ["transformers"])
    print(table(results, shapes))
    return results


if __name__ == "__main__":
    print(json.dumps(main(_parser().parse_args())))

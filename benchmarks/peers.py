"""Speed of the CPU backend beside llama.cpp and CTranslate2, on the same random weights.

    pip install "unified-tokens[bench]"
    python benchmarks/peers.py [--quick] [--only 0.6b,17m] [--sides ours,bf16,q8,ct2]

Two shapes of Qwen3: that of 0.6B with 168,320 rows of vocabulary, and the pocket kind (17M, 8
layers of width 384). Work: one row, 16 and 64 rows (greedy steps after a prompt of 16 ids, logits
of all ids on every side), a prompt of 512 ids, and for 17M a prompt of 4,096 and one row after
4,096 and 16,384 ids. Sides: ours with bfloat16 weights and with int8, llama.cpp with
bfloat16 and q8_0, CTranslate2 with int8. All sides in turn, medians; ids a second, and ids a
processor second.

over_SIDE_WORK: ours over that side's, of the same kind of weights. A gap under 15% is a tie: that
is what two runs of one side differ by.

Progress goes to stderr; the last line on stdout is one JSON object.
"""

from __future__ import annotations

import argparse

from _path import needs

SHAPES, SIDES = ("0.6b", "17m"), ("ours", "ours-int8", "bf16", "q8", "ct2")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round, the shape 17m alone")
    parser.add_argument("--only", default=",".join(SHAPES), help="shapes, with commas between")
    parser.add_argument("--sides", default=",".join(SIDES), help="sides, with commas between")
    return parser


PACKAGES = {"bf16": ("llama_cpp", "gguf"), "q8": ("llama_cpp", "gguf"), "ct2": ("ctranslate2",)}

if __name__ == "__main__":  # --help and mistakes, before what follows is loaded: that takes seconds
    _names = _parser().parse_args().sides.split(",")
    needs("bench", *dict.fromkeys(module for name in _names for module in PACKAGES.get(name, ())))

# isort: split
import gc
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, Protocol

import torch
from _bandwidth import read_bandwidth
from _ctranslate2 import CTranslate2
from _llamacpp import LlamaCpp
from _peer_models import random_weights, write_ct2, write_gguf
from _shared import machine, say
from transformers import Qwen3Config, Qwen3ForCausalLM

from unified.engine.backends.cpu.config import LlamaCpuConfig
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.engine.backends.cpu.threads import ThreadPool
from unified.models.hf_checkpoint import weights_of

PROMPT = 16


@dataclass(frozen=True)
class Work:
    """What is measured: steps of `rows` sequences after `past` ids, or the reading of `past` ids.

    steps: 0 to measure the reading.
    """

    name: str
    rows: int
    past: int
    steps: int


SIZES: dict[str, dict[str, Any]] = {
    "0.6b": {
        "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072,
        "max_position_embeddings": 1024, "vocab_size": 168_320, "tie_word_embeddings": True,
    },
    "17m": {
        "hidden_size": 384, "num_hidden_layers": 8, "num_attention_heads": 6,
        "num_key_value_heads": 6, "head_dim": 64, "intermediate_size": 1024,
        "max_position_embeddings": 16_640, "vocab_size": 9_024, "tie_word_embeddings": True,
    },
}  # fmt: skip
WORK = {
    "0.6b": (
        Work("1row", 1, PROMPT, 32), Work("16rows", 16, PROMPT, 8), Work("64rows", 64, PROMPT, 4),
        Work("prompt", 1, 512, 0),
    ),
    "17m": (
        Work("1row", 1, PROMPT, 256), Work("16rows", 16, PROMPT, 64),
        Work("64rows", 64, PROMPT, 32), Work("prompt", 1, 512, 0), Work("prompt_4096", 1, 4096, 0),
        Work("1row_after_4096", 1, 4096, 64), Work("1row_after_16384", 1, 16_384, 32),
    ),
}  # fmt: skip
# Which side of ours is held to which of theirs, and the names of the figures.
AGAINST = (("ours", "bf16", "llamacpp"), ("ours-int8", "q8", "llamacpp_q8"),
           ("ours-int8", "ct2", "ct2_int8"))  # fmt: skip


class Side(Protocol):
    """Sequences that are read, stepped greedily and truncated together."""

    def read(self, ids: Sequence[int]) -> list[int]: ...

    def step(self, ids: Sequence[int]) -> list[int]: ...

    def truncate(self, length: int) -> None: ...


class Ours:
    """The CPU backend: logits of all ids, like the others."""

    def __init__(self, decoder: LlamaCpuDecoder, rows: int, max_ids: int) -> None:
        self.decoder = decoder
        self.cache = decoder.new_cache(rows, max_ids)  # slots 0, 1, ...
        self.slots = list(range(rows))
        self.ranges = ((0, decoder.vocab_size),)

    def read(self, ids: Sequence[int]) -> list[int]:
        last = []
        for slot in self.slots:
            states = self.decoder.forward(self.cache, [slot], [ids])  # (T, D)
            last.append(int(self.decoder.logits(states[-1:], self.ranges)[0].argmax()))
        return last

    def step(self, ids: Sequence[int]) -> list[int]:
        states = self.decoder.forward(self.cache, self.slots, [[id] for id in ids])
        logits = self.decoder.logits(states, self.ranges)  # (N, V)
        return [int(id) for id in logits.argmax(axis=1)]

    def truncate(self, length: int) -> None:
        for slot in self.slots:
            if length < self.cache.lengths[slot]:
                self.cache.truncate(slot, length)


def prompt_ids(length: int) -> list[int]:
    """Ids that any of the vocabularies has."""
    return [(7 * i) % 5_003 + 1 for i in range(length)]


def timed(side: Side, work: Work) -> tuple[float, float, list[int]]:
    """Seconds, processor seconds, and the ids that came, of one run of a work."""
    if not work.steps:
        side.truncate(0)
        began, cpu = perf_counter(), process_time()
        ids = side.read(prompt_ids(work.past))
        return perf_counter() - began, process_time() - cpu, ids
    side.truncate(work.past)
    ids = [5] * work.rows
    began, cpu = perf_counter(), process_time()
    for _ in range(work.steps):
        ids = side.step(ids)
    return perf_counter() - began, process_time() - cpu, ids


def timed_ct2(side: CTranslate2, work: Work) -> tuple[float, float, list[int]]:
    """As `timed`; the reading of its prompt, timed alone, is taken off steps."""
    prompt = prompt_ids(work.past)

    def run(number: int) -> tuple[float, float, list[list[int]]]:
        began, cpu = perf_counter(), process_time()
        ids = side.generate(prompt, work.rows, number)
        return perf_counter() - began, process_time() - cpu, ids

    seconds, cpu, ids = run(1 + work.steps)
    if work.steps:
        once, once_cpu, _ = run(1)
        seconds, cpu = seconds - once, cpu - once_cpu
    return seconds, cpu, [row[-1] for row in ids]


def number_of_ids(work: Work) -> int:
    return work.rows * work.steps or work.past


def make_model(shape: str) -> Any:
    """A Qwen3 of transformers with random weights, bfloat16."""
    model = Qwen3ForCausalLM(Qwen3Config(**SIZES[shape])).to(torch.bfloat16).eval()
    random_weights(model, 0)
    return model


def open_side(name: str, model: Any, shape: str, folder: Path, threads: int) -> Any:
    """A side of its name, with room for the work of a shape; files go to `folder`.

    Returns a function of the rows and the ids of each row: llama.cpp's memory is made for both.
    """
    vocab_size = SIZES[shape]["vocab_size"]
    if name in ("bf16", "q8"):
        path = folder / f"{name}.gguf"
        write_gguf(model, path, {"bf16": "BF16", "q8": "Q8_0"}[name])
        return lambda rows, max_ids: LlamaCpp(path, vocab_size, threads, rows, max_ids)
    if name == "ct2":
        write_ct2(model, folder / "ct2", "int8")
        side = CTranslate2(folder / "ct2", "int8", threads)
        return lambda rows, max_ids: side
    config = LlamaCpuConfig.from_hf(model.config.to_dict())
    weights = weights_of(model, "int8") if name == "ours-int8" else weights_of(model)
    decoder = LlamaCpuDecoder(config, weights)
    return lambda rows, max_ids: Ours(decoder, rows, max_ids)


def run_work(
    sides: dict[str, Any], work: Work, rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Seconds and processor seconds of every run of each side, all sides in turn."""
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    opened = {name: make(work.rows, work.past + work.steps + 1) for name, make in sides.items()}
    for side in opened.values():
        if work.steps and not isinstance(side, CTranslate2):
            side.read(prompt_ids(work.past))
    for number in range(1 + rounds):  # the first one wakes threads and touches memory
        for name, side in opened.items():
            time = timed_ct2 if isinstance(side, CTranslate2) else timed
            seconds, cpu, _ = time(side, work)
            if number:
                runs[name].append((seconds, cpu))
    for side in opened.values():
        if isinstance(side, LlamaCpp):
            side.close()
    return runs


def measure(shape: str, names: Sequence[str], rounds: int, threads: int) -> dict[str, Any]:
    """Ids a second of every side and work of a shape."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(shape)
        # CTranslate2's converter uses the model up.
        ordered = sorted(names, key=lambda name: name == "ct2")
        sides = {name: open_side(name, model, shape, Path(folder), threads) for name in ordered}
        del model
        gc.collect()
        for work in WORK[shape]:
            number = number_of_ids(work)
            figures[work.name] = {
                name: {
                    "ids_per_second": round(number / median(seconds for seconds, _ in each), 1),
                    "ids_per_cpu_second": round(number / median(cpu for _, cpu in each), 1),
                }
                for name, each in run_work(sides, work, rounds).items()
            }
            rates = {name: each["ids_per_second"] for name, each in figures[work.name].items()}
            say(f"{shape} {work.name}: {rates}")
    return figures


def ratios(figures: dict[str, dict[str, Any]]) -> dict[str, float]:
    """over_SIDE_WORK for every side that was measured; for 17M with its shape behind."""
    result = {}
    for shape, by_work in figures.items():
        for work, sides in by_work.items():
            for ours, theirs, peer in AGAINST:
                if ours in sides and theirs in sides:
                    suffix = "" if shape == "0.6b" else f"_{shape}"
                    quotient = sides[ours]["ids_per_second"] / sides[theirs]["ids_per_second"]
                    result[f"over_{peer}_{work}{suffix}"] = round(quotient, 2)
    return result


def main() -> None:
    options = _parser().parse_args()
    shapes, names = options.only.split(","), options.sides.split(",")
    for chosen, known in ((shapes, SHAPES), (names, SIDES)):
        if unknown := set(chosen) - set(known):
            _parser().error(f"{sorted(unknown)[0]!r} is none of {', '.join(known)}")
    if options.quick:
        shapes = ["17m"]
    threads = ThreadPool.shared().threads  # OMP_NUM_THREADS, for all sides
    torch.set_num_threads(threads)
    began = perf_counter()
    figures = {shape: measure(shape, names, 1 if options.quick else 3, threads) for shape in shapes}
    results = ratios(figures) | {"rates": figures}
    probes = [read_bandwidth() for _ in range(2 if options.quick else 10)]
    results["read_gb_per_second"] = round(median(probes) / 1e9, 1)
    results["probe_spread"] = round((max(probes) - min(probes)) / median(probes), 3)
    results["sample"] = "quick" if options.quick else "full"
    results["benchmark_seconds"] = round(perf_counter() - began, 1)
    packages = ["transformers", "numpy"]
    packages += ["llama_cpp_python"] if {"bf16", "q8"} & set(names) else []
    packages += ["ctranslate2"] if "ct2" in names else []
    results["machine"] = machine(threads, packages)
    print(json.dumps(results))


if __name__ == "__main__":
    main()

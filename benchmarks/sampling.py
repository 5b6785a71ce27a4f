"""Speed of sampling, beside `generate` of transformers with a constraint, on the same weights.

    python benchmarks/sampling.py [--quick] [--only memory,pocket,...] [--table docs/benchmarks.md]

pocket: a decoder of 17M parameters (8 layers of width 384; bfloat16 weights, computed in float32
on both sides): a picture of 256 ids, the same with guidance, and sixteen rows in different modes.
qwen: the shape of Qwen3-0.6B with 168,320 rows (random weights, bfloat16; computed in float32 here,
in bfloat16 there), with and without guidance, beside the least time in which its bytes can be read.
state: what grammar and masks cost of a step. length: how the time of an id grows with the sequence,
beside the reading of its cache. memory: the peak above weights and cache. Ids guessed ahead are
measured by `drafts.py`.

Both sides of a comparison in turn, medians. transformers' side is what its users have today:
`prefix_allowed_tokens_fn`, `guidance_scale` and `negative_prompt_ids`.

Progress goes to stderr; the last line on stdout is one JSON object.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import _path  # noqa: F401 (before all others)

PARTS = ("memory", "pocket", "qwen", "state", "length")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs, fewer ids")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    parser.add_argument("--table", type=Path, metavar="FILE", help="set the table into a file")
    return parser


if __name__ == "__main__":  # --help and mistakes, before what follows is loaded: that takes seconds
    _parser().parse_args()

# isort: split
import gc
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import torch
from _bandwidth import read_bandwidth
from _sampling_table import markdown, write_table
from _shared import interleaved, machine, say
from transformers import Qwen3Config, Qwen3ForCausalLM

from unified.engine.backends.cpu.config import LlamaCpuConfig
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.engine.backends.cpu.threads import ThreadPool
from unified.engine.engine import Engine
from unified.engine.request import CodedSlot, Finished, Request, Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.formats.coded import CodedText
from unified.formats.grammar import Grammar
from unified.formats.load import load_format
from unified.models.hf_checkpoint import weights_of
from unified.vocabulary.vocabulary import Vocabulary

GRID = (16, 16)
PROMPT = tuple(range(5, 25))
POCKET = {
    "hidden_size": 384, "num_hidden_layers": 8, "num_attention_heads": 6,
    "num_key_value_heads": 6, "head_dim": 64, "intermediate_size": 1024,
    "max_position_embeddings": 4400, "tie_word_embeddings": True,
}  # fmt: skip
QWEN = {
    "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072,
    "max_position_embeddings": 4096, "tie_word_embeddings": True,
}  # fmt: skip


def vocabulary(text: int, codes: int, audio: int) -> Vocabulary:
    """Text, markers, and codes of pictures and of sound with three levels."""
    return Vocabulary.build(
        text_size=text, text_rows=text, markers=load_format("pocket").markers, max_grid=64,
        image=((codes,), "image"), audio=((audio,) * 3, "audio"),
    )  # fmt: skip


def language_model(sizes: dict[str, Any], rows: int) -> Any:
    """A Qwen3 with random weights, bfloat16."""
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(**sizes, vocab_size=rows)).to(torch.bfloat16).eval()
    # `generate` samples what we sample: neither stops at an id of its own.
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def cpu_decoder(model: Any) -> LlamaCpuDecoder:
    return LlamaCpuDecoder(LlamaCpuConfig.from_hf(model.config.to_dict()), weights_of(model))


def single(**limits: Any) -> Sampling:
    """Parameters without guesses: random weights repeat themselves, which anyone can guess."""
    sampling = Sampling(**limits)
    modes = {name: getattr(sampling, name) for name in ("text", "image", "audio")}
    return replace(sampling, **{name: replace(own, draft_tokens=0) for name, own in modes.items()})


class Comparison:
    """One model in both libraries."""

    def __init__(self, model: Any, decoder: Any, words: Vocabulary) -> None:
        self.model, self.vocabulary = model, words
        self.grammar = Grammar.load("pocket", words)
        self.sampler = Engine(decoder, self.grammar)
        self.codes = list(range(*words.id_range("image.0")))

    def draw(self, scale: float, number: int = 1) -> None:
        """A picture of GRID codes, with the likeliest ids."""
        image = SpanSampling(guidance=Guidance(scale))
        request = Request(
            (CodedText(PROMPT, "prompt"), CodedSlot("image", GRID, role="response")), 0
        )
        self.run([request] * number, single(image=image, max_ids=400))

    def run(self, requests: Sequence[Request], sampling: Sampling) -> list[Finished]:
        events = self.sampler.run(requests, sampling)
        return [event for event in events if isinstance(event, Finished)]

    def generate(self, scale: float, rows: int = 1, number: int = GRID[0] * GRID[1]) -> None:
        """As many ids of codes through `generate`."""
        head = self.grammar.vocabulary.marker
        prompt = [head("<bos>"), head("<prompt>"), *PROMPT, head("<response>"), head("<image>")]
        blank = [head("<bos>"), head("<response>"), head("<image>")]
        options: dict[str, Any] = {}
        if scale != 1:
            options = {
                "guidance_scale": scale,
                "negative_prompt_ids": torch.tensor([blank] * rows),
                "negative_prompt_attention_mask": torch.ones(rows, len(blank), dtype=torch.long),
            }
        ids = torch.tensor([prompt] * rows)
        with torch.inference_mode():
            self.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=number,
                min_new_tokens=number, prefix_allowed_tokens_fn=lambda *_: self.codes, **options,
            )  # fmt: skip


def ratio(jobs: Sequence[Callable[[], Any]], repeats: int) -> tuple[float, list[float]]:
    """How many times faster the first job is than the second, and both medians."""
    ours, theirs = (median(runs) for runs in interleaved(jobs, repeats))
    return round(theirs / ours, 2), [round(ours, 3), round(theirs, 3)]


def mixed(number: int) -> list[Request]:
    """Rows of four kinds: a picture, a sound, a text, and a picture after a text."""
    text = CodedText(PROMPT, "prompt")
    kinds: list[tuple[Any, ...]] = [
        (text, CodedSlot("image", GRID, role="response")),
        (text, CodedSlot("audio", role="response")),
        (text, CodedSlot("text", role="response")),
        (text, CodedText(PROMPT[::-1], "response"), CodedSlot("image", GRID, role="response")),
    ]
    # Each about as long as a picture: the budget ends texts, the frames sounds.
    limits = [single(max_ids=400), single(max_audio_frames=85, max_ids=400),
              single(max_ids=290), single(max_ids=400)]  # fmt: skip
    return [Request(kinds[i % 4], i, limits[i % 4]) for i in range(number)]


def pocket(theirs: bool = True) -> Comparison:
    """Weights as the shipped model has them, bfloat16; both sides compute with them in float32."""
    words = vocabulary(4096, 1920, 1000)
    model = language_model(POCKET, words.size)
    decoder = cpu_decoder(model)
    return Comparison(model.float() if theirs else None, decoder, words)


def pocket_part(repeats: int) -> dict[str, Any]:
    both = pocket()
    results: dict[str, Any] = {"parameters_1row": sum(p.numel() for p in both.model.parameters())}
    for name, scale in (("ratio_1row", 1.0), ("ratio_1row_guided", 3.0)):
        results[name], seconds = ratio(
            [lambda s=scale: both.draw(s), lambda s=scale: both.generate(s)], repeats
        )
        say(f"{name}: {results[name]} ({seconds[0]} s, {seconds[1]} s)")
        results[f"{name}_seconds"] = seconds
    requests = mixed(16)
    new_ids: list[int] = []

    def ours() -> None:
        done = both.run(requests, single())
        new_ids.append(sum(len(d.ids) - d.usage["prompt_ids"] for d in done))

    seconds_ours, seconds_theirs = (
        median(x) for x in interleaved([ours, lambda: both.generate(1.0, rows=16)], repeats)
    )
    rate, theirs = new_ids[-1] / seconds_ours, 16 * GRID[0] * GRID[1] / seconds_theirs
    results["ratio_16rows"] = round(rate / theirs, 2)
    results["ids_16rows_per_second"] = [round(rate), round(theirs)]
    say(f"16 rows: {rate:.0f} ids/s mixed, {theirs:.0f} ids/s of generate")
    return results


def _seconds(job: Callable[[], Any]) -> float:
    began = time.perf_counter()
    job()
    return time.perf_counter() - began


def qwen_part(repeats: int, ids: int) -> dict[str, Any]:
    words = vocabulary(151_936, 16_384 - 80, 1)
    model = language_model(QWEN, 168_320)
    both = Comparison(model, cpu_decoder(model), words)

    def ours(scale: float, number: int = ids) -> None:
        image = SpanSampling(guidance=Guidance(scale))
        slot = CodedSlot("image", (number // 16, 16), role="response")
        both.run(
            [Request((CodedText(PROMPT, "prompt"), slot), 0)], single(image=image, max_ids=400)
        )

    results: dict[str, Any] = {}
    for name, scale in (("ratio_06b", 1.0), ("ratio_06b_guided", 3.0)):
        results[name], seconds = ratio(
            [lambda s=scale: ours(s), lambda s=scale: both.generate(s, number=ids)], repeats
        )
        results[f"{name}_seconds"] = seconds
        say(f"{name}: {results[name]} ({seconds[0]} s, {seconds[1]} s)")
    # An id's own time: without the prompt, which is computed, not read.
    short, long = (median(x) for x in interleaved([lambda: ours(1, 16), lambda: ours(1, 80)], 3))
    an_id = (long - short) / 64
    blocks = 2 * sum(p.numel() for p in model.model.layers.parameters())
    head = (words.id_range("image.0")[1] - words.id_range("image.0")[0]) * QWEN["hidden_size"] * 2
    cache = 4 * 2 * QWEN["num_hidden_layers"] * 8 * 128 * (30 + 16 + 32)
    bandwidth = read_bandwidth()
    least = (blocks + head + cache) / bandwidth
    results["ms_per_id_06b"] = [round(an_id * 1e3, 2), round(least * 1e3, 2)]
    results["read_gb_per_second"] = round(bandwidth / 1e9, 1)
    results["bound_share_06b"] = round(least / an_id, 3)
    say(f"an id: {an_id * 1e3:.1f} ms, at least {least * 1e3:.1f}: {results['bound_share_06b']}")
    return results


def state_part(repeats: int) -> dict[str, Any]:
    """The share of grammar states and masks in the time of a step of the pocket decoder."""
    both = pocket(theirs=False)
    whole = median(_seconds(lambda: both.draw(1.0)) for _ in range(repeats))
    request = Request((CodedText(PROMPT, "prompt"), CodedSlot("image", GRID, role="response")), 0)
    (done,) = both.run([request], single(image=SpanSampling(), max_ids=400))
    ids = done.ids.tolist()

    def follow() -> None:
        state = both.grammar.start()
        for id in ids:
            state.allowed()
            state.advance(id)

    state = median(_seconds(follow) for _ in range(max(9, repeats)))
    share = state / whole
    say(f"grammar: {state / len(ids) * 1e6:.1f} us an id, {share:.2%} of a step")
    return {"grammar_share": round(share, 4), "grammar_us_per_id": round(state / len(ids) * 1e6, 2)}


def length_part(repeats: int) -> dict[str, Any]:
    """Milliseconds an id after 256 and after 4,096 others; what an id more costs of them, beside
    the reading of its keys and values from memory."""
    both = pocket(theirs=False)
    decoder = both.sampler.decoder
    cache = decoder.new_cache(1, 4400)
    rng = np.random.default_rng(0)
    seconds = {}
    for length in (256, 4096):
        missing = length - cache.lengths[0]
        decoder.forward(cache, [0], [rng.integers(4096, size=missing).tolist()])
        runs = []
        for _ in range(30 * repeats):
            runs.append(_seconds(lambda: decoder.forward(cache, [0], [[7]])))
            cache.truncate(0, length)
        seconds[length] = median(runs)
    sixteen = []  # rows of no ids before them, and of 150
    many = decoder.new_cache(16, 160)
    for before in (0, 150):
        if before:
            decoder.forward(many, range(16), [rng.integers(4096, size=before).tolist()] * 16)
        runs = []
        for _ in range(30 * repeats):
            runs.append(_seconds(lambda: decoder.forward(many, range(16), [[7]] * 16)))
            for row in range(16):
                many.truncate(row, before)
        sixteen.append(round(median(runs) * 1e3, 2))
    held = 2 * 4 * POCKET["num_hidden_layers"] * 6 * 64  # bytes an id
    bandwidth = read_bandwidth()
    more, reading = seconds[4096] - seconds[256], held * (4096 - 256) / bandwidth
    say(f"an id: {seconds[256] * 1e3:.2f} ms at 256, {seconds[4096] * 1e3:.2f} ms at 4,096;")
    say(f"{more * 1e3:.2f} ms more, of which reading {reading * 1e3:.2f} ms")
    return {
        "ms_per_id_at_256_and_4096": [round(seconds[256] * 1e3, 3), round(seconds[4096] * 1e3, 3)],
        "ms_per_step_of_16_rows_at_0_and_150": sixteen,
        "ms_of_reading_3840_ids": round(reading * 1e3, 3),
        "cost_growth_256_to_4096": round(more / reading, 3),
    }


def memory_part() -> dict[str, Any]:
    """Peak resident memory above weights and cache while sixteen rows are sampled (Linux)."""
    both = pocket(theirs=False)
    both.run(mixed(1), single(max_ids=330))
    both.sampler.decoder = cpu_decoder(language_model(POCKET, both.grammar.vocabulary.size))
    gc.collect()
    limits = [replace(request, sampling=single(max_ids=330)) for request in mixed(16)]
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    engine, cache = Engine(both.sampler.decoder, both.grammar), 0
    for request in limits:
        engine.add(request, lambda event: None)
    while engine.step():
        counters = engine.counters
        cache = max(cache, counters.kv_bytes + counters.prefix_bytes)
    above = _resident("VmHWM") - before
    engine.close()
    weights = 2 * sum(math.prod(s) for s in both.sampler.decoder.config.shapes().values())
    say(f"{above / 2**20:.0f} MB more while sampling, {cache / 2**20:.0f} of them the cache")
    return {
        "memory_overhead": round((above - cache) / (weights + cache), 4),
        "mb_of_weights_cache_and_else": [
            round(x / 2**20, 1) for x in (weights, cache, above - cache)
        ],
    }


def _resident(what: str) -> int:
    """Bytes, by the name /proc/self/status has for them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status says nothing of {what}; leave --only memory out")


def main() -> None:
    options = _parser().parse_args()
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        _parser().error(f"--only has {sorted(unknown)}, expected some of {', '.join(PARTS)}")
    if options.table and parts != list(PARTS):
        _parser().error("--table needs all parts; leave --only out")
    threads = ThreadPool.shared().threads  # OMP_NUM_THREADS, for both sides
    torch.set_num_threads(threads)
    repeats = 1 if options.quick else 5
    began = time.perf_counter()
    results: dict[str, Any] = {}
    if "memory" in parts:  # first: what others have freed would hide what is taken
        results |= memory_part()
    if "pocket" in parts:
        results |= pocket_part(repeats)
    if "qwen" in parts:
        results |= qwen_part(1 if options.quick else 3, 16 if options.quick else 64)
    if "state" in parts:
        results |= state_part(repeats)
    if "length" in parts:
        results |= length_part(repeats)
    results["sample"] = "quick" if options.quick else "full"
    results["benchmark_seconds"] = round(time.perf_counter() - began, 1)
    results["machine"] = machine(threads, ("transformers", "numpy"))
    if options.table:
        write_table(options.table, markdown(results))
    print(json.dumps(results))


if __name__ == "__main__":
    main()

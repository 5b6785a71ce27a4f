"""Speed of sampling, beside `generate` of transformers with a constraint, on the same weights.

    python benchmarks/sampling.py [--quick] [--only pocket,qwen,state,length,memory]

pocket: a decoder of 17M parameters (8 layers of width 384, float32): a picture of 256 ids, the same
with guidance, and sixteen rows in different modes. qwen: the shape of Qwen3-0.6B with 168,320 rows
(random weights, bfloat16), with and without guidance, beside the least time in which its bytes can
be read. state: what grammar and masks cost of a step. length: seconds an id as a sequence grows,
beside the reading of its cache. memory: the peak above weights and cache.

Both sides of a comparison in turn, medians. transformers' side is what its users have today:
`prefix_allowed_tokens_fn`, `guidance_scale` and `negative_prompt_ids`.

Progress goes to stderr; the last line on stdout is one JSON object.
"""

from __future__ import annotations

import _path  # noqa: F401 (before all others)

# isort: split
import argparse
import json
import resource
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from _shared import interleaved, machine, say
from transformers import Qwen3Config, Qwen3ForCausalLM

from unified.checkpoint import weights_of
from unified.choice import Guidance, SpanSampling
from unified.coded import CodedText
from unified.decoder import SlimDecoder
from unified.format_spec import load_format
from unified.grammar import Grammar
from unified.requests import CodedSlot, Finished, Request, Sampling
from unified.sampling import Sampler
from unified.slim_config import SlimConfig
from unified.vocabulary import Vocabulary

PARTS = ("pocket", "qwen", "state", "length", "memory")
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


def language_model(sizes: dict[str, Any], rows: int, dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    with torch.device("cpu"):
        model = Qwen3ForCausalLM(Qwen3Config(**sizes, vocab_size=rows)).to(dtype).eval()
    # `generate` samples what we sample: neither stops at an id of its own.
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def slim(model: Any) -> SlimDecoder:
    return SlimDecoder(SlimConfig.from_hf(model.config.to_dict()), weights_of(model))


class Comparison:
    """One model in both libraries."""

    def __init__(self, model: Any, decoder: Any, words: Vocabulary) -> None:
        self.model, self.vocabulary = model, words
        self.grammar = Grammar.load("pocket", words)
        self.sampler = Sampler(decoder, self.grammar)
        self.codes = list(range(*words.id_range("image.0")))

    def draw(self, scale: float, number: int = 1) -> None:
        """A picture of GRID codes, with the likeliest ids."""
        image = SpanSampling(guidance=Guidance(scale))
        request = Request(
            (CodedText(PROMPT, "prompt"), CodedSlot("image", GRID, role="response")), 0
        )
        self.run([request] * number, Sampling(image=image, max_ids=400))

    def run(self, requests: Sequence[Request], sampling: Sampling) -> list[Finished]:
        found = self.sampler.run(requests, sampling)
        return [event for event in found if isinstance(event, Finished)]

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
    ours, theirs = (median(found) for found in interleaved(jobs, repeats))
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
    limits = [Sampling(max_ids=400), Sampling(max_audio_frames=85, max_ids=400),
              Sampling(max_ids=290), Sampling(max_ids=400)]  # fmt: skip
    return [Request(kinds[i % 4], i, limits[i % 4]) for i in range(number)]


def pocket_part(repeats: int) -> dict[str, Any]:
    words = vocabulary(4096, 1920, 1000)
    model = language_model(POCKET, words.size, torch.float32)
    both = Comparison(model, slim(model), words)
    found: dict[str, Any] = {"parameters_1row": sum(p.numel() for p in model.parameters())}
    for name, scale in (("ratio_1row", 1.0), ("ratio_1row_guided", 3.0)):
        found[name], seconds = ratio(
            [lambda s=scale: both.draw(s), lambda s=scale: both.generate(s)], repeats
        )
        say(f"{name}: {found[name]} ({seconds[0]} s, {seconds[1]} s)")
        found[f"{name}_seconds"] = seconds
    requests = mixed(16)
    made: list[int] = []

    def ours() -> None:
        done = both.run(requests, Sampling())
        made.append(sum(len(d.ids) - d.usage["prompt_ids"] for d in done))

    seconds_ours, seconds_theirs = (
        median(x) for x in interleaved([ours, lambda: both.generate(1.0, rows=16)], repeats)
    )
    rate, theirs = made[-1] / seconds_ours, 16 * GRID[0] * GRID[1] / seconds_theirs
    found["ratio_16rows"] = round(rate / theirs, 2)
    found["ids_16rows_per_second"] = [round(rate), round(theirs)]
    say(f"16 rows: {rate:.0f} ids/s mixed, {theirs:.0f} ids/s of generate")
    return found


def read_bandwidth() -> float:
    """Bytes a second that this machine reads, of two gigabytes that no cache holds."""
    block = torch.ones(512 * 1024 * 1024, dtype=torch.float32)
    best = min(_seconds(block.sum) for _ in range(5))
    return block.numel() * 4 / best


def _seconds(job: Callable[[], Any]) -> float:
    began = time.perf_counter()
    job()
    return time.perf_counter() - began


def qwen_part(repeats: int, ids: int) -> dict[str, Any]:
    words = vocabulary(151_936, 16_384 - 80, 1)
    rows = 168_320
    model = language_model(QWEN, rows, torch.bfloat16)
    both = Comparison(model, slim(model), words)
    grid = (ids // 16, 16)

    def ours(scale: float) -> None:
        image = SpanSampling(guidance=Guidance(scale))
        slot = CodedSlot("image", grid, role="response")
        both.run(
            [Request((CodedText(PROMPT, "prompt"), slot), 0)], Sampling(image=image, max_ids=400)
        )

    found: dict[str, Any] = {}
    for name, scale in (("ratio_06b", 1.0), ("ratio_06b_guided", 3.0)):
        found[name], seconds = ratio(
            [lambda s=scale: ours(s), lambda s=scale: both.generate(s, number=ids)], repeats
        )
        found[f"{name}_seconds"] = seconds
        say(f"{name}: {found[name]} ({seconds[0]} s, {seconds[1]} s)")
    blocks = 2 * sum(p.numel() for p in model.model.layers.parameters())
    head = (words.id_range("image.0")[1] - words.id_range("image.0")[0]) * QWEN["hidden_size"] * 2
    cache = 4 * 2 * QWEN["num_hidden_layers"] * 8 * 128 * (30 + ids // 2)
    least = (blocks + head + cache) / read_bandwidth()
    found["bound_share_06b"] = round(least / (found["ratio_06b_seconds"][0] / ids), 3)
    say(f"of the bound: {found['bound_share_06b']} ({least * 1e3:.1f} ms an id at least)")
    return found


def state_part(repeats: int) -> dict[str, Any]:
    """The share of grammar states and masks in the time of a step of the pocket decoder."""
    words = vocabulary(4096, 1920, 1000)
    model = language_model(POCKET, words.size, torch.float32)
    both = Comparison(model, slim(model), words)
    whole = median(_seconds(lambda: both.draw(1.0)) for _ in range(repeats))
    image = SpanSampling()
    request = Request((CodedText(PROMPT, "prompt"), CodedSlot("image", GRID, role="response")), 0)
    (done,) = both.run([request], Sampling(image=image, max_ids=400))
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
    """Seconds an id at 256 and at 4,096 ids before it, and those of reading the cache alone."""
    words = vocabulary(4096, 1920, 1000)
    model = language_model(POCKET, words.size, torch.float32)
    decoder = slim(model)
    cache = decoder.cache(1, 4400)
    rng = np.random.default_rng(0)
    seconds = {}
    for length in (256, 4096):
        cache.cut(0, min(cache.lengths[0], length))
        missing = length - cache.lengths[0]
        if missing:
            decoder.feed(cache, [0], [rng.integers(4096, size=missing).tolist()])
        runs = []
        for _ in range(30 * repeats):
            runs.append(_seconds(lambda: decoder.feed(cache, [0], [[7]])))
            cache.cut(0, length)
        seconds[length] = median(runs)
    kept = cache.keys[:, 0, :, :4096], cache.values[:, 0, :, :4096]
    reading = median(_seconds(lambda: [part.sum() for part in kept]) for _ in range(9 * repeats))
    more = seconds[4096] - seconds[256]
    say(f"an id: {seconds[256] * 1e3:.2f} ms at 256, {seconds[4096] * 1e3:.2f} ms at 4,096;")
    say(f"reading the cache of 4,096 alone: {reading * 1e3:.2f} ms")
    return {
        "ms_per_id_at_256": round(seconds[256] * 1e3, 3),
        "ms_per_id_at_4096": round(seconds[4096] * 1e3, 3),
        "ms_of_reading_the_cache_of_4096": round(reading * 1e3, 3),
        "cost_growth_256_to_4096": round(more / (reading * (4096 - 256) / 4096), 3),
    }


def memory_part() -> dict[str, Any]:
    """Peak resident memory above what weights and cache hold, while sixteen rows are sampled."""
    words = vocabulary(4096, 1920, 1000)
    model = language_model(POCKET, words.size, torch.float32)
    decoder = slim(model)
    both = Comparison(model, decoder, words)
    both.run(mixed(16), Sampling())  # everything imported and allocated once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    both.run(mixed(16), Sampling())
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    held = sum(p.numel() for p in model.parameters()) * 4
    cache = 2 * 8 * 16 * 6 * 400 * 64 * 4
    above = (after - before) / 1024
    least = (held + cache) / 2**20
    return {"memory_overhead": round(above / least, 4), "peak_mb_above": round(above, 1),
            "weights_and_cache_mb": round(least, 1)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs, fewer ids")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    options = parser.parse_args()
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only has {sorted(unknown)}, expected some of {', '.join(PARTS)}")
    torch.set_num_threads(options.threads)
    repeats = 1 if options.quick else 5
    began = time.perf_counter()
    results: dict[str, Any] = {}
    if "pocket" in parts:
        results |= pocket_part(repeats)
    if "qwen" in parts:
        results |= qwen_part(1 if options.quick else 3, 16 if options.quick else 64)
    if "state" in parts:
        results |= state_part(repeats)
    if "length" in parts:
        results |= length_part(repeats)
    if "memory" in parts:
        results |= memory_part()
    results["sample"] = "quick" if options.quick else "full"
    results["benchmark_seconds"] = round(time.perf_counter() - began, 1)
    results["machine"] = machine(options.threads, ("transformers", "numpy"))
    print(json.dumps(results))


if __name__ == "__main__":
    main()

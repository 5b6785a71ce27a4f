"""One engine for many requests: joining, stalls beside a long prompt, prefixes, memory, overhead.

    python benchmarks/engine.py [--quick] [--only joining,stall,prefix,memory,overhead]

All with a decoder of 17M parameters (`benchmarks/sampling.py`: 8 layers of width 384, bfloat16
weights), so that what the engine itself costs shows most.

joining: ids a second of sixteen pictures that arrive one by one, every eighth pass, over sixteen at
once; prompts differ. stall: the longest gap between two ids of a stream while a prompt of 4,096 ids
is read beside it, all but its last, and the usual gap before; and how long that prompt takes alone
and beside the stream. prefix: a picture of an article once more: ids read and seconds to its first
id, from what the article left and without. memory: what a picture reserves, and how many fit.
overhead: what of a step is neither a forward pass nor logits.

Both sides of a comparison in turn, medians. Progress goes to stderr; the last line on stdout is one
JSON object.
"""

from __future__ import annotations

import argparse

import _path  # noqa: F401 (before all others)

PARTS = ("joining", "stall", "prefix", "memory", "overhead")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs, fewer ids")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    return parser


if __name__ == "__main__":  # --help and mistakes, before what follows is loaded: that takes seconds
    _parser().parse_args()

# isort: split
import copy
import gc
import json
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
from _shared import interleaved, machine, say
from sampling import GRID, Comparison, pocket

from unified.engine.backends.base import Array, Ranges
from unified.engine.backends.cpu.cache import SlotCache
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.engine.backends.cpu.threads import ThreadPool
from unified.engine.engine import Engine
from unified.engine.handle import EngineEvent
from unified.engine.request import CodedSlot, Finished, Request, Sampling
from unified.engine.sampler import SpanSampling
from unified.formats.coded import CodedText

ROWS, EVERY = 16, 8
SAMPLING = Sampling(image=SpanSampling(1.0), max_ids=4_400, max_repeats=0)


def picture(seed: int, prompt: int = 20, grid: tuple[int, int] = GRID) -> Request:
    """A picture after a prompt of so many random ids."""
    ids = np.random.default_rng(seed).integers(4_096, size=prompt).tolist()
    slot = CodedSlot("image", grid, role="response")
    return Request((CodedText(tuple(ids), "prompt"), slot), seed)


def new_engine(both: Comparison, decoder: Any = None) -> Engine:
    return Engine(decoder or both.sampler.decoder, both.grammar)


def drain(engine: Engine) -> None:
    while engine.step():
        pass


def joining_part(both: Comparison, repeats: int) -> dict[str, Any]:
    requests = [picture(seed) for seed in range(ROWS)]

    def run(every: int) -> None:
        engine = new_engine(both)
        for request in requests:
            engine.add(request, _ignore, SAMPLING)
            for _ in range(every):
                engine.step()
        drain(engine)
        assert engine.counters.finished == ROWS
        engine.close()

    one_by_one, at_once = (
        median(runs) for runs in interleaved([lambda: run(EVERY), lambda: run(0)], repeats)
    )
    rates = [round(ROWS * GRID[0] * GRID[1] / seconds) for seconds in (one_by_one, at_once)]
    say(f"16 pictures, one by one and at once: {rates[0]} and {rates[1]} ids/s")
    return {"joining": round(at_once / one_by_one, 3), "joining_ids_per_second": rates}


def stall_part(both: Comparison, repeats: int, length: int) -> dict[str, Any]:
    longest, most, beside, alone = [], [], [], []
    before, after = [], []
    for repeat in range(repeats):
        stall = _stall(both, length, repeat)
        longest.append(max(stall.gaps))
        most.append(float(np.quantile(stall.gaps, 0.99)))
        before.append(median(stall.before))
        after.append(median(stall.after))
        beside.append(stall.seconds)
        alone.append(_read_alone(both, length, repeat))
    steps = [gap / step for gap, step in zip(longest, after)]
    say(
        f"a stream's step {median(before) * 1e3:.2f} ms before a prompt of {length}, "
        f"{median(after) * 1e3:.2f} ms after it; beside it at most {median(longest) * 1e3:.2f} ms "
        f"({median(steps):.2f} steps of those after it), 99% below {median(most) * 1e3:.2f} ms"
    )
    say(f"the prompt: {median(alone):.2f} s alone, {median(beside):.2f} s beside the stream")
    return {
        "stall_ms": round(median(longest) * 1e3, 2),
        "stall_ms_99": round(median(most) * 1e3, 2),
        "stall_step_ms": [round(median(steps) * 1e3, 2) for steps in (before, after)],
        "stall_steps": round(median(steps), 2),
        "prompt_seconds_alone_and_beside": [round(median(alone), 3), round(median(beside), 3)],
        "prompt_ids": length,
    }


class _Gaps:
    """Seconds between the ids of a stream: before a prompt came, while it was read, and when it was
    gone: the stream is longer then, and so are its steps."""

    def __init__(self) -> None:
        self.before: list[float] = []
        self.gaps: list[float] = []
        self.after: list[float] = []
        self.seconds = 0.0


def _stall(both: Comparison, length: int, seed: int) -> _Gaps:
    engine, result = new_engine(both), _Gaps()
    handle = engine.add(picture(seed, grid=(64, 64)), _ignore, SAMPLING)
    for _ in range(40):
        _gap(engine, result.before)
    del result.before[:10]  # its own prompt, and what is touched for the first time
    came = time.perf_counter()
    other = engine.add(picture(seed + 1, length - 8, (1, 1)), _ignore, SAMPLING)
    while not other.request.usage["sampled_ids"]:
        _gap(engine, result.gaps)
    # The last pass is the other's first choice: a step of two rows, one of them behind 4,096 ids.
    result.gaps.pop()
    result.seconds = time.perf_counter() - came
    engine.cancel(other)
    for _ in range(40):
        _gap(engine, result.after)
    del result.after[:10]
    assert not handle.ended, "the stream must be longer"
    engine.close()
    return result


def _gap(engine: Engine, gaps: list[float]) -> None:
    began = time.perf_counter()
    engine.step()
    gaps.append(time.perf_counter() - began)


def _read_alone(both: Comparison, length: int, seed: int) -> float:
    engine = new_engine(both)
    engine.add(picture(seed + 1, length - 8, (1, 1)), _ignore, SAMPLING)
    began = time.perf_counter()
    drain(engine)
    engine.close()
    return time.perf_counter() - began


def prefix_part(both: Comparison, repeats: int, grid: tuple[int, int]) -> dict[str, Any]:
    """An article: two texts and two pictures; the second picture is asked for once more."""
    text, slot = CodedSlot("text", role="response"), CodedSlot("image", grid, role="response")
    lead = picture(0, 200).segments[0]
    sampling = Sampling(SpanSampling(1.0), SpanSampling(1.0), max_ids=4_400, max_text_ids=100)
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    read: dict[str, int] = {}
    for repeat in range(repeats):
        engine, ends = new_engine(both), []
        engine.add(Request((lead, text, slot, text, slot), repeat), ends.append, sampling)
        drain(engine)
        (article,) = (end for end in ends if isinstance(end, Finished))
        again = Request((*both.grammar.parse(article.ids)[:-1], slot), repeat + 1)
        for name, own in (("with", engine), ("without", new_engine(both))):
            before, began = own.counters.ids_read, time.perf_counter()
            handle = own.add(again, _ignore, sampling)
            while not handle.request.usage["sampled_ids"]:
                own.step()
            seconds[name].append(time.perf_counter() - began)
            read[name] = own.counters.ids_read - before
            own.close()
    medians = [round(median(seconds[name]) * 1e3, 2) for name in ("with", "without")]
    say(f"one picture once more: first id after {medians[0]} ms, {medians[1]} ms without prefixes")
    return {
        "again_first_id_ms": medians,
        "again_ids_read": [read["with"], read["without"]],
    }


def memory_part(both: Comparison) -> dict[str, Any]:
    decoder = both.sampler.decoder
    engine = Engine(decoder, both.grammar, cache_bytes=decoder.cache_bytes(2_048) * 8)
    for seed in range(200):
        engine.add(picture(seed), _ignore, Sampling(image=SpanSampling(1.0)))
    engine.step()
    counters = engine.counters
    each = counters.kv_bytes / counters.active
    engine.close()
    say(f"a picture reserves {each / 2**20:.1f} MB; {counters.active} where 8 of 2,048 ids fit")
    return {
        "kv_mb_per_picture": round(each / 2**20, 2),
        "pictures_where_8_of_2048_ids_fit": counters.active,
    }


class _Timed(LlamaCpuDecoder):
    """Counts the seconds that it is at work."""

    seconds = 0.0

    def forward(
        self, cache: SlotCache, slots: Sequence[int], input_ids: Sequence[Sequence[int]]
    ) -> Array:
        return self._timed(super().forward, cache, slots, input_ids)

    def logits(self, hidden_states: Array, ranges: Ranges) -> Array:
        return self._timed(super().logits, hidden_states, ranges)

    def logits_of_parts(
        self, hidden_states: Array, parts: Sequence[tuple[Sequence[int], Ranges]]
    ) -> list[Array]:
        return self._timed(super().logits_of_parts, hidden_states, parts)

    def _timed(self, work: Callable[..., Any], *args: Any) -> Any:
        began = time.perf_counter()
        try:
            return work(*args)
        finally:
            self.seconds += time.perf_counter() - began


def overhead_part(both: Comparison, repeats: int) -> dict[str, Any]:
    decoder = copy.copy(both.sampler.decoder)
    decoder.__class__ = _Timed
    results: dict[str, Any] = {}
    for rows in (1, 16):
        shares, each = [], []
        for _ in range(repeats):
            engine, decoder.seconds = new_engine(both, decoder), 0.0
            for seed in range(rows):
                engine.add(picture(seed), _ignore, Sampling(image=SpanSampling()))
            began = time.perf_counter()
            drain(engine)
            whole = time.perf_counter() - began
            shares.append(1 - decoder.seconds / whole)
            each.append((whole - decoder.seconds) / engine.counters.passes)
            engine.close()
        results[f"overhead_share_{rows}rows"] = round(median(shares), 4)
        results[f"overhead_us_{rows}rows"] = round(median(each) * 1e6, 1)
        say(f"{rows} rows: {median(each) * 1e6:.0f} us beside the decoder, {median(shares):.1%}")
    return results


def _ignore(event: EngineEvent) -> None:
    pass


def main() -> None:
    options = _parser().parse_args()
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        _parser().error(f"--only has {sorted(unknown)}, expected some of {', '.join(PARTS)}")
    began = time.perf_counter()
    both = pocket(theirs=False)
    drain_once = new_engine(both)
    drain_once.add(picture(0, grid=(1, 1)), _ignore, SAMPLING)
    drain(drain_once)  # kernels are compiled, or loaded
    # As a server does once its model is open: Python's collector looks through all objects that
    # torch and transformers have made, 30 to 70 ms at a time, unless they are set aside.
    gc.collect()
    gc.freeze()
    repeats = 3 if options.quick else 7
    results: dict[str, Any] = {}
    if "joining" in parts:
        results |= joining_part(both, repeats)
    if "stall" in parts:
        results |= stall_part(both, repeats, 4_096)
    if "prefix" in parts:
        results |= prefix_part(both, repeats, GRID)
    if "memory" in parts:
        results |= memory_part(both)
    if "overhead" in parts:
        results |= overhead_part(both, repeats)
    results["sample"] = "quick" if options.quick else "full"
    results["benchmark_seconds"] = round(time.perf_counter() - began, 1)
    results["machine"] = machine(ThreadPool.shared().threads, ("numpy",))
    print(json.dumps(results))


if __name__ == "__main__":
    main()

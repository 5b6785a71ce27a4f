"""A million constrained choices of untrained models under every format; each sequence validated.

    python benchmarks/walks.py [--quick]

Documents of every kind that a format holds: texts, pictures and sounds given or to be filled, free
or counted, under budgets that leave little room. They join the engine one by one, as others leave.
An untrained decoder chooses among all that the grammar allows. A sequence that the format's own
validator refuses would end the run.

Choices are ids with an alternative. Progress goes to stderr; the last line on stdout is one JSON
object. The whole takes a minute, --quick (a twentieth of the choices) ten seconds.
"""

from __future__ import annotations

import argparse

import _path  # noqa: F401 (before all others)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a twentieth of the choices")
    return parser


if __name__ == "__main__":  # --help and mistakes, before what follows is loaded: that takes seconds
    _parser().parse_args()

# isort: split
import json
import time
from typing import Any

import numpy as np
from _shared import machine, say

from unified.engine.backends.cpu.config import LlamaCpuConfig, default_inv_freq
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.engine.backends.cpu.threads import ThreadPool
from unified.engine.engine import Engine
from unified.engine.request import CodedSlot, Failed, Finished, Request, Sampling
from unified.engine.sampler import SpanSampling
from unified.formats.coded import CodedText, coded_media
from unified.formats.grammar import Grammar
from unified.formats.load import load_format, shipped_formats
from unified.vocabulary.block import Block
from unified.vocabulary.vocabulary import Vocabulary

LEVELS = {("pocket", "audio"): 3, ("mio", "audio"): 4, ("csm", "audio"): 32,
          ("orpheus", "audio"): 7, ("anygpt", "music"): 4,
          ("pocket-together", "audio"): 3, ("pocket-together", "image"): 2}  # fmt: skip
WARM = SpanSampling(1.0)
TEXT, CODES, ROWS = 40, 30, 64


def small(name: str) -> Grammar:
    """A format over few ids: 40 of text, among them those of its literals, sizes to 12."""
    spec = load_format(name)
    blocks = [
        Block("text", 0, TEXT),
        Block("markers", TEXT, len(spec.markers), symbols=spec.markers),
    ]
    blocks.append(Block("size", blocks[-1].stop, 12))
    for kind, span in spec.spans.items():
        for level in range(span.num_codebooks or LEVELS.get((name, kind), 1)):
            blocks.append(Block(f"{kind}.{level}", blocks[-1].stop, CODES, level))
    literals = tuple((text, (20 + at,)) for at, text in enumerate(spec.literals))
    return Grammar(spec, Vocabulary(tuple(blocks), TEXT, TEXT, literals))


def untrained(grammar: Grammar) -> LlamaCpuDecoder:
    config = LlamaCpuConfig(
        hidden_size=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, intermediate_size=24,
        vocab_size=grammar.vocabulary.size, max_position_embeddings=16_384, norm_eps=1e-6,
        inv_freq=default_inv_freq(1e4, 8), qk_norm=True, tie_word_embeddings=True,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(1.0 if "norm" in name else 0.0, 0.3, shape).astype(np.float32)
        for name, shape in config.shapes().items()
    }
    return LlamaCpuDecoder(config, weights)


def request(grammar: Grammar, rng: np.random.Generator) -> Request:
    """A random document with slots that the format can hold."""
    roles = [*grammar.roles]
    first, second = (roles[0], roles[-1]) if roles else (None, None)
    segments: list[Any] = [CodedText(tuple(rng.integers(20, size=rng.integers(1, 6))), first)]
    kinds = list(grammar.span_grammars)
    if rng.random() < 0.3 and not grammar.span_grammars[kinds[0]].terminal:
        kind = kinds[int(rng.integers(len(kinds)))]
        program = grammar.span_grammars[kind]
        shape = [
            times if register is None else times * int(rng.integers(1, 4))
            for register, times in program.axes
        ]
        codes = rng.integers(CODES, size=(len(program.blocks), *shape))
        segments.append(coded_media(program.modality, codes, first, kind=kind))
    slots = [CodedSlot("any", role=second), CodedSlot("text", role=second)]
    slots += [CodedSlot(kind, role=second) for kind in kinds]
    if "image" in kinds and not grammar.span_grammars["image"].terminal:
        slots.append(CodedSlot("any", num_images=int(rng.integers(3)), role=second))
    slot = slots[int(rng.integers(len(slots)))]
    least = max((p.length({}) for p in grammar.span_grammars.values()), default=1)
    room = sum(len(grammar.segment_ids(s)[0]) for s in segments) + 3 * least + 30
    own = Sampling(WARM, WARM, WARM, max_ids=int(room + rng.integers(200)), max_audio_frames=40)
    return Request((*segments, slot), int(rng.integers(1 << 30)), own)


def walk(name: str, wanted: int) -> dict[str, Any]:
    """Keep `ROWS` requests in the engine until so many choices were made: whenever one leaves,
    another joins those that are under way."""
    grammar = small(name)
    engine = Engine(untrained(grammar), grammar, max_rows=ROWS)
    rng = np.random.default_rng(1)
    counts = {"choices": 0, "ids": 0, "sequences": 0}
    running = 0

    def on_event(event: object) -> None:
        nonlocal running
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Finished):
            grammar.validate(event.ids)  # what it raises, the step raises
            counts["choices"] += event.usage["sampled_ids"]
            counts["ids"] += len(event.ids)
            counts["sequences"] += 1
            running -= 1

    while counts["choices"] < wanted:
        while running < ROWS:
            engine.add(request(grammar, rng), on_event)
            running += 1
        engine.step()
    engine.close()
    return counts


def main() -> None:
    options = _parser().parse_args()
    began = time.perf_counter()
    names = shipped_formats()
    wanted = (50_000 if options.quick else 1_000_000) // len(names) + 1
    results = {}
    for name in names:
        results[name] = walk(name, wanted)
        say(f"{name}: {results[name]}")
    results: dict[str, Any] = {
        **{what: sum(counts[what] for counts in results.values()) for what in results[names[0]]},
        "invalid": 0,  # one would have ended the run
        "formats": results,
        "sample": "quick" if options.quick else "full",
        "benchmark_seconds": round(time.perf_counter() - began, 1),
        "machine": machine(ThreadPool.shared().threads, ("numpy",)),
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main()

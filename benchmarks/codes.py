"""Several codes in a position: speed of speech in a row and together, on the same weights.

    python benchmarks/codes.py [--quick] [--only speech,levels]

speech: a decoder of 17M parameters (`benchmarks/sampling.py`: 8 layers of width 384, bfloat16
weights), which writes speech of the pocket's shape, 25 frames a second of three codes: in a row,
and together with a depth decoder of two layers of width 192. Positions a second of either, and the
time of a second of speech, one row and sixteen. Random weights, whose lengths and likeliest codes
mean nothing: every row has as many frames, drawn at temperature 1, and nothing is guessed ahead.
csm: CSM against transformers' generate on a small checkpoint, and its own shape at an eighth of its
width (`_codes_csm.py`); musicgen: MusicGen against it (`_codes_musicgen.py`); published: speed of
published models (`_codes_published.py`); train: see `_codes_train.py`.
levels: what a frame of sixteen rows takes with positions of 3 and of 8 ids.

Both sides of a comparison in turn, medians. Progress goes to stderr; the last line on stdout is one
JSON object.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import _path  # noqa: F401 (before all others)

# Parts that are files of their own, `_codes_NAME.py` with `run(quick) -> dict` in each.
_FILES = sorted(Path(__file__).parent.glob("_codes_*.py"))
OTHERS = tuple(path.stem.removeprefix("_codes_") for path in _FILES)
PARTS = ("speech", "levels", *OTHERS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs, fewer frames")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    return parser


if __name__ == "__main__":  # --help and mistakes, before what follows is loaded: that takes seconds
    _parser().parse_args()

# isort: split
import json
import time
from statistics import median
from typing import Any

import torch
from _shared import interleaved, machine, say
from sampling import POCKET, PROMPT, language_model, single

from unified.engine.backends.cpu.config import LlamaCpuConfig
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.engine.backends.cpu.threads import ThreadPool
from unified.engine.backends.depth_config import DepthConfig
from unified.engine.backends.depth_module import DepthDecoder
from unified.engine.engine import Engine
from unified.engine.request import CodedSlot, Finished, Request
from unified.engine.sampler import SpanSampling
from unified.formats.coded import CodedText
from unified.formats.grammar import Grammar
from unified.formats.load import load_format
from unified.models.hf_checkpoint import weights_of
from unified.vocabulary.vocabulary import Vocabulary

FRAMES_PER_SECOND, CODES = 25, 1000
MARKERS = 2  # of a sound, which it has however long it is
ROWS = (1, 16)


def depth_of(words: Vocabulary, levels: int) -> DepthConfig:
    """A depth decoder of two layers of width 192 over the codes of sound."""
    start, stop = words.id_range("audio.0")[0], words.id_range(f"audio.{levels - 1}")[1]
    return DepthConfig(
        input_size=POCKET["hidden_size"], hidden_size=192, num_layers=2, num_heads=3,
        num_kv_heads=3, head_dim=64, intermediate_size=512, num_ids=levels, ranges=((start, stop),),
    )  # fmt: skip


class Speech:
    """One decoder under two formats: `pocket`, codes in a row, and `pocket-together`."""

    def __init__(self, levels: int) -> None:
        words = Vocabulary.build(
            text_size=4096, text_rows=4096, markers=load_format("pocket").markers, max_grid=64,
            image=((1920,), "image"), audio=((CODES,) * levels, "audio"),
        )  # fmt: skip
        self.levels = levels
        model = language_model(POCKET, words.size)
        config = depth_of(words, levels)
        torch.manual_seed(1)
        own = DepthDecoder(config).to(torch.bfloat16)
        self.parameters = [sum(p.numel() for p in part.parameters()) for part in (model, own)]
        sizes, weights = LlamaCpuConfig.from_hf(model.config.to_dict()), weights_of(model)
        with_depth = LlamaCpuDecoder(sizes, weights, depth=(config, weights_of(own)))
        self.in_a_row = Engine(LlamaCpuDecoder(sizes, weights), Grammar.load("pocket", words))
        self.together = Engine(with_depth, Grammar.load("pocket-together", words))

    def speak(self, engine: Engine, rows: int, frames: int) -> float:
        """Positions a second of speech. `rows` sounds of so many frames, whatever comes of it."""
        sampling = single(
            audio=SpanSampling(1.0), max_audio_frames=frames, max_ids=64 + self.levels * frames
        )
        slot = CodedSlot("audio", role="response")
        requests = [Request((CodedText(PROMPT, "prompt"), slot), seed) for seed in range(rows)]
        ends = [e for e in engine.run(requests, sampling) if isinstance(e, Finished)]
        written = [end.usage["audio_ids"] // self.levels for end in ends]
        assert min(written) > 0.8 * frames, written  # or else the times are not of as much speech
        (sound,) = engine.grammar.parse(ends[0].ids)[1:]
        positions = engine.grammar.segment_ids(sound).num_positions - MARKERS
        return FRAMES_PER_SECOND * positions / written[0]


def speech_part(quick: bool) -> dict[str, Any]:
    speech, frames = Speech(3), 25 if quick else 100
    seconds_of_speech = frames / FRAMES_PER_SECOND
    results: dict[str, Any] = {"speech_parameters": speech.parameters}
    a_second = [speech.speak(engine, 1, frames) for engine in (speech.in_a_row, speech.together)]
    results["speech_positions_per_second"] = [round(number, 1) for number in a_second]
    results["speech_positions_ratio"] = round(a_second[0] / a_second[1], 2)
    for rows in ROWS:
        jobs = [
            lambda engine=engine, rows=rows: speech.speak(engine, rows, frames)
            for engine in (speech.in_a_row, speech.together)
        ]
        slow, fast = (median(runs) for runs in interleaved(jobs, 3 if quick else 9))
        name = f"{rows}row" if rows == 1 else f"{rows}rows"
        results[f"speech_speed_ratio_{name}"] = round(slow / fast, 2)
        own = [round(s / seconds_of_speech / rows, 4) for s in (slow, fast)]
        results[f"seconds_per_second_of_speech_{name}"] = own
        say(f"{name}: a second of speech takes {own[0]} s in a row, {own[1]} s together")
    return results


def levels_part(quick: bool) -> dict[str, Any]:
    """Milliseconds of a pass of sixteen rows, by how many ids their positions hold."""
    results: dict[str, Any] = {}
    for levels in (3, 8):
        speech, frames = Speech(levels), 10 if quick else 40
        runs = []
        for _ in range(2 if quick else 5):
            began = time.perf_counter()
            speech.speak(speech.together, 16, frames)
            runs.append((time.perf_counter() - began) / frames)
        results[f"ms_per_frame_of_{levels}_levels_16rows"] = round(median(runs) * 1e3, 2)
        say(f"{levels} levels: {median(runs) * 1e3:.2f} ms a frame of sixteen rows")
    return results


def main() -> None:
    options = _parser().parse_args()
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        _parser().error(f"--only has {sorted(unknown)}, expected some of {', '.join(PARTS)}")
    threads = ThreadPool.shared().threads  # OMP_NUM_THREADS, for both sides
    torch.set_num_threads(threads)
    began = time.perf_counter()
    results: dict[str, Any] = {}
    for part in parts:
        if part == "speech":
            results |= speech_part(options.quick)
        elif part == "levels":
            results |= levels_part(options.quick)
        else:
            results |= importlib.import_module(f"_codes_{part}").run(options.quick)
    results["sample"] = "quick" if options.quick else "full"
    results["benchmark_seconds"] = round(time.perf_counter() - began, 1)
    results["machine"] = machine(threads, ("transformers", "numpy"))
    print(json.dumps(results))


if __name__ == "__main__":
    main()

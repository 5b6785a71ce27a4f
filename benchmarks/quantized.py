"""What 8-bit weights lose: bits an id, logits, and the pocket model's tasks; and memory to open.

    python benchmarks/quantized.py [--quick] [--only bits,groups,random,tasks,memory]

bits: cross-entropy of held-out documents of the pocket world in bits an id (where codes are
together, of the first id of each position), by kind of document, with the weights of the pocket
model as float32, bfloat16 (as stored) and int8 on the CPU backend; the Kullback-Leibler divergence
of each from float32, and the share of ids where the likeliest is the same. groups: of a model whose
codes are in a row, the same loss for other ways to quantize, simulated by torch in float32: inputs
of a weight that share a scale, and numbers of a row of x that do ("row": all). random: relative
difference of the logits of a decoder with random weights, int8 beside float32. tasks: what the
pocket model gets right (see benchmarks/pocket.py). memory: the largest resident memory while a
checkpoint of random weights is opened in int8, above that before, over the bytes that are packed.

Progress goes to stderr; the last line on stdout is one JSON object.
"""

from __future__ import annotations

import argparse

import _path  # noqa: F401 (before all others)

PARTS = ("bits", "groups", "random", "tasks", "memory")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a sample of everything")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    parser.add_argument("--open", nargs=2, help=argparse.SUPPRESS)  # in a process of its own
    return parser


if __name__ == "__main__":  # --help and mistakes, before what follows is loaded: that takes seconds
    _parser().parse_args()

# isort: split
import copy
import json
import math
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from _shared import machine, say
from opening import memory, reset_peak, write_checkpoint

from unified.engine.backends.base import Position
from unified.engine.backends.cpu.config import LlamaCpuConfig, default_inv_freq
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.engine.backends.cpu.stored import to_quantize
from unified.engine.backends.cpu.threads import ThreadPool
from unified.evaluation import pocket
from unified.evaluation.judges import GlyphJudge
from unified.models.model import UnifiedModel
from unified.models.opening import LanguageModel
from unified_data.document import Audio, Document, Image, Text
from unified_data.pocket import tasks
from unified_data.pocket.articles import article_document
from unified_data.pocket.scenes import Scene, render
from unified_data.pocket.subjects import load_subjects

Logits = Callable[[Sequence[Position]], np.ndarray]
"""From the positions of a document to logits float32 (T, V) behind each."""
DTYPES = ("float32", "bfloat16", "int8")
# (inputs of a weight, numbers of a row of x) that share a scale; None: all of them.
GROUPS = ((32, 32), (64, 64), (128, 128), (None, 64), (None, None))
DOCUMENTS = {"draw": 60, "describe": 40, "ask": 15, "speak": 12, "listen": 12, "article": 4}
QUICK = {"draw": 12, "describe": 8, "ask": 4, "speak": 3, "listen": 3, "article": 1}


def document_of(kind: str, payload: Any) -> Document:
    """A document of the pocket world's held-out shards."""
    if kind == "article":
        return article_document(payload)
    if kind == "ask":
        scene, turns = payload
        return tasks.ask_document(Image(render(scene)), turns)
    if kind == "draw":
        return tasks.draw_document(payload.caption, Image(render(payload)))
    if kind == "describe":
        return tasks.describe_document(Image(render(payload)), Text(payload.caption))
    sound: Audio = pocket.true_sound(*payload)
    if kind == "speak":
        return tasks.speak_document(*payload, sound)
    return tasks.listen_document(sound, Text(payload[0]))


class Documents:
    """Held-out documents as positions, and whose first ids count in the loss."""

    def __init__(self, model: UnifiedModel, numbers: dict[str, int]) -> None:
        self.kinds: list[str] = []
        self.positions: list[list[Position]] = []
        self.counted: list[np.ndarray] = []
        rng = np.random.default_rng(0)
        for kind, number in numbers.items():
            planned = pocket.heldout(kind)
            for i in rng.permutation(len(planned))[:number]:
                sequence = model.sequencer.encode(document_of(kind, planned[i]))
                self.kinds.append(kind)
                first = sequence.depth == 0
                self.positions.append(_positions(sequence.ids, first))
                self.counted.append(sequence.loss[first][1:] > 0)
            say(f"documents: {kind} done")

    def compare(self, models: dict[str, Logits]) -> dict[str, dict[str, Any]]:
        """Scores of models by name, document by document; the first is what the others should be.

        bits_per_id, bits_by_kind: cross-entropy. divergence_bits: Kullback-Leibler divergence from
        the first model. same_likeliest: share of ids where both find the same id likeliest.
        """
        bits: dict[str, defaultdict[str, list[float]]] = {n: defaultdict(list) for n in models}
        divergence: defaultdict[str, list[float]] = defaultdict(list)
        same: defaultdict[str, list[bool]] = defaultdict(list)
        for kind, positions, counted in zip(self.kinds, self.positions, self.counted):
            firsts = [each[0] if isinstance(each, tuple) else each for each in positions[1:]]
            targets, exact = np.array(firsts)[counted], None
            for name, logits in models.items():
                rows = torch.from_numpy(logits(positions)[:-1][counted])
                p = rows.log_softmax(-1).numpy()  # (counted ids, V)
                q = exact = p if exact is None else exact
                bits[name][kind] += (-p[np.arange(len(p)), targets] / math.log(2)).tolist()
                divergence[name] += ((np.exp(q) * (q - p)).sum(-1) / math.log(2)).tolist()
                same[name] += (p.argmax(-1) == q.argmax(-1)).tolist()
        return {
            name: {
                "bits_per_id": round(fmean(b for kind in bits[name].values() for b in kind), 5),
                "bits_by_kind": {k: round(fmean(b), 4) for k, b in bits[name].items()},
                "divergence_bits": round(fmean(divergence[name]), 6),
                "same_likeliest": share(same[name]),
                "ids": len(same[name]),
            }
            for name in models
        }


def _positions(ids: np.ndarray, first: np.ndarray) -> list[Position]:
    """Ids by the position that they stand in. first: bool (L,), where one begins."""
    groups = np.split(ids, np.flatnonzero(first)[1:])
    return [tuple(group.tolist()) if len(group) > 1 else int(group[0]) for group in groups]


def logits_of(model: UnifiedModel) -> Logits:
    """Logits (T, V) of a document's positions, by the CPU backend."""
    decoder = model.decoder()
    assert isinstance(decoder, LlamaCpuDecoder)

    def logits(positions: Sequence[Position]) -> np.ndarray:
        cache = decoder.new_cache(1, len(positions))
        states = decoder.forward(cache, [0], [positions])
        return decoder.logits(states, ((0, decoder.vocab_size),))

    return logits


def bits_part(documents: Documents) -> dict[str, Any]:
    results = documents.compare(
        {dtype: logits_of(UnifiedModel.from_pretrained("pocket", dtype=dtype)) for dtype in DTYPES}
    )
    for dtype, score in results.items():
        say(f"bits: {dtype} {score['bits_per_id']}, {score['divergence_bits']} from float32")
    loss = results["int8"]["bits_per_id"] - results["float32"]["bits_per_id"]
    return {"bits": results, "bits_lost_int8": round(loss, 5)}


def rounded(x: torch.Tensor, group: int | None) -> torch.Tensor:
    """Numbers quantized to 8 bits and back, `group` of the last axis with one scale."""
    size = x.shape[-1]
    group = group or size
    blocks = torch.nn.functional.pad(x, (0, -size % group)).unflatten(-1, (-1, group))
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    q = torch.where(scale > 0, (blocks / scale).round(), 0)
    return (q * scale).flatten(-2)[..., :size]


class RoundedLinear(torch.nn.Module):
    """A linear layer whose weights are quantized, and its inputs when it is called."""

    def __init__(self, layer: torch.nn.Linear, weights: int | None, inputs: int | None) -> None:
        super().__init__()
        self.weight, self.bias, self.inputs = rounded(layer.weight, weights), layer.bias, inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(rounded(x, self.inputs), self.weight, self.bias)


@torch.no_grad()
def simulated(hf: Any, weights: int | None, inputs: int | None) -> Any:
    """A copy of a model whose products are quantized in this way."""
    model = copy.deepcopy(hf)
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    for name, layer in layers:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, RoundedLinear(layer, weights, inputs))
    embeddings = model.get_input_embeddings()
    embeddings.weight.copy_(rounded(embeddings.weight, weights))
    return model


def groups_part(documents: Documents) -> dict[str, Any]:
    hf = UnifiedModel.from_pretrained("pocket", dtype="float32").hf

    def logits(model: Any) -> Logits:
        def of(positions: Sequence[Position]) -> np.ndarray:
            with torch.no_grad():
                rows = model(torch.tensor(positions)[None]).logits[0]  # of one id each
            numbers: np.ndarray = rows.numpy()
            return numbers

        return of

    models = {"exact": logits(hf)}
    for weights, inputs in GROUPS:
        name = f"{weights or 'output'}/{inputs or 'row'}"
        models[name] = logits(simulated(hf, weights, inputs))
    scores = documents.compare(models)
    divergence = {name: scores[name]["divergence_bits"] for name in models if name != "exact"}
    say(f"groups: {divergence}")
    return {"divergence_by_groups": divergence}


def random_part() -> dict[str, Any]:
    config = LlamaCpuConfig(
        hidden_size=512, num_layers=8, num_heads=8, num_kv_heads=4, head_dim=64,
        intermediate_size=1536, vocab_size=8192, max_position_embeddings=512, norm_eps=1e-6,
        inv_freq=default_inv_freq(1e4, 64), qk_norm=True, tie_word_embeddings=False,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    weights = {}
    for name, shape in config.shapes().items():
        numbers = rng.standard_normal(shape).astype(np.float32)
        weights[name] = numbers / math.sqrt(shape[-1]) if len(shape) > 1 else np.ones_like(numbers)
    ids = rng.integers(config.vocab_size, size=256).tolist()
    exact, quantized = (
        decoder.logits(decoder.forward(decoder.new_cache(1, 256), [0], [ids]), ((0, 8192),))
        for decoder in (
            LlamaCpuDecoder(config, weights),
            LlamaCpuDecoder(config, to_quantize(weights)),
        )
    )
    difference = round(float(np.linalg.norm(quantized - exact) / np.linalg.norm(exact)), 4)
    say(f"random: {difference}")
    return {"logits_difference_random": difference}


def tasks_part(number: int) -> dict[str, Any]:
    judge = GlyphJudge()
    subjects = list(load_subjects())
    chosen = sorted(np.random.default_rng(0).permutation(len(subjects))[:number])
    drawn = [Scene("one", subjects[i]) for i in chosen]
    described = pocket.heldout("describe")[:number]
    asked = pocket.questions_of_each_kind(max(2, number // 10))
    results: dict[str, Any] = {}
    for dtype in ("bfloat16", "int8"):
        model = UnifiedModel.from_pretrained("pocket", dtype=dtype)
        results[dtype] = {
            "draw": share([d.right for d in pocket.draw(model, judge, drawn)]),
            "describe": share([a.named for a in pocket.describe(model, described)]),
            "ask": share([a.exact for a in pocket.ask(model, asked)]),
        }
        say(f"tasks: {dtype} {results[dtype]}")
    return {"tasks": results}


def share(values: Sequence[bool]) -> float:
    return round(fmean(values), 4)


def open_int8(small: str, large: str) -> dict[str, float]:
    """In this process: the peak of opening a checkpoint, over what is packed."""
    LanguageModel.open(Path(small), dtype="int8")
    before = memory("VmRSS")
    reset_peak()
    decoder: Any = LanguageModel.open(Path(large), dtype="int8").decoder()
    peak = memory("VmHWM") - before
    arrays = [decoder._head, decoder._embedding, *decoder._weights]
    packed = sum(array.nbytes for array in arrays if array is not None)
    return {"peak_mb": round(peak / 1e6, 1), "packed_mb": round(packed / 1e6, 1)}


def memory_part(size: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("small", "large")]
        write_checkpoint(paths[0], "cpu", "bfloat16", 0)
        write_checkpoint(paths[1], "cpu", "bfloat16", size)
        command = [sys.executable, __file__, "--open", *map(str, paths)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(run.stdout.splitlines()[-1])
    over = round(result["peak_mb"] / result["packed_mb"], 3)
    say(f"memory: {result}")
    return {"open_int8": result, "peak_over_packed": over}


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.open:
        print(json.dumps(open_int8(*arguments.open)))
        return
    parts = arguments.only.split(",")
    if unknown := set(parts) - set(PARTS):
        raise SystemExit(f"error: unknown parts {sorted(unknown)}, expected some of {PARTS}")
    results: dict[str, Any] = {}
    if {"bits", "groups"} & set(parts):
        numbers = QUICK if arguments.quick else DOCUMENTS
        pocket_model = UnifiedModel.from_pretrained("pocket")
        if "groups" in parts and pocket_model.grammar.num_together > 1:
            parts.remove("groups")
            say("groups: left out, the pocket model's codes are together")
        documents = Documents(pocket_model, numbers)
        if "bits" in parts:
            results |= bits_part(documents)
        if "groups" in parts:
            results |= groups_part(documents)
    if "random" in parts:
        results |= random_part()
    if "tasks" in parts:
        results |= tasks_part(24 if arguments.quick else len(load_subjects()))
    if "memory" in parts:
        results |= memory_part(1e8 if arguments.quick else 1e9)
    results["machine"] = machine(ThreadPool.shared().threads, ("numba", "transformers"))
    print(json.dumps(results))


if __name__ == "__main__":
    main()

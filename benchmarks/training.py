"""Training beside Hugging Face's Trainer, and the loader beside plain webdataset.

    python benchmarks/training.py [--quick] [--only hand|trainer|memory|loader]

- ratio_over_trainer: useful (not padding) ids a second of ours over Trainer's: the pocket decoder,
  the pocket world's documents by the shares of its recipe, bfloat16, AdamW, two cores, steps of as
  many ids. ratio_compiled: ours with `compile: true` over ours.
- over_hand_loop, memory_over_hand_loop: useful ids a second, and peak memory, of ours over those of
  a plain torch loop over the same packed sequences (`_hand_loop`).
- matrix_rate_share: operations a second of our training over those of a product of two 4096x4096
  matrices in bfloat16, measured in the same run. Attention counts half its square; padding, and
  what is computed twice, count nothing. matrix_rate_shapes: of the decoder's own products.
  step_shares: what a step's time goes into, by torch's profiler.
- ratio_kept_memory: ours over itself where glibc hands freed memory back.
- memory_ratio_168k: peak memory of our process over that of Trainer's with 168,320 rows of
  vocabulary, the same shape otherwise, steps of as many ids.
- packing_fill, loader_ratio (over what the decoder takes in the same run), loader_over_webdataset,
  memory_100k_documents: see `_loading`.

Medians; both sides of a comparison run in turn, each in processes of its own. Progress goes to
stderr, the last line on stdout is one JSON object. The whole takes 15 minutes on two cores, --quick
two.
"""

from __future__ import annotations

import argparse

import _path  # noqa: F401 (before all others)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=("hand", "trainer", "memory", "loader"))
    return parser


if __name__ == "__main__":  # --help and mistakes, before what follows is loaded: that takes seconds
    _parser().parse_args()

# isort: split
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import _loading
import torch
import yaml
from _shared import machine, say

from tokenizers import Tokenizer, models
from unified.models.model import UnifiedModel
from unified.vocabulary.text_tokenizer import TextTokenizer

THREADS = 2
# Kept: coding the built world takes two minutes.
CODES = Path(__file__).parents[1] / "runs" / "benchmark-codes"
ROWS_168K = 168_320


def prepare(
    folder: Path, model: UnifiedModel, only: Sequence[str] = tuple(_loading.SHARES), **run: Any
) -> None:
    """FOLDER/model, the codes of the documents, and FOLDER/run.yaml. only: of these tasks."""
    model.save_pretrained(folder / "model")
    coded, _ = _loading.pocket_sources(CODES)
    entries = {
        "output": str(folder / "run"), "init_from": str(folder / "model"), "steps": 1000,
        "precision": "bfloat16",  # as the other sides, on any machine
        "optimizer": {"lr": 0.0005, "betas": [0.9, 0.999]}, "threads": THREADS,
        "sources": {n: {"shards": list(s.shards), "share": s.share} for n, s in coded.items()
                    if n in only},
        **run,
    }  # fmt: skip
    (folder / "run.yaml").write_text(yaml.safe_dump(entries), "utf-8")


def side(name: str, folder: Path, steps: int) -> dict[str, Any]:
    """What one side did, in a process of its own."""
    script = "_hand_loop.py" if name == "hand" else "_train_side.py"
    arguments = [str(folder), str(steps)] if name == "hand" else [name, str(folder), str(steps)]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(script)), *arguments],
        stdout=subprocess.PIPE, text=True, timeout=1800, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def matrix_rate(m: int, k: int, n: int) -> float:
    """Operations a second of products (m, k) x (k, n) in bfloat16."""
    a, b = torch.randn(m, k).bfloat16(), torch.randn(n, k).bfloat16()
    seconds = []
    for _ in range(12):
        began = time.perf_counter()
        torch.nn.functional.linear(a, b)
        seconds.append(time.perf_counter() - began)
    return 2 * m * k * n / median(seconds[2:])


def in_a_row(model: UnifiedModel) -> UnifiedModel:
    """A decoder of a model's shape that has a position for each code, as every side here trains."""
    if model.grammar.num_together == 1:
        return model
    torch.manual_seed(0)
    return UnifiedModel.create(
        shape_of(model), text_tokenizer=model.text_tokenizer,
        image_tokenizer=model.image_tokenizer, audio_tokenizer=model.audio_tokenizer,
    )  # fmt: skip


def shape_of(model: UnifiedModel) -> dict[str, Any]:
    """The fields of a decoder's configuration that say its shape."""
    names = (
        "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "head_dim", "intermediate_size", "max_position_embeddings", "tie_word_embeddings",
    )  # fmt: skip
    return {name: getattr(model.hf.config, name) for name in names}


def speed(folder: Path, quick: bool, only: str | None) -> dict[str, Any]:
    """The pocket decoder: ours, the hand-tuned loop, and Trainer."""
    pocket = in_a_row(UnifiedModel.from_pretrained("pocket"))
    rows, steps, rounds = (2, 2, 1) if quick else (8, 6, 3)
    prepare(folder, pocket, seq_len=2048, global_batch_size=rows, micro_batch_size=2)
    sides = ["ours"]
    if only in (None, "hand"):
        side("packed", folder, steps)
        settings = {"lr": 0.0005, "rows": rows, "micro": 2, "threads": THREADS}
        (folder / "hand.json").write_text(json.dumps(settings))
        sides.append("hand")
    if only in (None, "trainer"):
        sides.append("trainer")
    if not quick:
        sides.append("ours-compiled")
    rates: dict[str, list[float]] = {name: [] for name in sides}
    peaks: dict[str, list[float]] = {name: [] for name in sides}
    by_processor: dict[str, list[float]] = {name: [] for name in sides if name != "trainer"}
    operations: list[float] = []
    for _ in range(rounds):
        for name, speeds in rates.items():
            done = side(name, folder, steps)
            speeds += done["ids_per_second"]
            peaks[name].append(done["peak_bytes"])
            if name in by_processor:
                by_processor[name] += done["ids_per_cpu_second"]
            if name == "ours":
                operations += done["operations_per_second"]
                shares = done["step_shares"]
    middle = {name: median(speeds) for name, speeds in rates.items()}
    figures = _over(middle, {name: median(values) for name, values in peaks.items()})
    if not quick and only in (None, "trainer"):
        freeing = median(side("ours-freeing", folder, steps)["ids_per_second"])
        figures["ratio_kept_memory"] = middle["ours"] / freeing
    return {
        **figures,
        "ids_per_second": middle,
        "ids_per_cpu_second": {name: median(speeds) for name, speeds in by_processor.items()},
        "peak_bytes": {name: median(values) for name, values in peaks.items()},
        "step_shares": shares,
        **_matrix_rates(median(operations), pocket.hf.config),
    }


def _over(rates: dict[str, float], peaks: dict[str, float]) -> dict[str, float]:
    """Ours over each other side that has run."""
    figures, ours = {}, rates["ours"]
    if "hand" in rates:
        figures["over_hand_loop"] = ours / rates["hand"]
        figures["memory_over_hand_loop"] = peaks["ours"] / peaks["hand"]
    if "trainer" in rates:
        figures["ratio_over_trainer"] = ours / rates["trainer"]
    if "ours-compiled" in rates:
        figures["ratio_compiled"] = rates["ours-compiled"] / ours
    return figures


def _matrix_rates(operations: float, shape: Any) -> dict[str, Any]:
    """What is reached of what this machine multiplies. operations: of training, a second."""
    torch.set_num_threads(THREADS)
    whole = matrix_rate(4096, 4096, 4096)
    width, inner = shape.hidden_size, shape.intermediate_size
    own = [matrix_rate(4096, *pair) for pair in ((width, inner), (inner, width), (width, width))]
    return {
        "matrix_rate_share": operations / whole,
        "gflops": operations / 1e9,
        "matrix_rate_gflops": whole / 1e9,
        "matrix_rate_shapes_gflops": [rate / 1e9 for rate in own],
    }


def large_vocabulary(pocket: UnifiedModel) -> UnifiedModel:
    """The pocket shape, untrained, with 168,320 rows: its text tokenizer has that many more ids,
    which no text becomes, but which are allowed wherever text is."""
    others = pocket.vocabulary.size - pocket.vocabulary.text_size
    trained = json.loads(pocket.text_tokenizer._json)
    entries = trained["model"]["vocab"]
    known = len(entries)
    entries |= {f"\u2400{number}": number for number in range(known, ROWS_168K - others)}
    merges = [tuple(pair) for pair in trained["model"]["merges"]]
    tokenizer = Tokenizer.from_str(json.dumps(trained))
    tokenizer.model = models.BPE(vocab=entries, merges=merges)
    torch.manual_seed(0)
    return UnifiedModel.create(
        shape_of(pocket), text_tokenizer=TextTokenizer(tokenizer),
        image_tokenizer=pocket.image_tokenizer, audio_tokenizer=pocket.audio_tokenizer,
    )  # fmt: skip


def memory(folder: Path, quick: bool) -> dict[str, Any]:
    """The same with 168,320 rows; what matters is the peak."""
    model = large_vocabulary(UnifiedModel.from_pretrained("pocket"))
    assert model.vocabulary.size == ROWS_168K, model.vocabulary.size
    # Trainer's logits of one article alone would take 3 GB: short documents, four or five a pass.
    short = ("draw", "describe", "ask", "name")
    prepare(folder, model, short, seq_len=1024, global_batch_size=2, micro_batch_size=1)
    del model
    figures = {name: side(name, folder, 1 if quick else 3) for name in ("ours", "trainer")}
    peaks = {name: done["peak_bytes"] for name, done in figures.items()}
    return {
        "memory_ratio_168k": peaks["ours"] / peaks["trainer"],
        "peak_gb_168k": {name: peak / 1e9 for name, peak in peaks.items()},
        "ids_per_second_168k": {n: median(done["ids_per_second"]) for n, done in figures.items()},
    }


def loading(quick: bool) -> dict[str, Any]:
    """How full rows are, how fast they come, webdataset beside it, and memory."""
    sources, sequencer = _loading.pocket_sources(CODES)
    beside = _loading.loader_over_webdataset(
        sources, sequencer, 2048, samples=1_000 if quick else 10_000, repeats=3 if quick else 5
    )
    flat = _loading.memory(sources, sequencer, documents=5_000 if quick else 100_000)
    ids = 150_000 if quick else 1_000_000
    return {
        "packing_fill": _loading.packing_fill(sources, sequencer, 2048, 300 if quick else 2_000),
        "loader_ids_per_second": _loading.loader_speed(sources, sequencer, 2048, ids=ids),
        "loader_over_webdataset": beside["ratio"],
        "loader_over_webdataset_arrays": beside["ratio_plain"],
        "samples_per_second": {n: beside[n] for n in ("loader", "webdataset", "webdataset_ids")},
        "memory_100k_documents": flat,
    }


def main() -> None:
    arguments = _parser().parse_args()
    quick, only = arguments.quick, arguments.only
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if only in (None, "hand", "trainer"):
            figures |= speed(folder / "pocket", quick, only)
        if only in (None, "memory"):
            figures |= memory(folder / "large", quick)
        if only in (None, "loader"):
            figures |= loading(quick)
            rate = figures.get("ids_per_second", {}).get("ours")
            if rate:
                figures["loader_ratio"] = figures["loader_ids_per_second"] / rate
    say("done")
    about = machine(THREADS, ["transformers", "accelerate", "webdataset"])
    documents = "world" if (_loading.WORLD / "index.json").is_file() else "sample"
    print(json.dumps({**figures, "documents": documents, "machine": about}))


if __name__ == "__main__":
    main()

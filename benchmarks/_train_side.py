"""One side of the comparison in `training`, in a process of its own: what it does and takes.

    python benchmarks/_train_side.py SIDE FOLDER STEPS

SIDE: ours, ours-compiled, ours-freeing, trainer.

FOLDER has the model in `model` and the run's configuration in run.yaml, whose sources are code
shards. Both sides train the same weights on the same documents, in bfloat16 with AdamW: ours in
packed rows, `Trainer` in batches of as many documents, padded to the longest. The last line is a
JSON object: useful (not padding) ids a second of every step, and the process's peak memory.
"""

from __future__ import annotations

import _path  # noqa: F401 (before all others)

# isort: split
import json
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any

import torch
from _shared import say

from unified.dataloading import validation_sequences
from unified.dataloading.source import leaves
from unified.models.model import UnifiedModel
from unified.training import run as module
from unified.training.config import TrainConfig, load_config
from unified.training.dist import DistContext
from unified.training.micro_batch import MicroBatch
from unified.training.run import Run
from unified_tokenizers.memory import keep_freed_memory

WARM_UP = 2


def operations(decoder: Any, passes: list[MicroBatch]) -> float:
    """Multiplications and additions that training on these ids asks for: products with weights
    three times (forward, and two gradients), attention inside documents, the allowed rows."""
    layers = sum(p.numel() for n, p in decoder.named_parameters() if ".layers." in n and p.ndim > 1)
    config = decoder.config
    width = config.num_attention_heads * config.head_dim * config.num_hidden_layers
    total = 0.0
    for taken in passes:
        total += 6.0 * layers * taken.num_ids
        lengths = (taken.spans[:, 1] - taken.spans[:, 0]).double()
        total += 6.0 * width * float(lengths.square().sum())  # half of the places are future
        for ranges, number in taken.groups:
            rows = sum(stop - start for start, stop in ranges)
            total += 6.0 * number * rows * config.hidden_size if rows > 1 else 0.0
    return total


def ours(config: TrainConfig, steps: int) -> dict[str, Any]:
    """Useful ids, and operations, a second of every step; what a step's time goes into."""
    run = Run(config, DistContext())
    run.open_data(None)
    ids, rates = [], []
    for number in range(WARM_UP + steps):
        began = time.perf_counter()
        passes = step(run)
        seconds = time.perf_counter() - began
        if number >= WARM_UP:
            ids.append(sum(p.num_ids for p in passes) / seconds)
            rates.append(operations(run.model.hf, passes) / seconds)
    return {
        "ids_per_second": ids, "operations_per_second": rates, "step_shares": shares(run),
    }  # fmt: skip


def step(run: Run) -> list[MicroBatch]:
    """One step of the optimizers, as the training loop does it; what it was on."""
    passes = run.take_step()
    run.master_weights.copy_to_model()
    run.gradients(passes, run.weight(passes))
    run.clip()
    run.update()
    run.forget()
    run.step += 1
    return passes


def shares(run: Run) -> dict[str, float]:
    """Shares of a step's time, by torch's profiler: of products, the attention inside documents,
    the loss (both with products of their own), and the rest, which goes element by element."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as found:
        step(run)
    times = {event.key: event for event in found.key_averages()}
    total = sum(event.self_cpu_time_total for event in times.values())
    attention = sum(e.cpu_time_total for key, e in times.items() if "::document_attention" in key)
    loss = times["_AllowedLoss"]
    inside = sum(
        child.cpu_time_total
        for event in found.events()
        if event.name == "_AllowedLoss"
        for child in _below(event)
        if child.name == "aten::mm"
    )
    products = times["aten::mm"].cpu_time_total - inside
    parts = {
        "products": products, "attention": attention, "loss": loss.cpu_time_total,
    }  # fmt: skip
    found_shares = {name: value / total for name, value in parts.items()}
    return {**found_shares, "rest": 1 - sum(found_shares.values())}


def _below(event: Any) -> Iterator[Any]:
    for child in event.cpu_children:
        yield child
        yield from _below(child)


def documents(config: TrainConfig, model: UnifiedModel) -> Iterator[dict[str, list[int]]]:
    """The sources' documents in turn, by their shares, as `Trainer` takes them."""
    read = []
    for name, source in leaves(config.sources):
        found = []
        for row in validation_sequences(source, model.sequencer, config.length, None, name):
            for start, stop in zip(row.starts, row.starts[1:]):
                ids, loss = row.ids[start:stop].tolist(), row.loss[start:stop]
                labels = [id if weight else -100 for id, weight in zip(ids, loss)]
                found.append({"input_ids": ids, "labels": labels})
        read.append((source.share, cycle(found)))
    served = [0.0] * len(read)
    while True:
        at = min(range(len(read)), key=lambda i: served[i] / read[i][0])
        document = next(read[at][1])
        served[at] += len(document["input_ids"])
        yield document


def trainer(config: TrainConfig, steps: int, folder: Path) -> list[float]:
    """Useful ids a second of every step of Hugging Face's `Trainer`."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    model = UnifiedModel.from_pretrained(config.start or "")
    taken = documents(config, model)
    mean = sum(len(d["input_ids"]) for d in islice(documents(config, model), 200)) / 200
    micro_batch_size = max(1, round(config.micro_batch_size * config.length / mean))
    accumulate = config.rows // config.micro_batch_size
    held = list(islice(taken, micro_batch_size * accumulate * (WARM_UP + steps)))
    counts: list[int] = []
    ends: list[float] = []

    def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        counts.append(sum(len(row["input_ids"]) for row in rows))
        longest = max(len(row["input_ids"]) for row in rows)

        def padded(name: str, value: int) -> torch.Tensor:
            return torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in rows])

        mask = [[1] * len(r["input_ids"]) + [0] * (longest - len(r["input_ids"])) for r in rows]
        return {
            "input_ids": padded("input_ids", 0), "labels": padded("labels", -100),
            "attention_mask": torch.tensor(mask),
        }  # fmt: skip

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if not ends:
                ends.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"), use_cpu=True, bf16=True, max_steps=WARM_UP + steps,
        per_device_train_batch_size=micro_batch_size, gradient_accumulation_steps=accumulate,
        learning_rate=config.learning_rate, weight_decay=config.weight_decay, max_grad_norm=1.0,
        save_strategy="no", report_to=[], logging_strategy="no", disable_tqdm=True,
        remove_unused_columns=False, dataloader_num_workers=0,
    )  # fmt: skip
    made = Trainer(
        model=model.hf, args=arguments, train_dataset=held, data_collator=collate,  # type: ignore[arg-type]
        callbacks=[Clock()],
    )  # fmt: skip
    made.train()
    per_step = [
        sum(counts[i : i + accumulate]) for i in range(0, len(counts), accumulate)
    ]  # batches are collated a little ahead, in order
    seconds = [after - before for before, after in pairwise(ends)]
    return [n / s for n, s in zip(per_step, seconds)][WARM_UP:]


def main() -> None:
    side, folder, steps = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    config = load_config(folder / "run.yaml")
    torch.set_num_threads(config.threads)
    if side == "ours-freeing":
        module.keep_freed_memory = lambda: None  # type: ignore[attr-defined]
    else:
        keep_freed_memory()  # for both sides alike
    found: dict[str, Any] = {}
    if side == "trainer":
        found["ids_per_second"] = trainer(config, steps, folder)
    else:
        found = ours(replace(config, compile="compiled" in side), steps)
    found["peak_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    say(f"{side}: {[round(x) for x in found['ids_per_second']]} ids/s")
    print(json.dumps(found))


if __name__ == "__main__":
    main()

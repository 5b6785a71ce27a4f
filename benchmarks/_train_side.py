"""One side of the comparison in `training`, in a process of its own: what it does and takes.

    python benchmarks/_train_side.py SIDE FOLDER STEPS

SIDE: ours, ours-compiled, ours-freeing, trainer; packed writes what `_hand_loop` trains on.

FOLDER has the model in `model` and the run's configuration in run.yaml, whose sources are code
shards. Both sides train the same weights on the same documents, in bfloat16 with AdamW: ours in
packed rows, `Trainer` in batches of as many documents, padded to the longest. The last line is a
JSON object: useful (not padding) ids a second of every step, and the process's peak memory.
"""

from __future__ import annotations

import _path  # noqa: F401 (before all others)

# isort: split
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any

import torch
from _shared import peak_bytes, say
from safetensors.torch import save_file

from unified.dataloading import validation_sequences
from unified.dataloading.source import leaves
from unified.models.model import UnifiedModel
from unified.training import decoder_trainer as module
from unified.training.config import TrainConfig, load_config
from unified.training.decoder_trainer import DecoderTrainer
from unified.training.micro_batch import MicroBatch
from unified_base.training.dist import DistContext
from unified_base.training.memory import keep_freed_memory
from unified_base.training.metric_logger import MetricLogger

WARM_UP = 2


def operations(decoder: Any, micro_batches: list[MicroBatch]) -> float:
    """Multiplications and additions that training on these ids asks for: products with weights
    three times (forward, and two gradients), attention inside documents, the allowed rows."""
    layers = sum(p.numel() for n, p in decoder.named_parameters() if ".layers." in n and p.ndim > 1)
    config = decoder.config
    width = config.num_attention_heads * config.head_dim * config.num_hidden_layers
    total = 0.0
    for micro_batch in micro_batches:
        total += 6.0 * layers * micro_batch.num_ids
        spans = micro_batch.document_spans
        lengths = (spans[:, 1] - spans[:, 0]).double()
        total += 6.0 * width * float(lengths.square().sum())  # half of the positions are future
        for ranges, number in micro_batch.groups:
            rows = sum(stop - start for start, stop in ranges)
            total += 6.0 * number * rows * config.hidden_size if rows > 1 else 0.0
    return total


def ours(config: TrainConfig, steps: int) -> dict[str, Any]:
    """Useful ids, and operations, a second of every step; what a step's time goes into."""
    trainer = DecoderTrainer(
        config, DistContext(), MetricLogger(Path(config.output), "", 0, config.steps, is_main=False)
    )
    trainer.open(None)
    ids, rates = [], []
    for number in range(WARM_UP + steps):
        began = time.perf_counter()
        micro_batches = step(trainer)
        seconds = time.perf_counter() - began
        if number >= WARM_UP:
            ids.append(sum(batch.num_ids for batch in micro_batches) / seconds)
            rates.append(operations(trainer.model.hf, micro_batches) / seconds)
    peak = peak_bytes()  # before the profiler, which takes memory of its own
    return {
        "ids_per_second": ids, "operations_per_second": rates, "peak_bytes": peak,
        "step_shares": shares(trainer),
    }  # fmt: skip


def packed(config: TrainConfig, steps: int, folder: Path) -> None:
    """FOLDER/packed.safetensors: the sequences that `ours` trains on, as plain tensors.

    labels are those that a position predicts, -100 where it has no loss; useful: ids that are not
    padding, of each sequence.
    """
    logger = MetricLogger(Path(config.output), "", 0, config.steps, is_main=False)
    trainer = DecoderTrainer(config, DistContext(), logger)
    trainer.open(None)
    columns: dict[str, list[torch.Tensor]] = {}
    for sequence in islice(trainer._sequences, (WARM_UP + steps) * config.global_batch_size):
        labels = torch.from_numpy(sequence.labels).long()
        labels[torch.from_numpy(sequence.loss_weights) == 0] = -100
        entries = {
            "input_ids": torch.from_numpy(sequence.input_ids).long(),
            "position_ids": torch.from_numpy(sequence.position_ids()).long(),
            "labels": torch.cat([labels[1:], torch.tensor([-100])]),
            "useful": torch.tensor(sequence.num_ids),
        }
        for name, tensor in entries.items():
            columns.setdefault(name, []).append(tensor)
    trainer.close()
    save_file({n: torch.stack(t) for n, t in columns.items()}, folder / "packed.safetensors")


def step(trainer: DecoderTrainer) -> list[MicroBatch]:
    """One step of the optimizers, as the training loop does it; what it was on."""
    micro_batches: list[MicroBatch] = []
    next_batch = trainer.next_batch

    def noted() -> list[MicroBatch]:
        micro_batches.extend(next_batch())
        return micro_batches

    trainer.next_batch = noted  # type: ignore[method-assign]
    try:
        trainer.train_step()
    finally:
        trainer.next_batch = next_batch  # type: ignore[method-assign]
    return micro_batches


def shares(trainer: DecoderTrainer) -> dict[str, float]:
    """Shares of a step's time, by torch's profiler: of products, the attention inside documents,
    the loss (both with products of their own), and the rest, which goes element by element."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        step(trainer)
    times = {event.key: event for event in recorded.key_averages()}
    total = sum(event.self_cpu_time_total for event in times.values())
    attention = sum(e.cpu_time_total for key, e in times.items() if "::document_attention" in key)
    loss = times["_AllowedLoss"]
    inside = sum(
        child.cpu_time_total
        for event in recorded.events()
        if event.name == "_AllowedLoss"
        for child in _below(event)
        if child.name == "aten::mm"
    )
    products = times["aten::mm"].cpu_time_total - inside
    parts = {
        "products": products, "attention": attention, "loss": loss.cpu_time_total,
    }  # fmt: skip
    share_of = {name: value / total for name, value in parts.items()}
    return {**share_of, "rest": 1 - sum(share_of.values())}


def _below(event: Any) -> Iterator[Any]:
    for child in event.cpu_children:
        yield child
        yield from _below(child)


def documents(config: TrainConfig, model: UnifiedModel) -> Iterator[dict[str, list[int]]]:
    """The sources' documents in turn, by their shares, as `Trainer` takes them."""
    read = []
    for name, source in leaves(config.sources):
        tokenized = []
        for row in validation_sequences(source, model.sequencer, config.seq_len, None, name):
            for start, stop in zip(row.starts, row.starts[1:]):
                ids, loss = row.labels[start:stop].tolist(), row.loss_weights[start:stop]
                labels = [id if weight else -100 for id, weight in zip(ids, loss)]
                tokenized.append({"input_ids": ids, "labels": labels})
        read.append((source.share, cycle(tokenized)))
    served = [0.0] * len(read)
    while True:
        at = min(range(len(read)), key=lambda i: served[i] / read[i][0])
        document = next(read[at][1])
        served[at] += len(document["input_ids"])
        yield document


def trainer(config: TrainConfig, steps: int, folder: Path) -> list[float]:
    """Useful ids a second of every step of Hugging Face's `Trainer`."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    model = UnifiedModel.from_pretrained(config.init_from or "")
    stream = documents(config, model)
    mean = sum(len(d["input_ids"]) for d in islice(documents(config, model), 200)) / 200
    micro_batch_size = max(1, round(config.micro_batch_size * config.seq_len / mean))
    accumulate = config.global_batch_size // config.micro_batch_size
    held = list(islice(stream, micro_batch_size * accumulate * (WARM_UP + steps)))
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
        output_dir=str(folder / "trainer"),
        use_cpu=True,
        bf16=True,
        max_steps=WARM_UP + steps,
        per_device_train_batch_size=micro_batch_size,
        gradient_accumulation_steps=accumulate,
        learning_rate=config.optimizer.lr,
        weight_decay=config.optimizer.weight_decay,
        max_grad_norm=1.0,
        save_strategy="no",
        report_to=[],
        logging_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_num_workers=0,
    )
    hf_trainer = Trainer(
        model=model.hf, args=arguments, train_dataset=held, data_collator=collate,
        callbacks=[Clock()],
    )  # fmt: skip
    hf_trainer.train()
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
        module.keep_freed_memory = lambda: None
    else:
        keep_freed_memory()  # for both sides alike
    if side == "packed":
        packed(config, steps, folder)
        print("{}")
        return
    figures: dict[str, Any] = {}
    if side == "trainer":
        figures["ids_per_second"] = trainer(config, steps, folder)
        figures["peak_bytes"] = peak_bytes()
    else:
        figures = ours(replace(config, compile="compiled" in side), steps)
    say(f"{side}: {[round(x) for x in figures['ids_per_second']]} ids/s")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

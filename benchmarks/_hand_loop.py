"""The plain torch loop beside which training is measured, as a good practitioner writes it.

    python benchmarks/_hand_loop.py FOLDER STEPS

The model in FOLDER/model is trained on FOLDER/packed.safetensors, packed sequences that our loader
wrote. Every layer is compiled; bfloat16 autocast; documents are kept apart by torch's own causal
attention for each of them; fused AdamW; gradients clipped; cross-entropy over the whole vocabulary
in compiled chunks, whose logits are computed again for their gradient; glibc keeps freed memory, as
ours lets it. Nothing else of ours is imported. The last line is a JSON object: useful ids a
second of every step, peak bytes.
"""

from __future__ import annotations

import _path  # noqa: F401 (before all others)

# isort: split
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from _shared import peak_bytes, say
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AutoModelForCausalLM

from unified_base.training.memory import keep_freed_memory

CHUNK = 1024  # positions whose logits exist together
WARM_UP = 2


@torch.compiler.disable
def by_documents(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any,
    scaling: float | None = None, documents: Any = None, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """query, key, value (B, H, L, C) -> (B, L, H, C); documents: lengths, of each sequence."""
    rows = []
    for row, lengths in enumerate(documents):
        parts = (x[row : row + 1].split(lengths, 2) for x in (query, key, value))
        attended = [
            F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling)
            for q, k, v in zip(*parts)
        ]
        rows.append(torch.cat(attended, 2))
    return torch.cat(rows).transpose(1, 2).contiguous(), None


@torch.compile(dynamic=True)
def _chunk_loss(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight).float(), labels, reduction="sum")


def loss_of(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """The sum over positions with a label of their cross-entropy."""
    chosen = labels >= 0
    hidden, labels = hidden[chosen], labels[chosen]
    total = hidden.new_zeros((), dtype=torch.float32)
    for part, targets in zip(hidden.split(CHUNK), labels.split(CHUNK)):
        total = total + checkpoint(_chunk_loss, part, weight, targets, use_reentrant=False)
    return total


def steps_of(folder: Path, rows: int, micro: int) -> Iterator[list[dict[str, Tensor]]]:
    """Micro-batches of a step, in the order of the file."""
    packed = load_file(folder / "packed.safetensors")
    for first in range(0, len(packed["input_ids"]), rows):
        yield [
            {name: tensor[at : at + micro] for name, tensor in packed.items()}
            for at in range(first, first + rows, micro)
        ]


def lengths_of(positions: Tensor) -> list[int]:
    """Of the documents of a sequence, whose positions begin anew; padding is documents of one."""
    starts = (positions == 0).nonzero()[:, 0].tolist()
    return [stop - start for start, stop in zip(starts, [*starts[1:], len(positions)])]


def main() -> None:
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    settings = json.loads((folder / "hand.json").read_text())
    torch.set_num_threads(settings["threads"])
    keep_freed_memory()
    AttentionInterface.register("by_documents", by_documents)
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder / "model", dtype=torch.float32, attn_implementation="by_documents"
    )
    model.train()
    for layer in model.model.layers:
        layer.compile()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=settings["lr"], betas=(0.9, 0.999), weight_decay=0.01, fused=True
    )
    rates = []
    batches = steps_of(folder, settings["rows"], settings["micro"])
    for step, batch in zip(range(WARM_UP + steps), batches):
        began = time.perf_counter()
        counted = float(sum((part["labels"] >= 0).sum() for part in batch))
        for part in batch:
            documents = [lengths_of(row) for row in part["position_ids"]]
            with torch.autocast("cpu", torch.bfloat16):
                hidden = model.model(
                    part["input_ids"], position_ids=part["position_ids"], use_cache=False,
                    attention_mask={"full_attention": None}, documents=documents,
                )[0]  # fmt: skip
                loss = loss_of(hidden.flatten(0, 1), model.lm_head.weight, part["labels"].flatten())
            (loss / counted).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - began
        if step >= WARM_UP:
            rates.append(sum(int(part["useful"].sum()) for part in batch) / seconds)
    say(f"hand: {[round(x) for x in rates]} ids/s")
    print(json.dumps({"ids_per_second": rates, "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main()

"""One training loop for both sides of a comparison: batches, schedule, average, rates tried."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from _shared import say
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

RATES = (3e-4, 1e-3, 3e-3)
"""AdamW's peaks that are tried for every side."""
_DECAY = 0.998
_SEARCH = 5  # a rate is tried for a fifth of the steps

Reconstruct = Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]]
"""A model and media to what it makes of them and its quantizer's loss, weighted."""


@dataclass(frozen=True)
class Task:
    """What is learnt, the same for all. batch: media of a step; loss: of (decoded, media)."""

    batch: Callable[[int], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    steps: int
    half: bool
    """Whether in bfloat16 where autocast has it so."""
    aside: Tensor | None = None
    """Training media kept out of all batches, on which a learning rate is chosen."""


@dataclass(frozen=True)
class Trained:
    """model: the averaged weights, in evaluation mode. seconds: of a step, the median."""

    model: nn.Module
    rate: float
    seconds: float


def _average(average: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
    """A short average at first: the first steps' weights are worth forgetting."""
    return torch.lerp(average, new, max(1 - _DECAY, 9 / (int(count) + 10)))


def _scale(step: int, steps: int) -> float:
    """Warm-up over a twentieth of the steps, then a cosine to a fiftieth."""
    warmup = max(1, steps // 20)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def fit(
    make: Callable[[], nn.Module],
    reconstruct: Reconstruct,
    task: Task,
    rate: float,
    seed: int = 0,
    steps: int | None = None,
) -> Trained:
    """Train a new model for `steps`, by default the task's."""
    steps = task.steps if steps is None else steps
    torch.manual_seed(seed)
    model = make().train()
    average = AveragedModel(model, avg_fn=_average)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": 0.01},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=rate,
        betas=(0.9, 0.99),
    )
    times = []
    for step in range(steps):
        media = task.batch(seed * 1_000_003 + step)
        began = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = rate * _scale(step, steps)
        with torch.autocast("cpu", torch.bfloat16, enabled=task.half):
            decoded, loss = reconstruct(model, media)
        (task.loss(decoded.float(), media) + loss.float()).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update_parameters(model)
        times.append(time.perf_counter() - began)
    return Trained(average.module.eval(), rate, median(times))


def fit_best(
    name: str, make: Callable[[], nn.Module], reconstruct: Reconstruct, task: Task
) -> Trained:
    """Train at the one of `RATES` that gets furthest on `task.aside` in a fifth of the steps."""
    losses: dict[float, float] = {}
    for rate in RATES:
        tried = fit(make, reconstruct, task, rate, steps=max(1, task.steps // _SEARCH))
        assert task.aside is not None
        with torch.no_grad():
            decoded, _ = reconstruct(tried.model, task.aside)
            loss = float(task.loss(decoded.float(), task.aside))
        losses[rate] = loss if math.isfinite(loss) else math.inf
        say(f"{name}: at {rate:g} {loss:.4f} after a fifth, {tried.seconds:.2f} s a step")
    best = fit(make, reconstruct, task, min(losses, key=lambda rate: losses[rate]))
    say(f"{name}: trained at {best.rate:g}, {best.seconds:.2f} s a step")
    return best

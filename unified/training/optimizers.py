"""Optimizers, learning-rate schedules, and the optimizers' state by the names of parameters.

Matrices inside the layers may take Muon (arXiv:2502.16982); everything else takes AdamW.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unified.training.checkpoint import Saved

__all__ = [
    "SCHEDULES",
    "load_state",
    "make_optimizers",
    "rate",
    "set_rate",
    "state_tensors",
]

SCHEDULES = ("cosine", "wsd", "constant")


def make_optimizers(
    kind: str,
    parameters: Mapping[str, nn.Parameter],
    learning_rate: float,
    betas: tuple[float, float],
    weight_decay: float,
) -> dict[str, torch.optim.Optimizer]:
    """kind: "adamw", or "muon" for the layers' matrices and AdamW for the rest.

    Only matrices inside layers decay: not norms, biases or rows of embeddings.
    """

    def inside(name: str, parameter: nn.Parameter) -> bool:
        return parameter.ndim >= 2 and (".layers." in name or ".h." in name)

    matrices = {n: p for n, p in parameters.items() if inside(n, p)}
    others = [p for n, p in parameters.items() if n not in matrices]
    flat = [p for p in matrices.values() if p.ndim == 2] if kind == "muon" else []
    decayed = [p for p in matrices.values() if not any(p is other for other in flat)]
    plain = all(type(p) is nn.Parameter for p in parameters.values())
    groups = [
        {"params": group, "weight_decay": decay}
        for group, decay in ((decayed, weight_decay), (others, 0.0))
        if group
    ]
    found: dict[str, torch.optim.Optimizer] = {}
    if flat:
        found["muon"] = torch.optim.Muon(
            flat, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )
    if groups:
        found["adamw"] = torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=plain)
    return found


def rate(
    kind: str, step: int, steps: int, peak: float, warmup: int, cooldown: float, final: float
) -> float:
    """The learning rate of a step (from 0).

    All rise linearly over `warmup` steps to `peak`. Then cosine falls to `final` times the peak at
    the end; constant stays; wsd (arXiv:2404.06395) stays and falls linearly to that over the last
    `cooldown` share of the steps.
    """
    warm = min(1.0, (step + 1) / max(1, warmup))
    if kind == "constant":
        return peak * warm
    if kind == "wsd":
        left = min(1.0, (steps - step) / max(1.0, cooldown * steps))
        return peak * warm * (final + (1 - final) * left)
    done = min(1.0, max(0.0, (step - warmup) / max(1, steps - warmup)))
    return peak * warm * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done)))


def set_rate(optimizers: Mapping[str, torch.optim.Optimizer], value: float) -> None:
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = value


def state_tensors(
    optimizers: Mapping[str, torch.optim.Optimizer], parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """The optimizers' state: NAME/ENTRY -> tensor (counters are float32 of no dimension)."""
    found = {}
    names: dict[Any, str] = {parameter: name for name, parameter in parameters.items()}
    for optimizer in optimizers.values():
        for parameter, entries in optimizer.state.items():
            for entry, value in entries.items():
                found[f"{names[parameter]}/{entry}"] = torch.as_tensor(value)
    return found


def load_state(
    optimizers: Mapping[str, torch.optim.Optimizer],
    parameters: Mapping[str, nn.Parameter],
    saved: Saved,
    prefix: str,
) -> None:
    """Put back what `state_tensors` gave, kept under `prefix` in a checkpoint.

    Raises ValueError for a checkpoint of other parameters.
    """
    by_name: dict[str, list[str]] = {}
    for key in saved.names(prefix):
        name, _, entry = key.rpartition("/")
        by_name.setdefault(name, []).append(entry)
    if odd := sorted(set(by_name) - set(parameters)):  # one that never had a gradient has none
        raise ValueError(
            f"the checkpoint {saved.folder} trains other parameters than the configuration, among"
            f" them {odd[0]}; go on with the settings it was made with"
        )
    names = {parameter: name for name, parameter in parameters.items()}
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                name = names[parameter]
                for entry in by_name.get(name, ()):
                    key = f"{prefix}{name}/{entry}"
                    if saved.shape(key) == tuple(parameter.shape):
                        value = torch.zeros_like(parameter)
                        saved.put(key, value)
                    else:  # a counter
                        value = saved.read(key)
                    optimizer.state[parameter][entry] = value

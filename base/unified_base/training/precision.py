"""Which precision a training run computes in, where its configuration leaves that open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from unified_base.processor import processor_has
from unified_base.training.checkpoint_files import latest_checkpoint, read_state
from unified_base.training.dist import DistContext

__all__ = [
    "autocast",
    "check_same_precision",
    "multiplies_bfloat16",
    "resolve_precision",
]

# A dataclass with `precision`, `device` and `output`, as the configurations of runs are.
Config = TypeVar("Config", bound=Any)

_SLOW = (
    "this machine has no products of bfloat16 numbers, and does with float32 what it computes: many"
    " times as slow as precision float32"
)


def multiplies_bfloat16(device: str) -> bool:
    """Whether a kind of device ("cpu", "cuda") has instructions for products of bfloat16."""
    if device == "cpu":
        return processor_has("avx512bf16")
    return device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def autocast(device: str, precision: str) -> torch.autocast:
    """The context in which a run's products are computed.

    Args:
        device: kind of it, "cpu" or "cuda".
        precision: "bfloat16", "float32", or "auto": what the device is quicker at.
    """
    half = multiplies_bfloat16(device) if precision == "auto" else precision == "bfloat16"
    return torch.autocast(device, torch.bfloat16, enabled=half)


def resolve_precision(config: Config, resume: bool = False) -> tuple[Config, list[str]]:
    """The configuration with bfloat16 or float32 for `precision: auto`, and what the log says.

    A run that goes on keeps the precision it began with, whatever this machine is quick at: only
    so does it go on as if it had never been stopped.

    Args:
        config: a dataclass with `precision`, `device` and `output`.
        resume: whether the run goes on from its last checkpoint.

    Raises:
        ValueError: the last checkpoint is damaged.
    """
    cpu = config.device == "cpu" or not torch.cuda.is_available()
    quick = multiplies_bfloat16("cpu" if cpu else "cuda")
    lines = []
    if config.precision == "auto":
        precision, reason = ("bfloat16", "has") if quick else ("float32", "does not have")
        reason = f"auto: this {'processor' if cpu else 'GPU'} {reason} products of bfloat16 numbers"
        last = latest_checkpoint(Path(config.output) / "checkpoints") if resume else None
        if last is not None:
            saved = read_state(last).get("settings", {}).get("precision")
            if saved in ("bfloat16", "float32"):
                precision, reason = saved, "auto: as the run began"
        config = replace(config, precision=precision)
        lines.append(f"precision {precision} ({reason})")
    if config.precision == "bfloat16" and not quick:
        lines.append(f"precision bfloat16: {_SLOW}")
    return config, lines


def check_same_precision(precision: str, dist: DistContext) -> None:
    """Raises ValueError where the processes of a run, on different machines, would compute in
    different precisions.

    precision: of this process, not "auto".
    """
    precisions = dist.gather(precision)
    if len(set(precisions)) > 1:
        rank = precisions.index("float32")
        raise ValueError(
            f"precision auto is bfloat16 in some processes of this run and float32 in process"
            f" {rank}, whose machine has no products of bfloat16 numbers; give precision: float32"
            " or bfloat16"
        )

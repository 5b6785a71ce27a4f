"""What the values of a training configuration may be."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from unified.dataloading.source import check_names
from unified.formats.grammar import MODALITIES
from unified.sequence.modality import registered_modalities
from unified.training.train_config import TrainConfig
from unified_base.training.settings import SCHEDULES

__all__ = ["check_config"]

_CHOICES: dict[str, tuple[str | None, ...]] = {
    "train": ("full", "new_rows", "lora", "depth", "connector"),
    "features": ("live", "stored"),
    "lora.depth": ("full", "lora"),
    "codes": (None, "depth", "heads"),
    "optimizer.name": ("adamw", "muon"),
    "schedule.name": SCHEDULES,
    "precision": ("auto", "bfloat16", "float32"),
    "parallel": ("data", "fsdp"),
    "device": ("auto", "cpu"),
    "save_dtype": ("bfloat16", "float32"),
    "world": (None, "pocket", "world"),
}
# What numbers may be, by what an error calls it.
_BOUNDS: dict[str, tuple[Callable[[float], bool], tuple[str, ...]]] = {
    "a whole number from 1 on": (
        lambda value: value >= 1 and value == int(value),
        ("steps", "seq_len", "global_batch_size", "micro_batch_size", "streams", "threads",
         "log_every", "save_every", "validate_every", "keep_checkpoints", "validation_documents",
         "text_vocab_size", "max_grid", "lora.rank", "samples.every", "samples.max_ids",
         "preferences.pairs"),
    ),
    "a number above 0": (
        lambda value: 0 < value < math.inf,
        ("optimizer.lr", "optimizer.max_grad_norm", "lora.alpha", "alarms.spike",
         "alarms.output_norm", "preferences.beta"),
    ),
    "0 or more": (
        lambda value: 0 <= value < math.inf,
        ("schedule.warmup_steps", "optimizer.weight_decay", "z_loss", "router_loss", "workers",
         "max_corrupt", "save_minutes", "seed"),
    ),
    "from 0 to 1": (
        lambda value: 0 <= value <= 1, ("schedule.cooldown", "schedule.final_lr_ratio"),
    ),
    "above 0 and at most 1": (lambda value: 0 < value <= 1, ("depth_fraction",)),
    "a number from 0 on and below 1": (lambda value: 0 <= value < 1, ("lora.dropout",)),
    "a decay between 0 and 1": (lambda value: 0 < value < 1, ("ema_decay",)),
}  # fmt: skip
# The most that a number may be: far beyond any run, and less than what would exhaust a machine, or
# its integers, long before the first step.
_MOST: dict[float, tuple[str, ...]] = {
    100: ("optimizer.lr", "optimizer.weight_decay"),
    1024: ("threads", "workers"),
    8192: ("max_grid", "lora.rank"),
    65_536: ("global_batch_size", "micro_batch_size", "streams", "preferences.pairs"),
    1 << 20: ("seq_len", "text_vocab_size", "validation_documents", "keep_checkpoints",
              "samples.max_ids"),
    10**9: ("steps", "schedule.warmup_steps", "log_every", "save_every", "validate_every",
            "samples.every", "max_corrupt", "save_minutes", "z_loss", "router_loss", "lora.alpha",
            "preferences.beta", "alarms.spike", "alarms.output_norm", "optimizer.max_grad_norm"),
    2**32 - 1: ("seed",),
}  # fmt: skip


def check_config(config: TrainConfig) -> None:
    """Raises ValueError for the first value that no run can have."""
    _check_values(config)
    if not all(0 <= beta < 1 for beta in config.optimizer.betas):
        betas = list(config.optimizer.betas)
        raise ValueError(f"optimizer.betas is {betas}, expected from 0 on and below 1")
    for sources in (config.sources, config.validation):
        check_names(sources)
    if not config.sources:
        raise ValueError("sources is empty; name what to train on")
    if config.model is None and config.init_from is None:
        raise ValueError(
            "give a model to begin with in init_from, or the shape of a new one in model"
        )
    if config.global_batch_size % config.micro_batch_size:
        raise ValueError(
            f"global_batch_size {config.global_batch_size} is no multiple of micro_batch_size"
            f" {config.micro_batch_size}; choose another micro_batch_size"
        )
    fresh = set(config.reinit_modalities)
    media = registered_modalities()
    if not fresh <= media.keys() or (fresh and config.init_from is None):
        raise ValueError(
            f"reinit_modalities is {list(config.reinit_modalities)} and init_from"
            f" {config.init_from!r}, expected some of {', '.join(media)}, and a model to"
            " begin with"
        )
    _check_weights(config)
    if unknown := set(config.alarms.stop) - {"nan", "spike", "output_norm"}:
        raise ValueError(f"alarms.stop has {sorted(unknown)}, expected nan, spike or output_norm")


def _check_values(config: TrainConfig) -> None:
    for name, choices in _CHOICES.items():
        if (value := _value(config, name)) not in choices:
            raise ValueError(f"{name} is {value!r}, expected one of {list(choices)}")
    for expected, (holds, names) in _BOUNDS.items():
        for name in names:
            value = _value(config, name)
            if value is not None and not holds(value):
                raise ValueError(f"{name} is {value!r}, expected {expected}")
    for most, names in _MOST.items():
        for name in names:
            value = _value(config, name)
            if value is not None and value > most:
                raise ValueError(f"{name} is {value!r}, expected at most {most:,}")


def _value(config: TrainConfig, name: str) -> Any:
    """An entry by its dotted name; None where its group is not there."""
    value: Any = config
    for part in name.split("."):
        value = None if value is None else getattr(value, part)
    return value


def _check_weights(config: TrainConfig) -> None:
    weights = dict(config.modality_weights)
    if config.preferences is not None:
        _check_preferences(config)
        weights |= config.preferences.modality_weights
    if unknown := set(weights) - set(MODALITIES):
        raise ValueError(f"unknown modalities {sorted(unknown)}, expected {[*MODALITIES]}")
    for modality, of_levels in config.level_weights.items():
        weights |= {f"{modality}, level {level}": w for level, w in enumerate(of_levels)}
    if wrong := sorted(name for name, value in weights.items() if not 0 <= value <= 10**9):
        raise ValueError(
            f"the weight of {wrong[0]} is {weights[wrong[0]]}, expected 0 or more, and at most"
            " 1,000,000,000"
        )


def _check_preferences(config: TrainConfig) -> None:
    """What a run of preferences has no use for."""
    unused = {
        "z_loss": config.z_loss, "router_loss": config.router_loss,
        "modality_weights": config.modality_weights, "lora.dropout": config.lora.dropout,
        "level_weights": config.level_weights, "depth_fraction": config.depth_fraction != 1,
    }  # fmt: skip
    if surplus := [name for name, value in unused.items() if value]:
        raise ValueError(
            f"{surplus[0]} does not go with preferences, whose loss is of whole documents;"
            " leave it out (preferences has modality_weights of its own)"
        )

"""A training run, as its YAML file states it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unified.dataloading import Source
from unified.dataloading.source import check_names
from unified.formats.grammar import MODALITIES
from unified.training.optimizers import SCHEDULES
from unified_base.config import read_config

__all__ = ["Alarms", "Lora", "Preferences", "Samples", "TrainConfig", "load_config"]


@dataclass(frozen=True)
class Lora:
    """rank, alpha, dropout: of the adapters. targets: "all-linear", or names of modules."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"


@dataclass(frozen=True)
class Samples:
    """Documents with slots that are filled now and then and shown in TensorBoard.

    documents: paths of JSON files. texts: prompts, answered by anything. every: steps.
    """

    every: int
    documents: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    max_ids: int = 1024


@dataclass(frozen=True)
class Alarms:
    """When to warn, and whether to stop.

    spike: a loss this many times the median of the last 50 steps. output_norm: an output norm this
    many times the median of the run's first 50 steps after warm-up. stop: of "nan", "spike" and
    "output_norm", those that end the run (after a checkpoint of the last good step).
    """

    spike: float = 2.0
    output_norm: float = 4.0
    stop: tuple[str, ...] = ("nan",)


@dataclass(frozen=True)
class Preferences:
    """Direct preference optimisation (DPO, arXiv:2305.18290).

    beta: how strongly the reference holds. pairs: preference pairs of a step.
    modality_weights: of the log-probabilities, such as {audio: 0} for text and pictures alone.
    """

    beta: float = 0.1
    pairs: int = 8
    modality_weights: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainConfig:
    """One run.

    Attributes:
        output: folder for checkpoints, curves, codes and the finished model.
        sources, heldout: what is trained on and what is only measured; see `unified.dataloading`.
        start: a model to begin with: a folder, `pocket`, or a name on the hub. Without one, a
            decoder with random weights is made of `model`, `text_size`, `format` and tokenizers.
        model: that decoder's shape, in the words of transformers' Qwen3Config.
        image_tokenizer, audio_tokenizer: folders of trained tokenizers; with a start without
            `model`, only if its own are to be replaced.
        fresh: `image`, `audio` or both: their rows begin anew, since their tokenizer's codes are
            not those of `start`.
        text_size: ids of a text tokenizer that is learnt from the sources' text.
        max_grid: largest side of a picture in codes.
        length: places of a row. rows: rows of a step, over all processes. rows_at_once: rows of one
            forward pass; bounds memory, changes nothing else but rounding.
        steps: optimizer steps.
        train: `full`, `new_rows` (those for new ids), or `lora` (adapters and the new rows).
        optimizer: `adamw`, or `muon` for the layers' matrices.
        schedule: `wsd`, `cosine` or `constant`; see `optimizers.rate`. final_rate: share of the
            learning rate that is left at the end.
        modality_weights: factors on the loss of each modality's ids.
        z_loss: weight of the squared log-normaliser. ema: decay of the average that is saved.
        precision: `bfloat16` or `float32`, of the computation; what is trained is float32.
        parallel: `data` or `fsdp`, how several processes share a run.
        compile: fuse what a layer does by torch.compile; needs a C++ compiler on the CPU.
        lanes: streams the data's order is made of; processes must divide them.
        workers: processes that read data, for each training process.
        max_broken: samples that may be skipped before the run stops.
        keep: checkpoints kept. save_every, validate_every, log_every: steps. save_minutes: a
            checkpoint after so many minutes without one; 0: by steps alone.
        heldout_documents: measured of each held-out source.
        store: precision of the finished model's weights.
        wandb: project to log to, if Weights & Biases is installed. push_to_hub: repository.
        shape: of the decoder in `start`, in the words of its config.json, and `old_rows`, those it
            had before it was extended: what `unified plan` works with where `start` is not at hand.
        world: `pocket` puts the list of that world's subjects into the model's folder.
    """

    output: str
    sources: dict[str, Source]
    steps: int
    length: int
    rows: int
    learning_rate: float
    heldout: dict[str, Source] = field(default_factory=dict)
    start: str | None = None
    model: dict[str, Any] | None = None
    image_tokenizer: str | None = None
    audio_tokenizer: str | None = None
    format: str = "pocket"
    fresh: tuple[str, ...] = ()
    text_size: int = 4096
    max_grid: int = 64
    rows_at_once: int = 1
    train: str = "full"
    lora: Lora = field(default_factory=Lora)
    preferences: Preferences | None = None
    optimizer: str = "adamw"
    betas: tuple[float, float] = (0.9, 0.98)
    schedule: str = "wsd"
    warmup: int = 100
    cooldown: float = 0.5
    final_rate: float = 0.0
    weight_decay: float = 0.01
    clip: float = 1.0
    modality_weights: dict[str, float] = field(default_factory=dict)
    z_loss: float = 0.0
    ema: float | None = None
    precision: str = "bfloat16"
    attention: str | None = None
    activation_checkpointing: bool = False
    compile: bool = False
    parallel: str = "data"
    lanes: int = 48
    workers: int = 0
    max_broken: int = 100
    seed: int = 0
    threads: int = 2
    log_every: int = 20
    save_every: int = 200
    save_minutes: float = 10.0
    validate_every: int = 200
    heldout_documents: int = 128
    keep: int = 2
    samples: Samples | None = None
    alarms: Alarms = field(default_factory=Alarms)
    store: str = "bfloat16"
    wandb: str | None = None
    push_to_hub: str | None = None
    shape: dict[str, Any] | None = None
    world: str | None = None


_CHOICES = {
    "train": ("full", "new_rows", "lora"),
    "optimizer": ("adamw", "muon"),
    "schedule": SCHEDULES,
    "precision": ("bfloat16", "float32"),
    "parallel": ("data", "fsdp"),
    "store": ("bfloat16", "float32"),
    "world": (None, "pocket"),
}
# What numbers may be, by what an error calls it.
_BOUNDS: dict[str, tuple[Callable[[float], bool], tuple[str, ...]]] = {
    "a whole number from 1 on": (
        lambda value: value >= 1 and value == int(value),
        ("steps", "length", "rows", "rows_at_once", "lanes", "threads", "log_every", "save_every",
         "validate_every", "keep", "heldout_documents", "text_size", "max_grid", "lora.rank",
         "samples.every", "samples.max_ids", "preferences.pairs"),
    ),
    "a number above 0": (
        lambda value: 0 < value < math.inf,
        ("learning_rate", "clip", "lora.alpha", "alarms.spike", "alarms.output_norm",
         "preferences.beta"),
    ),
    "0 or more": (
        lambda value: 0 <= value < math.inf,
        ("warmup", "weight_decay", "z_loss", "workers", "max_broken", "save_minutes", "seed"),
    ),
    "from 0 to 1": (lambda value: 0 <= value <= 1, ("cooldown", "final_rate")),
    "a number from 0 on and below 1": (lambda value: 0 <= value < 1, ("lora.dropout",)),
    "a decay between 0 and 1": (lambda value: 0 < value < 1, ("ema",)),
}  # fmt: skip
# The most that a number may be: far beyond any run, and less than what would exhaust a machine, or
# its integers, long before the first step.
_MOST: dict[float, tuple[str, ...]] = {
    100: ("learning_rate", "weight_decay"),
    1024: ("threads", "workers"),
    8192: ("max_grid", "lora.rank"),
    65_536: ("rows", "rows_at_once", "lanes", "preferences.pairs"),
    1 << 20: ("length", "text_size", "heldout_documents", "keep", "samples.max_ids"),
    10**9: ("steps", "warmup", "log_every", "save_every", "validate_every", "samples.every",
            "max_broken", "save_minutes", "z_loss", "lora.alpha", "preferences.beta",
            "alarms.spike", "alarms.output_norm", "clip"),
    2**32 - 1: ("seed",),
}  # fmt: skip


def load_config(path: Path, overrides: Iterable[str] = ()) -> TrainConfig:
    """Read a run's file, some of its entries replaced by "key=value" (`config.override`).

    Raises ValueError for unknown, missing or misspelt entries.
    """
    config = read_config(TrainConfig, path, overrides)
    _check(config, str(path))
    return config


def _check(config: TrainConfig, where: str) -> None:
    for name, choices in _CHOICES.items():
        if getattr(config, name) not in choices:
            raise ValueError(
                f"{where}: {name} is {getattr(config, name)!r}, expected one of {list(choices)}"
            )
    for expected, (holds, names) in _BOUNDS.items():
        for name in names:
            value = _number(config, name)
            if value is not None and not holds(value):
                raise ValueError(f"{where}: {name} is {value!r}, expected {expected}")
    for most, names in _MOST.items():
        for name in names:
            value = _number(config, name)
            if value is not None and value > most:
                raise ValueError(f"{where}: {name} is {value!r}, expected at most {most:,}")
    if not all(0 <= beta < 1 for beta in config.betas):
        raise ValueError(f"{where}: betas are {list(config.betas)}, expected from 0 on and below 1")
    for sources in (config.sources, config.heldout):
        try:
            check_names(sources)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    if not config.sources:
        raise ValueError(f"{where}: sources is empty; name what to train on")
    if config.model is None and config.start is None:
        raise ValueError(f"{where}: give a model to start with, or the shape of a new one in model")
    if config.rows % config.rows_at_once:
        raise ValueError(
            f"{where}: {config.rows} rows of a step do not divide into passes of"
            f" {config.rows_at_once}; choose another rows_at_once"
        )
    if not set(config.fresh) <= {"image", "audio"} or (config.fresh and config.start is None):
        raise ValueError(
            f"{where}: fresh is {list(config.fresh)} and start {config.start!r}, expected image,"
            " audio or both, and a model to start with"
        )
    weights = dict(config.modality_weights)
    if config.preferences is not None:
        _check_preferences(config, where)
        weights |= config.preferences.modality_weights
    if unknown := set(weights) - set(MODALITIES):
        raise ValueError(f"{where}: unknown modalities {sorted(unknown)}, expected {[*MODALITIES]}")
    if wrong := sorted(name for name, value in weights.items() if not 0 <= value <= 10**9):
        raise ValueError(f"{where}: the weight of {wrong[0]} is {weights[wrong[0]]}, expected"
                         " 0 or more, and at most 1,000,000,000")  # fmt: skip
    if unknown := set(config.alarms.stop) - {"nan", "spike", "output_norm"}:
        raise ValueError(
            f"{where}: alarms.stop has {sorted(unknown)}, expected nan, spike or output_norm"
        )


def _number(config: TrainConfig, name: str) -> Any:
    """An entry by its dotted name; None where its group is not there."""
    value: Any = config
    for part in name.split("."):
        value = None if value is None else getattr(value, part)
    return value


def _check_preferences(config: TrainConfig, where: str) -> None:
    """What a run of preferences has no use for."""
    surplus = {
        "z_loss": config.z_loss, "modality_weights": config.modality_weights,
        "lora.dropout": config.lora.dropout,
    }  # fmt: skip
    if given := [name for name, value in surplus.items() if value]:
        raise ValueError(
            f"{where}: {given[0]} does not go with preferences, whose loss is of whole documents;"
            " leave it out (preferences has modality_weights of its own)"
        )

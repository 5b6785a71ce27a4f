"""A training run, as its YAML file states it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from unified.training.config_checks import check_config
from unified.training.train_config import (
    RENAMED,
    Alarms,
    Lora,
    OptimizerConfig,
    Preferences,
    SampleLogging,
    TrainConfig,
)
from unified_base.config import read_config

__all__ = [
    "Alarms",
    "Lora",
    "OptimizerConfig",
    "Preferences",
    "SampleLogging",
    "TrainConfig",
    "load_config",
]


def load_config(path: Path, overrides: Iterable[str] = ()) -> TrainConfig:
    """Read a run's file, some of its entries replaced by "key=value" (`config.override`).

    Raises:
        ValueError: unknown, missing, misspelt or outdated entries, or values out of bounds; one
            line that names the file and the entry.
    """
    config = read_config(TrainConfig, path, overrides, RENAMED)
    try:
        check_config(config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return config

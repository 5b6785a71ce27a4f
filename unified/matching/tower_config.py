"""A tower's training run as its YAML file states it.

The string under a field is its documentation: `unified tower train --help-config` and
docs/reference/tower_train.md are made of it. A unit stands in brackets at its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unified_base.config import read_config
from unified_base.training.settings import SCHEDULES
from unified_tokenizers.contrastive import CONTRASTIVE_LOSSES
from unified_tokenizers.training_config import TokenizerOptimizer, TokenizerSchedule

__all__ = ["TowerTraining", "load_config"]

_BOUNDS: dict[str, tuple[float, float]] = {
    "steps": (1, 10**9), "batch_size": (2, 65_536), "limit": (2, 10**9), "size": (8, 4096),
    "vocabulary": (256, 1 << 20), "max_text_ids": (2, 4096), "log_every": (1, 10**9),
    "save_every": (1, 10**9), "validate_every": (1, 10**9), "keep_checkpoints": (1, 1 << 20),
    "threads": (1, 1024), "max_corrupt": (0, 10**9), "save_minutes": (0, 10**9),
    "memory_gb": (0, 65_536), "distortion": (0, 10), "seed": (0, 2**32 - 1),
}  # fmt: skip


@dataclass(frozen=True)
class TowerTraining:
    """One training run of a tower."""

    output: str
    """Folder for checkpoints, curves and the finished tower."""
    data: tuple[str, ...]
    """Shards or folders to train on: pictures with a text beside each; a `*` in the last part of a
    path is expanded."""
    validation: tuple[str, ...]
    """Shards or folders that are only measured."""
    steps: int
    """Optimizer steps of the run. [steps]"""
    batch_size: int
    """Pairs of an optimizer step, over all processes: each is told from all the others. [pairs]"""
    optimizer: TokenizerOptimizer
    """The optimizer; `lr` must be given."""
    tower: dict[str, Any] | None = None
    """Entries of the config.json of a transformers model: `model_type` is `clip`, `siglip` or
    `vision-text-dual-encoder` (any vision model beside any text model), with `vision_config` and
    `text_config`. What follows from `size` and the text tokenizer is filled in."""
    init_from: str | None = None
    """Folder of a tower to go on from, ours or a published one, in the place of `tower`."""
    loss: str = "softmax"
    """`softmax` (InfoNCE, arXiv:2103.00020) or `sigmoid` (SigLIP, arXiv:2303.15343)."""
    size: int = 64
    """Side of the pictures that the tower sees: the shorter side is scaled to it, the middle
    square is seen. Of a tower of `init_from` its own. [pixels]"""
    pattern: str | None = None
    """A regular expression that finds the text in what stands beside a picture: its first group, or
    all that it matches. A picture without a text is left out, and counted."""
    vocabulary: int = 4096
    """Ids of the byte-level text tokenizer that is learnt from the texts, at most. [ids]"""
    text_tokenizer: str | None = None
    """Folder or tokenizer.json of a byte-level text tokenizer, in the place of one learnt here."""
    max_text_ids: int = 64
    """Positions of the text tower. A longer text is cut, and counted. [ids]"""
    distortion: float = 0.0
    """Training pictures are turned, stretched, moved, bent and mixed in colour at random, anew each
    time they are seen; 1: by up to 15 degrees, 12%, a twentieth of a side, and about 9%."""
    schedule: TokenizerSchedule = field(default_factory=TokenizerSchedule)
    """The learning rate over the run."""
    seed: int = 0
    """Of weights and order."""
    limit: int = 1_000_000
    """Pictures to train on: the first of `data`. [pictures]"""
    log_every: int = 50
    """How often figures are logged. [steps]"""
    validate_every: int = 500
    """How often `validation` is measured. [steps]"""
    save_every: int = 500
    """How often a checkpoint is written. [steps]"""
    save_minutes: float = 10.0
    """A checkpoint after so many minutes without one; 0: by steps alone. [minutes]"""
    keep_checkpoints: int = 2
    """The last checkpoints that stay."""
    max_corrupt: int = 100
    """Corrupt pictures that are skipped and counted before the run ends; of `data` and of
    `validation` each."""
    memory_gb: float = 4.0
    """For decoded pictures; those beyond are decoded anew each time they are used. [GB]"""
    device: str = "auto"
    """`auto`: an accelerator where there is one; `cpu`."""
    precision: str = "auto"
    """`auto`: bfloat16 where the device has products of such numbers, else `float32`; `bfloat16`.
    Weights are float32."""
    threads: int = 1
    """CPU threads of a training process."""

    def __post_init__(self) -> None:
        if (self.tower is None) == (self.init_from is None):
            raise ValueError("expected either tower or init_from")
        if self.loss not in CONTRASTIVE_LOSSES:
            names = ", ".join(CONTRASTIVE_LOSSES)
            raise ValueError(f"loss is {self.loss!r}, expected one of {names}")
        if self.optimizer.name not in ("adamw", "muon"):
            raise ValueError(f"optimizer.name is {self.optimizer.name!r}, expected adamw or muon")
        if self.schedule.name not in SCHEDULES:
            raise ValueError(
                f"schedule.name is {self.schedule.name!r}, expected one of {list(SCHEDULES)}"
            )
        if self.device not in ("auto", "cpu"):
            raise ValueError(f"device is {self.device!r}, expected 'auto' or 'cpu'")
        if self.precision not in ("auto", "bfloat16", "float32"):
            raise ValueError(
                f"precision is {self.precision!r}, expected 'auto', 'bfloat16' or 'float32'"
            )
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"{name} is {value}, expected {least:,} to {most:,}")
        if not 0 < self.optimizer.lr <= 100:
            raise ValueError(f"optimizer.lr is {self.optimizer.lr}, expected more than 0")
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"pattern {self.pattern!r}: {error}") from None


def load_config(path: Path, overrides: Iterable[str] = ()) -> TowerTraining:
    """Read a run's file, some of its entries replaced by "key=value" (`config.override`).

    Raises:
        ValueError: unknown, missing or misspelt entries, or values out of bounds; one line that
            names the file and the entry.
    """
    return read_config(TowerTraining, path, overrides)

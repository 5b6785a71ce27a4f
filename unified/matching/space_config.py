"""The training run of a space's branches as its YAML file states it.

The string under a field is its documentation: docs/reference/space_train.md is made of it. A unit
stands in brackets at its end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unified_base.config import read_config
from unified_base.training.settings import SCHEDULES
from unified_tokenizers.contrastive import CONTRASTIVE_LOSSES
from unified_tokenizers.training_config import TokenizerOptimizer, TokenizerSchedule

__all__ = ["SpaceTraining", "load_space_config"]

_BOUNDS: dict[str, tuple[float, float]] = {
    "steps": (1, 10**9), "batch_size": (2, 65_536), "limit": (2, 10**9), "log_every": (1, 10**9),
    "save_every": (1, 10**9), "validate_every": (1, 10**9), "keep_checkpoints": (1, 1 << 20),
    "threads": (1, 1024), "save_minutes": (0, 10**9), "seed": (0, 2**32 - 1),
}  # fmt: skip


@dataclass(frozen=True)
class SpaceTraining:
    """One training run of the branches of a space. The tower stays what it is."""

    output: str
    """Folder for checkpoints, curves and the finished space."""
    init_from: str
    """Folder of the tower that the branches are held to: ours, or a published CLIP or SigLIP."""
    branches: dict[str, dict[str, Any]]
    """By modality: `audio` (entries of the config.json of transformers' ASTModel) or `points`
    (points, channels, groups, neighbours, width, depth, heads)."""
    data: tuple[str, ...]
    """Folders of shards to train on: documents with a sound or a point cloud, and a picture, a
    text, or both that belong to it."""
    validation: tuple[str, ...]
    """Folders of shards that are only measured."""
    steps: int
    """Optimizer steps of the run. [steps]"""
    batch_size: int
    """Media of each branch in an optimizer step: each is told from all the others. [media]"""
    optimizer: TokenizerOptimizer
    """The optimizer; `lr` must be given."""
    anchors: tuple[str, ...] = ("image", "text")
    """What media are held to: `image` (ImageBind), `text`, or both (ULIP), where a document has
    it."""
    loss: str = "softmax"
    """`softmax` (InfoNCE, arXiv:2103.00020) or `sigmoid` (SigLIP, arXiv:2303.15343)."""
    schedule: TokenizerSchedule = field(default_factory=TokenizerSchedule)
    """The learning rate over the run."""
    seed: int = 0
    """Of weights and order."""
    limit: int = 100_000
    """Media of each branch to train on, the first of `data`; they stay in memory. [media]"""
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
    device: str = "auto"
    """`auto`: an accelerator where there is one; `cpu`."""
    precision: str = "auto"
    """`auto`: bfloat16 where the device has products of such numbers, else `float32`; `bfloat16`.
    Weights are float32."""
    threads: int = 1
    """CPU threads of a training process."""

    def __post_init__(self) -> None:
        if not self.branches:
            raise ValueError("branches is empty, expected audio, points or both")
        if not self.anchors or not {*self.anchors} <= {"image", "text"}:
            raise ValueError(f"anchors is {list(self.anchors)}, expected image, text or both")
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


def load_space_config(path: Path, overrides: Iterable[str] = ()) -> SpaceTraining:
    """Read a run's file, some of its entries replaced by "key=value" (`config.override`).

    Raises:
        ValueError: unknown, missing or misspelt entries, or values out of bounds; one line that
            names the file and the entry.
    """
    return read_config(SpaceTraining, path, overrides)

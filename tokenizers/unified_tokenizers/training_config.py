"""A tokenizer's training run as its YAML file states it.

The string under a field is its documentation: `unified tokenizer train --help-config` and
docs/reference/tokenizer_train.md are made of it. A unit stands in brackets at its end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unified_base.config import read_config
from unified_base.text import quoted
from unified_base.training.settings import SCHEDULES, AdamWConfig, ScheduleConfig
from unified_tokenizers.alignment import AlignmentSettings
from unified_tokenizers.discriminators import AdversarySettings
from unified_tokenizers.losses import check_losses
from unified_tokenizers.picture_fit import FITS

__all__ = [
    "RENAMED",
    "TokenizerOptimizer",
    "TokenizerSchedule",
    "TokenizerTraining",
    "load_config",
]

_MAX_SIDE = 8192
# What numbers may be, both ends included. The most is far beyond any run, and less than what would
# exhaust a machine, or its integers, long before the first step.
_BOUNDS: dict[str, tuple[float, float]] = {
    "steps": (1, 10**9), "batch_size": (1, 65_536), "limit": (1, 10**9), "crop": (1, 65_536),
    "log_every": (1, 10**9), "save_every": (1, 10**9), "validate_every": (1, 10**9),
    "keep_checkpoints": (1, 1 << 20), "threads": (1, 1024), "max_corrupt": (0, 10**9),
    "save_minutes": (0, 10**9), "memory_gb": (0, 65_536), "schedule.warmup_steps": (0, 10**9),
    "schedule.cooldown": (0, 1), "schedule.final_lr_ratio": (0, 1), "optimizer.lr": (0, 100),
    "optimizer.weight_decay": (0, 100), "ema_decay": (0, 1), "cycle": (0, 10**9),
    "optimizer.max_grad_norm": (0, 10**9), "seed": (0, 2**32 - 1),
}  # fmt: skip
_ABOVE_ZERO = ("optimizer.lr", "optimizer.max_grad_norm")


@dataclass(frozen=True, kw_only=True)
class TokenizerOptimizer(AdamWConfig):
    """The optimizer and gradient clipping."""

    name: str = "adamw"
    """`adamw`, or `muon` (arXiv:2502.16982) for the weights of linear layers and AdamW for the
    rest."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decays of AdamW's moving averages of the gradient and of its square."""


@dataclass(frozen=True, kw_only=True)
class TokenizerSchedule(ScheduleConfig):
    """The learning rate over the run, as a share of its peak."""

    name: str = "cosine"
    """`cosine`, `wsd` (warm-up, stable, decay: arXiv:2404.06395) or `constant`."""
    warmup_steps: int = 200
    """The learning rate rises linearly over so many optimizer steps. [steps]"""
    final_lr_ratio: float = 0.02
    """Share of the peak that is left at the end, of `cosine` and `wsd`."""


@dataclass(frozen=True)
class TokenizerTraining:
    """One training run of a tokenizer."""

    modality: str
    """`image`, `audio` or `video`."""
    output: str
    """Folder for checkpoints, curves and the finished tokenizer."""
    data: tuple[str, ...]
    """Shards or folders to train on; a `*` in the last part of a path is expanded."""
    validation: tuple[str, ...]
    """Shards or folders that are only measured."""
    steps: int
    """Optimizer steps of the run. [steps]"""
    batch_size: int
    """Of an optimizer step, over all processes. [pictures, or crops of sound or of videos]"""
    optimizer: TokenizerOptimizer
    """The optimizer; `lr` must be given."""
    tokenizer: dict[str, Any] | None = None
    """Settings of the tokenizer's shape; see `ImageTokenizerConfig`, `AudioTokenizerConfig` and
    `VideoTokenizerConfig`."""
    diffusion: dict[str, Any] | None = None
    """Settings of a diffusion decoder, which is trained instead of a tokenizer, for the codes of
    the image tokenizer in `init_from`; see `diffusion.DiffusionConfig`."""
    schedule: TokenizerSchedule = field(default_factory=TokenizerSchedule)
    """The learning rate over the run."""
    ema_decay: float = 0.998
    """Decay per step of the moving average of the weights, which is what is saved."""
    seed: int = 0
    """Of weights, order and all that is drawn."""
    limit: int = 40_000
    """How much is trained on: the first of `data`. [pictures or videos, or seconds of
    sound]"""
    crop: int = 32
    """Length of the crops of sound and of videos; a shorter recording is followed by silence, a
    shorter video by copies of its last frame, and counted. [code frames]"""
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
    fit: str = "crop"
    """How pictures of any size become those of a batch. `crop`: a window of `size` pixels at the
    picture's own scale. `resize`: the shorter side is scaled to `size` first. `bucket`: each
    picture gets the nearest of seven shapes, from 1:2 to 2:1, of about the area of `size`, and a
    batch is of one shape. What is smaller is scaled up; windows are drawn anew each time, of
    validation pictures they are in the middle."""
    size: int | tuple[int, int] | None = None
    """A side, or [height, width], multiples of the tokenizer's stride. Empty: pictures that all
    have one size, of at most 512 pixels a side, are used whole, others as for 256. [pixels]"""
    max_corrupt: int = 100
    """Corrupt media that are skipped and counted before the run ends; of `data` and of `validation`
    each."""
    memory_gb: float = 4.0
    """For decoded pictures; those beyond are decoded anew each time they are used. [GB]"""
    precision: str = "auto"
    """`bfloat16` or `float32`, of the computation; the trained weights are float32. `auto`:
    bfloat16 where the processor or the GPU has products of such numbers, else float32, many times
    as fast there; a resumed run keeps what it began with."""
    save_dtype: str = "bfloat16"
    """`float32` or `bfloat16`, of the finished tokenizer's weights."""
    device: str = "auto"
    """`auto`: an accelerator where there is one; `cpu`."""
    threads: int = 1
    """CPU threads of a training process."""
    init_from: str | None = None
    """Folder of a tokenizer of the same shape whose weights to begin with."""
    freeze_encoder: bool = False
    """Train what decodes alone: codes stay what they were, and so does all that a language model
    has learnt about them."""
    cycle: float = 0.0
    """Weight of the difference between the encoder's features of what is decoded and of the
    original: a tokenizer should hear its own output as it heard the original."""
    losses: dict[str, float] | None = None
    """Weights of the losses of reconstruction by name, instead of the default ones (see
    `unified_tokenizers.losses`)."""
    alignment: dict[str, Any] | None = None
    """Holds the encoder and its first codebooks to the text beside each medium, see
    `alignment.AlignmentSettings`; empty: none."""
    adversary: dict[str, Any] | None = None
    """A discriminator that joins in, see `discriminators.AdversarySettings`; empty: none."""

    def __post_init__(self) -> None:
        if self.modality not in ("image", "audio", "video"):
            raise ValueError(f"modality is {self.modality!r}, expected 'image', 'audio' or 'video'")
        if self.optimizer.name not in ("adamw", "muon"):
            raise ValueError(
                f"optimizer.name is {quoted(self.optimizer.name)}, expected 'adamw' or 'muon'"
            )
        if self.precision not in ("auto", "bfloat16", "float32"):
            raise ValueError(
                f"precision is {self.precision!r}, expected 'auto', 'bfloat16' or 'float32'"
            )
        if self.save_dtype not in ("float32", "bfloat16"):
            raise ValueError(f"save_dtype is {self.save_dtype!r}, expected 'float32' or 'bfloat16'")
        if self.schedule.name not in SCHEDULES:
            raise ValueError(
                f"schedule.name is {self.schedule.name!r}, expected one of {list(SCHEDULES)}"
            )
        if self.device not in ("auto", "cpu"):
            raise ValueError(f"device is {self.device!r}, expected 'auto' or 'cpu'")
        if self.fit not in FITS:
            raise ValueError(f"fit is {self.fit!r}, expected one of {', '.join(FITS)}")
        sides = self.size if isinstance(self.size, tuple) else (self.size,)
        if not all(side is None or 1 <= side <= _MAX_SIDE for side in sides):
            raise ValueError(f"size is {self.size!r}, expected 1 to {_MAX_SIDE} pixels a side")
        if not all(0 <= beta < 1 for beta in self.optimizer.betas):
            betas = list(self.optimizer.betas)
            raise ValueError(f"optimizer.betas is {betas}, expected from 0 on and below 1")
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name, (least, most) in _BOUNDS.items():
            group, _, last = name.rpartition(".")
            value = getattr(getattr(self, group) if group else self, last)
            if not value >= least:
                expected = "0 or more" if least == 0 else f"at least {least:,}"
                raise ValueError(f"{name} is {value}, expected {expected}")
            if not value <= most:
                raise ValueError(f"{name} is {value}, expected at most {most:,}")
            if value == 0 and name in _ABOVE_ZERO:
                raise ValueError(f"{name} is 0, expected a number above 0")


RENAMED = {
    "clip": "optimizer.max_grad_norm",
    "ema": "ema_decay",
    "heldout": "validation",
    "learning_rate": "optimizer.lr",
    "max_broken": "max_corrupt",
    "start": "init_from",
    "store": "save_dtype",
    "warmup": "schedule.warmup_steps",
    "weight_decay": "optimizer.weight_decay",
}
"""Keys as they were called before 0.2, and as they are called now."""


def load_config(path: Path, overrides: Iterable[str] = ()) -> TokenizerTraining:
    """Read a run's file, some of its entries replaced by "key=value" (`config.override`).

    Raises:
        ValueError: unknown, missing, misspelt or outdated entries, or values out of bounds; one
            line that names the file and the entry.
    """
    config = read_config(TokenizerTraining, path, overrides, RENAMED)
    shapes = [shape for shape in (config.tokenizer, config.diffusion) if shape is not None]
    if len(shapes) != 1 or not isinstance(shapes[0], dict):
        raise ValueError(
            f"{path}: tokenizer is {config.tokenizer!r} and diffusion {config.diffusion!r},"
            " expected one of them, a mapping of its settings"
        )
    if config.diffusion is not None:
        _check_diffusion(config, path)
    try:
        if config.losses is not None:
            check_losses(dict(config.losses), config.modality)
        if config.adversary is not None:
            AdversarySettings.parse(config.adversary)
        if config.alignment is not None:
            AlignmentSettings.parse(config.alignment)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    return config


def _check_diffusion(config: TokenizerTraining, path: Path) -> None:
    """Raises ValueError for what a diffusion decoder's training has no use for, or lacks."""
    if config.modality != "image" or config.init_from is None:
        raise ValueError(
            f"{path}: a diffusion decoder is for the image tokenizer in 'init_from'; modality is"
            f" {config.modality!r}, init_from {config.init_from!r}"
        )
    names = ("losses", "adversary", "alignment", "cycle", "freeze_encoder")
    no_use = [name for name in names if getattr(config, name)]
    if no_use:
        raise ValueError(f"{path}: a diffusion decoder's training has no use for {no_use}")

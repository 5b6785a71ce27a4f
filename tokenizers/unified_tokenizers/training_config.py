"""A tokenizer's training run as its YAML file states it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unified_base.config import read_config
from unified_tokenizers.discriminators import AdversarySettings
from unified_tokenizers.losses import check_losses
from unified_tokenizers.picture_fit import FITS

__all__ = ["TokenizerTraining", "load_config"]

_MAX_SIDE = 8192
# What numbers may be, both ends included. The most is far beyond any run, and less than what would
# exhaust a machine, or its integers, long before the first step.
_BOUNDS: dict[str, tuple[float, float]] = {
    "steps": (1, 10**9), "batch_size": (1, 65_536), "limit": (1, 10**9), "crop": (1, 65_536),
    "log_every": (1, 10**9), "save_every": (1, 10**9), "threads": (1, 1024),
    "max_broken": (0, 10**9), "save_minutes": (0, 10**9), "memory_gb": (0, 65_536),
    "warmup": (0, 10**9), "learning_rate": (0, 100), "weight_decay": (0, 100), "ema": (0, 1),
    "clip": (0, 10**9), "cycle": (0, 10**9), "seed": (0, 2**32 - 1),
}  # fmt: skip


@dataclass(frozen=True)
class TokenizerTraining:
    """One training run, as its YAML file states it.

    Attributes:
        modality: `image` or `audio`.
        output: folder for checkpoints, curves and the finished tokenizer.
        data, heldout: shards or folders; a `*` in the last part of a path is expanded.
        tokenizer: settings of the tokenizer's shape.
        diffusion: settings of a diffusion decoder, which is trained instead of a tokenizer for the
            codes of the image tokenizer in `start`; see `diffusion.DiffusionConfig`.
        steps, batch_size: optimizer steps; pictures, or crops of sound, in each.
        learning_rate: AdamW's peak; warmed up over `warmup` steps, then a cosine to a fiftieth.
        ema: decay of the average of weights.
        limit: how many pictures, or seconds of sound, are trained on: the first that are found.
        fit: pictures of any size become those of a batch. `crop`: a window of `size` pixels at the
            picture's own scale. `resize`: the shorter side is scaled to `size` first. `bucket`:
            each picture gets the nearest of seven shapes, from 1:2 to 2:1, of about the area of
            `size`, and a batch is of one shape. What is smaller is scaled up; windows are drawn
            anew each time, of held-out pictures they are in the middle.
        size: pixels a side, or [height, width]; multiples of the tokenizer's stride. None: pictures
            that all have one size, of at most 512 pixels a side, are taken whole, others as for
            256.
        max_broken: media that may be broken, and are skipped and counted, before the run ends; of
            `data` and of `heldout` each.
        memory_gb: of decoded pictures; those beyond are decoded anew each time they are used.
        crop: length in code frames of the crops of sound. A recording that is shorter is followed
            by silence; how many are is said.
        save_every: steps; then held-out media are measured, too. save_minutes: a checkpoint after
            so many minutes without one; 0: by steps alone.
        store: dtype of the saved weights, `float32` or `bfloat16`.
        start: folder of a tokenizer of the same shape whose weights to begin with.
        freeze_encoder: train what decodes alone: codes stay what they were, and so does all that
            a language model has learnt about them.
        cycle: weight of the difference between the encoder's features of what is decoded and of
            the original: a tokenizer should hear its own output as it heard the original.
        losses: weights of the losses of reconstruction by name, instead of the default ones (see
            `unified_tokenizers.losses`).
        adversary: a discriminator that joins in, see `discriminators.AdversarySettings`; or none.
    """

    modality: str
    output: str
    data: tuple[str, ...]
    heldout: tuple[str, ...]
    steps: int
    batch_size: int
    learning_rate: float
    tokenizer: dict[str, Any] | None = None
    diffusion: dict[str, Any] | None = None
    warmup: int = 200
    weight_decay: float = 0.01
    ema: float = 0.998
    clip: float = 1.0
    seed: int = 0
    limit: int = 40_000
    crop: int = 32
    log_every: int = 50
    save_every: int = 500
    save_minutes: float = 10.0
    fit: str = "crop"
    size: int | tuple[int, int] | None = None
    max_broken: int = 100
    memory_gb: float = 4.0
    store: str = "bfloat16"
    threads: int = 1
    start: str | None = None
    freeze_encoder: bool = False
    cycle: float = 0.0
    losses: dict[str, float] | None = None
    adversary: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise ValueError(f"fit is {self.fit!r}, expected one of {', '.join(FITS)}")
        sides = self.size if isinstance(self.size, tuple) else (self.size,)
        if not all(side is None or 1 <= side <= _MAX_SIDE for side in sides):
            raise ValueError(f"size is {self.size!r}, expected 1 to {_MAX_SIDE} pixels a side")
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if not value >= least:
                expected = "0 or more" if least == 0 else f"at least {least:,}"
                raise ValueError(f"{name} is {value}, expected {expected}")
            if not value <= most:
                raise ValueError(f"{name} is {value}, expected at most {most:,}")
        for name in ("learning_rate", "clip"):
            if getattr(self, name) == 0:
                raise ValueError(f"{name} is 0, expected a number above 0")


def load_config(path: Path, overrides: Iterable[str] = ()) -> TokenizerTraining:
    """Read a run's file, some of its entries replaced by "key=value" (`config.override`).

    Raises ValueError for unknown, missing or misspelt entries.
    """
    config = read_config(TokenizerTraining, path, overrides)
    given = [what for what in (config.tokenizer, config.diffusion) if what is not None]
    if len(given) != 1 or not isinstance(given[0], dict):
        raise ValueError(
            f"{path}: tokenizer is {config.tokenizer!r} and diffusion {config.diffusion!r},"
            " expected one of them, a mapping of its settings"
        )
    if config.diffusion is not None:
        _check_diffusion(config, path)
    if config.modality not in ("image", "audio"):
        raise ValueError(f"{path}: modality {config.modality!r}, expected 'image' or 'audio'")
    if config.store not in ("float32", "bfloat16"):
        raise ValueError(f"{path}: store {config.store!r}, expected 'float32' or 'bfloat16'")
    try:
        if config.losses is not None:
            check_losses(dict(config.losses), config.modality)
        if config.adversary is not None:
            AdversarySettings.parse(config.adversary)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    return config


def _check_diffusion(config: TokenizerTraining, path: Path) -> None:
    """Raises ValueError for what a diffusion decoder's training has no use for, or lacks."""
    if config.modality != "image" or config.start is None:
        raise ValueError(
            f"{path}: a diffusion decoder is for the image tokenizer in 'start'; modality is"
            f" {config.modality!r}, start {config.start!r}"
        )
    no_use = [n for n in ("losses", "adversary", "cycle", "freeze_encoder") if getattr(config, n)]
    if no_use:
        raise ValueError(f"{path}: a diffusion decoder's training has no use for {no_use}")

"""Groups of a run's configuration that training decoders and training tokenizers share."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SCHEDULES", "AdamWConfig", "ScheduleConfig"]

SCHEDULES = ("cosine", "wsd", "constant")


@dataclass(frozen=True, kw_only=True)
class AdamWConfig:
    """AdamW and gradient clipping."""

    lr: float
    """Peak learning rate, after warm-up."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Decays of AdamW's moving averages of the gradient and of its square."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices; norms and biases do not decay."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm where theirs is larger."""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate over the run, as a share of its peak; see `schedule.lr_ratio`."""

    name: str = "wsd"
    """`wsd` (warm-up, stable, decay: arXiv:2404.06395), `cosine` or `constant`."""
    warmup_steps: int = 100
    """The learning rate rises linearly over so many optimizer steps. [steps]"""
    cooldown: float = 0.5
    """Of `wsd`: the share of the run's steps over which the rate falls at its end."""
    final_lr_ratio: float = 0.0
    """Share of the peak that is left at the end, of `wsd` and `cosine`."""

"""The learning-rate schedule."""

from __future__ import annotations

import math

from unified_base.training.settings import ScheduleConfig

__all__ = ["lr_ratio"]


def lr_ratio(schedule: ScheduleConfig, step: int, steps: int) -> float:
    """The learning rate of a step, as a share of its peak: 0 to 1.

    All rise linearly over `warmup_steps`. Then cosine falls to `final_lr_ratio` at the end;
    constant stays; wsd (arXiv:2404.06395) stays and falls linearly over the last `cooldown` share
    of the steps.

    Args:
        schedule: its settings.
        step: from 0.
        steps: of the whole run.
    """
    warmup, final = schedule.warmup_steps, schedule.final_lr_ratio
    warm = min(1.0, (step + 1) / max(1, warmup))
    if schedule.name == "constant":
        return warm
    if schedule.name == "wsd":
        left = min(1.0, (steps - step) / max(1.0, schedule.cooldown * steps))
        return warm * (final + (1 - final) * left)
    done = min(1.0, max(0.0, (step - warmup) / max(1, steps - warmup)))
    return warm * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done)))

"""The exponential moving average of trained weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["EMA"]


class EMA:
    """An exponential moving average of tensors by name, in their own dtype.

    torch's `AveragedModel` averages a copied module: what is averaged here may be float32 master
    weights beside a module that computes in bfloat16, or the parts of tensors that FSDP2 gives a
    process, and a copy of what is frozen would be memory for nothing.

    Args:
        values: where the average begins; they are changed in place.
        decay: of a step, above 0 and below 1.
    """

    def __init__(self, values: Mapping[str, Tensor], decay: float) -> None:
        self.values = dict(values)
        self.decay = decay

    @torch.no_grad()
    def update(self, current: Mapping[str, Tensor], step: int) -> None:
        """After optimizer step `step` (from 1). The decay is smaller at first: the average of few
        steps is not that of the start."""
        weight = 1 - min(self.decay, step / (step + 9))
        for name, value in self.values.items():
            value.lerp_(current[name].detach(), weight)

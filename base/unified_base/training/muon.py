"""Muon, in float32 where a processor has no products of bfloat16 numbers.

torch's Muon orthogonalises its updates in bfloat16 whatever the machine. On a processor with AVX2
alone that took 3.5 times as long as AdamW's whole training step; in float32 it takes a fraction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from unified_base.training.precision import multiplies_bfloat16

__all__ = ["Muon", "orthogonalized"]


class Muon(torch.optim.Muon):
    """torch's Muon (arXiv:2502.16982), whose arguments it has; matrices of one device.

    Where the device multiplies bfloat16, every step is torch's to the bit. Elsewhere it is the same
    in float32. `adjust_lr_fn` is "match_rms_adamw": steps of AdamW's size.

    kernels: of convolutions, (out, in, ...), which torch's does not take: each is the matrix of its
    outputs by all the rest, in float32 on every device.
    """

    def __init__(
        self, params: Any, lr: float, weight_decay: float, kernels: Sequence[Tensor] = ()
    ) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        if kernels:
            self.add_param_group({"params": list(kernels)})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step."""
        device = self.param_groups[0]["params"][0].device.type
        if multiplies_bfloat16(device) and len(self.param_groups) == 1:
            return super().step(closure)
        assert closure is None
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                buffer, momentum = state["momentum_buffer"], group["momentum"]
                buffer.lerp_(matrix.grad, 1 - momentum)
                update = matrix.grad.lerp(buffer, momentum) if group["nesterov"] else buffer
                update = orthogonalized(
                    update.flatten(1), group["ns_coefficients"], group["ns_steps"], group["eps"]
                )
                lr = float(group["lr"])
                matrix.mul_(1 - lr * group["weight_decay"])
                alpha = -lr * 0.2 * math.sqrt(max(update.shape))
                matrix.add_(update.reshape(matrix.shape), alpha=alpha)
        return None


def orthogonalized(
    matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """A matrix with its singular values brought near 1, by Newton and Schulz's iteration, in its
    own precision: (H, W) -> same.

    Keller Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks".
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=eps)  # no singular value above 1
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x

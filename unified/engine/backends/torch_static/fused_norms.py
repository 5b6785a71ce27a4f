"""RMS norms as one kernel each, in place of the six that transformers' modules launch.

On a GPU a step of one row is bound by its many small kernels as much as by reading weights: Qwen3
has four norms a layer, which is half of the launches that are no matrix product. torch has them
fused; which modules are such norms shows by what they compute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FusedNorms"]

_EPS = ("variance_epsilon", "eps")


class FusedNorms:
    """The RMS norms of a model, which are computed by torch's fused kernel within `used`.

    For one thread at a time, as `PagedModules.over`. Modules are as they were afterwards.
    """

    def __init__(self, model: nn.Module) -> None:
        self._forwards: list[tuple[Any, Callable[[Tensor], Tensor]]] = []
        for module in model.modules():
            forward = _fused(module) if type(module).__name__.endswith("RMSNorm") else None
            if forward is not None:
                self._forwards.append((module, forward))

    def __len__(self) -> int:
        return len(self._forwards)

    @contextmanager
    def used(self) -> Iterator[None]:
        for module, forward in self._forwards:
            module.__dict__["forward"] = forward
        try:
            yield
        finally:
            for module, _ in self._forwards:
                del module.__dict__["forward"]


@torch.inference_mode()
def _fused(module: Any) -> Callable[[Tensor], Tensor] | None:
    """A function that computes what an RMS norm does; None for norms of other kinds."""
    weight = getattr(module, "weight", None)
    eps = next((getattr(module, name) for name in _EPS if hasattr(module, name)), None)
    # torch's own module is that kernel already.
    own = "forward" in module.__dict__ or isinstance(module, nn.RMSNorm)
    if own or not isinstance(weight, Tensor) or weight.dim() != 1 or not isinstance(eps, float):
        return None
    numbers = torch.arange(2 * len(weight), device=weight.device).view(2, -1)
    states = ((numbers * 37 % 23).to(weight.dtype) - 11) / 7
    expected = module(states).float()
    for forward in (partial(_scaled, module, eps), partial(_scaled_from_one, module, eps)):
        # A rounding or two in the weights' type: norms that multiply otherwise are far off.
        if torch.allclose(forward(states).float(), expected, rtol=0.02, atol=0.02):
            return forward
    return None


def _scaled(module: Any, eps: float, states: Tensor) -> Tensor:
    """Llama's: normalised states times the weight."""
    weight = module.weight
    return torch.nn.functional.rms_norm(states, weight.shape, weight, eps)


def _scaled_from_one(module: Any, eps: float, states: Tensor) -> Tensor:
    """Gemma's: times 1 + weight."""
    weight = module.weight
    return torch.nn.functional.rms_norm(states, weight.shape, 1 + weight, eps)

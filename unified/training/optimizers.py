"""The optimizers of a decoder. Matrices inside the layers may take Muon (arXiv:2502.16982);
everything else takes AdamW."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from unified.training.config import OptimizerConfig
from unified_base.training.muon import Muon

__all__ = ["make_optimizers"]


def make_optimizers(
    config: OptimizerConfig, parameters: Mapping[str, nn.Parameter]
) -> dict[str, torch.optim.Optimizer]:
    """The optimizers by name, "muon" and "adamw", those that have parameters.

    Only matrices inside layers decay: not norms, biases or rows of embeddings.
    """

    def inside(name: str, parameter: nn.Parameter) -> bool:
        return parameter.ndim >= 2 and (".layers." in name or ".h." in name)

    matrices = {n: p for n, p in parameters.items() if inside(n, p)}
    others = [p for n, p in parameters.items() if n not in matrices]
    flat = [p for p in matrices.values() if p.ndim == 2] if config.name == "muon" else []
    decayed = [p for p in matrices.values() if not any(p is other for other in flat)]
    plain = all(type(p) is nn.Parameter for p in parameters.values())
    groups = [
        {"params": group, "weight_decay": decay}
        for group, decay in ((decayed, config.weight_decay), (others, 0.0))
        if group
    ]
    optimizers: dict[str, torch.optim.Optimizer] = {}
    if flat:
        optimizers["muon"] = Muon(flat, lr=config.lr, weight_decay=config.weight_decay)
    if groups:
        optimizers["adamw"] = torch.optim.AdamW(
            groups, lr=config.lr, betas=config.betas, fused=plain
        )
    return optimizers

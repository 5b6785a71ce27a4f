"""What of a depth decoder is trained, beside what is trained of the decoder it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from unified.engine.backends.depth_module import DepthDecoder

__all__ = ["adapt_depth"]


def adapt_depth(depth: DepthDecoder, lora: Mapping[str, Any]) -> None:
    """Give the linear layers of a depth decoder adapters and freeze the rest, its rows too.

    lora: rank, alpha, dropout, targets, as the decoder's.

    Raises ValueError for one with other weights at every depth, and for targets that it has not.
    """
    from peft import LoraConfig, inject_adapter_in_model

    if depth.config.per_level:
        raise ValueError(
            "lora.depth is lora, but the depth decoder has weights of its own at every depth, which"
            " take no adapters; train it in full (lora.depth: full)"
        )
    linear = [
        name
        for name, module in depth.named_modules()
        if isinstance(module, nn.Linear) and name != "lm_head"  # the loss reads its rows
    ]
    targets = lora["targets"]
    if targets != "all-linear":
        wanted = (targets,) if isinstance(targets, str) else targets
        linear = [name for name in linear if name.rpartition(".")[2] in wanted]
    if not linear:
        raise ValueError(f"lora: the depth decoder has no layers {targets!r} to adapt")
    depth.requires_grad_(False)
    settings = LoraConfig(
        r=lora["rank"], lora_alpha=lora["alpha"], lora_dropout=lora["dropout"],
        target_modules=linear,
    )  # fmt: skip
    inject_adapter_in_model(settings, depth)

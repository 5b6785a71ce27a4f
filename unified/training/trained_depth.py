"""What of a depth decoder is trained, beside what is trained of the decoder it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from unified.engine.backends.depth_module import DepthDecoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["adapt", "adapt_depth", "choose_in_published", "has_own_depth"]


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


def adapt(module: nn.Module, lora: Mapping[str, Any], exclude: Sequence[str] | None = None) -> None:
    """Give the linear layers of a model adapters of peft, and freeze the rest of it.

    lora: rank, alpha, dropout, targets. exclude: names of modules that get none.

    Raises ValueError for targets that it has not.
    """
    from peft import LoraConfig, inject_adapter_in_model

    settings = LoraConfig(
        r=lora["rank"], lora_alpha=lora["alpha"], lora_dropout=lora["dropout"],
        exclude_modules=None if exclude is None else list(exclude),
        target_modules=lora["targets"],
    )  # fmt: skip
    try:
        inject_adapter_in_model(settings, module)
    except ValueError as error:
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise ValueError(
            f"lora: there are no adapters for targets {lora['targets']!r}: {reason}"
        ) from None


def has_own_depth(decoder: PreTrainedModel) -> bool:
    """Whether a depth decoder is part of the published model itself, as CSM's is."""
    return decoder.config.model_type == "csm"


def choose_in_published(decoder: Any, what: str, lora: Mapping[str, Any]) -> None:
    """`choose_trained`, of a CSM: new_rows, lora or depth.

    Its depth decoder reads the backbone's table of codes: trained without the backbone, that table
    stays as it is.

    Raises ValueError for new_rows, of which it has none.
    """
    if what == "new_rows":
        raise ValueError(
            f"there are no new rows to train: all of {type(decoder).__name__} are its own; train:"
            " full, lora or depth"
        )
    decoder.requires_grad_(False)
    depth = decoder.depth_decoder
    if what == "lora":
        adapt(decoder.backbone_model, lora)
    if what == "lora" and lora.get("depth") == "lora":
        adapt(depth, lora)
        return
    shared = decoder.backbone_model.embed_tokens.embed_audio_tokens.weight
    for parameter in depth.parameters():
        parameter.requires_grad_(parameter is not shared)

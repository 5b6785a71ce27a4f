"""Models of transformers and diffusers made from strangers' configurations: their size is known
before anything is allocated, and no kernel that a configuration names is fetched."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from unified_base.foreign import foreign
from unified_base.meta_device import on_meta_device

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = ["build_model", "check_size", "forget_kernels"]

# Tables that a model makes for itself: masks of all positions, angles, means of codebooks.
_MOST_BUFFERS = 1 << 28
_FEW = 1 << 22


def check_size(build: Callable[[], nn.Module], numbers: int, where: str) -> None:
    """Raises ValueError for a configuration whose model does not fit its files.

    build: makes the model; it is called where nothing is allocated. numbers: that the weights'
    files hold. Weights that are missing would be allocated and drawn at random.
    """
    with foreign(where), on_meta_device():
        model = build()
    size = sum(parameter.numel() for parameter in model.parameters())
    # A head that is the embedding as well may be counted twice.
    if size > 2 * numbers + _FEW:
        raise ValueError(
            f"{where}: its config.json is of {size:,} weights, its files hold {numbers:,}"
        )
    tables = sum(buffer.numel() for buffer in model.buffers())
    if tables > numbers + _MOST_BUFFERS:
        raise ValueError(f"{where}: its config.json asks for tables of {tables:,} numbers")


def build_model(
    kind: type[PreTrainedModel], config: PreTrainedConfig, tensors: dict[str, torch.Tensor]
) -> tuple[Any, list[str]]:
    """A model of transformers with these weights in float32, and the names of those it lacks.

    Raises ValueError for a configuration whose model is larger than the weights.
    """
    forget_kernels(config)
    numbers = sum(tensor.numel() for tensor in tensors.values())
    check_size(lambda: kind(copy.deepcopy(config)), numbers, kind.__name__)
    load: Any = kind.from_pretrained  # its annotation has no report
    model, report = load(
        None, config=config, state_dict=tensors, dtype=torch.float32, output_loading_info=True
    )
    return model, list(report["missing_keys"])


def forget_kernels(config: PreTrainedConfig) -> None:
    """Take out of a configuration of transformers how attention and experts are computed: that is
    this machine's to choose, and some names are of code on the hub."""
    config._attn_implementation = None
    config._experts_implementation = None

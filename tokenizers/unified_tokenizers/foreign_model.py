"""Models of transformers and diffusers made from strangers' configurations: their size is known
before anything is allocated, and no kernel that a configuration names is fetched."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch

from unified_base.foreign import foreign

__all__ = ["build_model", "check_size", "forget_kernels"]

# Tables that a model makes for itself: masks of all positions, angles, means of codebooks.
_MOST_BUFFERS = 1 << 28
_FEW = 1 << 22


def check_size(build: Callable[[], Any], numbers: int, where: str) -> None:
    """Raises ValueError for a configuration whose model does not fit its files.

    build: makes the model; it is called where nothing is allocated. numbers: that the weights'
    files hold. Weights that are missing would be allocated and drawn at random.
    """
    with foreign(where), torch.device("meta"):
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


def build_model(kind: Any, config: Any, tensors: dict[str, torch.Tensor]) -> tuple[Any, list[str]]:
    """A model of transformers with these weights in float32, and the names of those it lacks.

    Raises ValueError for a configuration whose model is larger than the weights.
    """
    forget_kernels(config)
    numbers = sum(tensor.numel() for tensor in tensors.values())
    check_size(lambda: kind(copy.deepcopy(config)), numbers, kind.__name__)
    model, report = kind.from_pretrained(
        None, config=config, state_dict=tensors, dtype=torch.float32, output_loading_info=True
    )
    return model, list(report["missing_keys"])


def forget_kernels(config: Any) -> None:
    """Take out of a configuration of transformers how attention and experts are computed: that is
    this machine's to choose, and some names are of code on the hub."""
    config._attn_implementation = None
    config._experts_implementation = None

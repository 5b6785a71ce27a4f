"""A depth decoder's file beside a checkpoint: checked against its declaration, read and written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified.engine.backends.cpu.stored import StoredWeight
from unified.engine.backends.depth_config import DepthConfig
from unified.models.stored_weights import read_weights

if TYPE_CHECKING:
    from torch import nn

__all__ = ["DEPTH_FILE", "load_depth_tensors", "read_depth_weights", "save_depth_decoder"]

DEPTH_FILE = "depth_decoder.safetensors"


def read_depth_weights(
    directory: Path, config: DepthConfig, dtype: str = "auto"
) -> Mapping[str, StoredWeight]:
    """The weights of the depth decoder in a model's folder, by the names of `DepthDecoder`.

    dtype: see `read_weights`.

    Raises ValueError, naming file and tensor, where they are not of the sizes declared.
    """
    path = directory / DEPTH_FILE
    if not os.path.lexists(path):
        raise ValueError(
            f"{directory} has no {DEPTH_FILE}, but its unified.json says codes.output depth: the"
            " checkpoint is incomplete; copy the file, or save the model again"
        )

    def check(tensors: Mapping[str, Any]) -> None:
        try:
            config.check(tensors)
        except ValueError as error:
            raise ValueError(f"{path}: {error} (codes.depth of unified.json)") from None

    return read_weights(directory, check=check, dtype=dtype, name=DEPTH_FILE)


def load_depth_tensors(directory: Path, config: DepthConfig, dtype: str = "auto") -> dict[str, Any]:
    """The same as tensors of torch: views of the mapped file, in the type that it has.

    dtype: "float32", "bfloat16" or "float16" to widen or round them; any other leaves them.
    """
    import torch
    from safetensors.torch import load_file

    read_depth_weights(directory, config)
    tensors: dict[str, Any] = load_file(directory / DEPTH_FILE)
    if dtype in ("float32", "bfloat16", "float16"):
        tensors = {name: tensor.to(getattr(torch, dtype)) for name, tensor in tensors.items()}
    return tensors


def save_depth_decoder(module: nn.Module, folder: Path) -> None:
    """Write a depth decoder's weights, in the type that they have, into a model's folder."""
    from safetensors.torch import save_file

    weights = {
        name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()
    }
    save_file(weights, folder / DEPTH_FILE, metadata={"format": "pt"})

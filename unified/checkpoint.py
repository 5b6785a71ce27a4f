"""Reading a Hugging Face causal-LM checkpoint: config.json and safetensors, never a pickle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize

from unified.decoder import Array, Decoder, SlimDecoder
from unified.slim_config import SlimConfig


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ValueError when the file is missing, unreadable or something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path.parent} has no {path.name}: it is no model directory") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, expected an object")
    return found


def read_weights(
    directory: Path, wanted: Callable[[str], bool] = lambda name: True
) -> dict[str, Array]:
    """Every tensor of model.safetensors, or of the shards its index names, as float32.

    wanted: by a tensor's name; the others are passed over.

    Raises ValueError when a file is missing, truncated, not safetensors, or holds other than
    float32, float16 or bfloat16 tensors.
    """
    index = directory / "model.safetensors.index.json"
    files = ["model.safetensors"]
    if index.exists():
        files = sorted(set(read_json(index).get("weight_map", {}).values()))
    weights: dict[str, Array] = {}
    for name in files:
        path = directory / name
        try:
            tensors = deserialize(path.read_bytes())
        except FileNotFoundError:
            raise ValueError(f"{directory} has no {name}: the checkpoint is incomplete") from None
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{path} is not a whole safetensors file ({error}); copy or train it again"
            ) from None
        for key, tensor in tensors:
            if not wanted(key):
                continue
            weights[key] = _float32(tensor["data"], tensor["dtype"], f"{path}: {key}").reshape(
                tensor["shape"]
            )
    return weights


def _float32(data: bytes, dtype: str, where: str) -> Array:
    if dtype == "F32":
        return np.frombuffer(data, "<f4").astype(np.float32, copy=False)
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    if dtype == "F16":
        return np.frombuffer(data, "<f2").astype(np.float32)
    raise ValueError(f"{where} has type {dtype}, expected F32, F16 or BF16")


def load_decoder(directory: Path) -> Decoder:
    """The slim decoder where it covers the checkpoint, transformers behind its interface if not."""
    config = read_json(directory / "config.json")
    if not SlimConfig.covers(config):
        from unified.generic_decoder import GenericDecoder

        return GenericDecoder(load_hf(directory))
    weights = read_weights(directory)
    try:
        return SlimDecoder(SlimConfig.from_hf(config), weights)
    except ValueError as error:
        raise ValueError(f"checkpoint {directory}: {error}") from None


def load_hf(directory: Path, kind: Any = None) -> Any:
    """The checkpoint as transformers has it, float32, from safetensors only.

    kind: a class of transformers; None: AutoModelForCausalLM.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        return (kind or AutoModelForCausalLM).from_pretrained(
            directory, dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(f"checkpoint {directory} cannot be loaded: {error}") from None

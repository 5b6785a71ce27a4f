"""Reading a Hugging Face causal-LM checkpoint: config.json and safetensors, never a pickle."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from unified.engine.backends.base import Decoder
from unified.engine.backends.cpu.config import LlamaCpuConfig
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder, Weight
from unified_base import structured
from unified_base.foreign import foreign
from unified_base.model_config import check_model_config
from unified_base.quiet import no_progress_bars
from unified_base.safetensors_files import Tensor, check_weights, read_tensor, weight_headers


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ValueError when the file is missing, unreadable or something else."""
    if not os.path.lexists(path):
        raise ValueError(f"{path.parent} has no {path.name}: it is no model directory")
    # Python's JSON has infinity, and some configurations do.
    found: dict[str, Any] = structured.read_json(path, constants=True)
    return found


def read_config(directory: Path) -> dict[str, Any]:
    """A checkpoint's config.json, in bounds (`unified_base.model_config`). ValueError otherwise."""
    path = directory / "config.json"
    config = read_json(path)
    check_model_config(config, str(path))
    return config


def read_weights(
    directory: Path,
    wanted: Callable[[str], bool] = lambda name: True,
    check: Callable[[Mapping[str, Any]], None] = lambda shapes: None,
) -> dict[str, Weight]:
    """Every tensor of model.safetensors, or of the shards its index names.

    bfloat16 comes as `Weight` has it, all else as float32. wanted: by a tensor's name; the others
    are passed over. check: is called with what has a `shape` for each tensor, before any is read.

    Raises ValueError when a file is missing, truncated, not safetensors, outside the folder, or
    holds other than float32, float16 or bfloat16 tensors.
    """
    headers = weight_headers(directory)
    tensors = {
        name: (path, tensor)
        for path, header in headers.items()
        for name, tensor in header.items()
        if wanted(name)
    }
    check({name: tensor for name, (_, tensor) in tensors.items()})
    return {
        name: _numbers(path, tensor, f"{path}: {name}").reshape(tensor.shape)
        for name, (path, tensor) in tensors.items()
    }


def _numbers(path: Path, tensor: Tensor, where: str) -> Weight:
    if tensor.dtype not in ("F32", "BF16", "F16"):
        raise ValueError(f"{where} has type {tensor.dtype}, expected F32, F16 or BF16")
    data = read_tensor(path, tensor)
    if tensor.dtype == "F32":
        return np.frombuffer(data, "<f4").astype(np.float32, copy=False)
    if tensor.dtype == "BF16":
        return np.frombuffer(data, "<u2").astype(np.uint16, copy=False)
    return np.frombuffer(data, "<f2").astype(np.float32)


def weights_of(hf: Any) -> dict[str, Weight]:
    """Those of a model of transformers, by their names: not copied where they lie on the CPU."""
    import torch

    found = {}
    for name, tensor in hf.state_dict().items():
        tensor = tensor.detach().cpu()
        if tensor.dtype == torch.bfloat16:
            found[name] = tensor.view(torch.uint16).numpy()
        else:
            found[name] = tensor.float().numpy()
    return found


def decoder_of(hf: Any) -> Decoder:
    """The decoder of a model of transformers, with its weights: compiled where it lies on the CPU
    and is of the Llama family, its own forward where not."""
    config = hf.config.to_dict()
    if hf.device.type == "cpu" and LlamaCpuConfig.covers(config):
        return LlamaCpuDecoder(LlamaCpuConfig.from_hf(config), weights_of(hf))
    from unified.engine.backends.transformers import TransformersDecoder

    return TransformersDecoder(hf)


def load_decoder(directory: Path) -> Decoder:
    """The slim decoder where it covers the checkpoint, transformers behind its interface if not."""
    config = read_config(directory)
    if not LlamaCpuConfig.covers(config):
        from unified.engine.backends.transformers import TransformersDecoder

        hf = load_hf(directory)
        with foreign(f"checkpoint {directory} cannot be used"):
            return TransformersDecoder(hf)
    try:
        slim = LlamaCpuConfig.from_hf(config)
        return LlamaCpuDecoder(slim, read_weights(directory, check=slim.check))
    except ValueError as error:
        raise ValueError(f"checkpoint {directory}: {error}") from None


def load_hf(directory: Path, kind: Any = None, dtype: str = "float32") -> Any:
    """The checkpoint as transformers has it, from safetensors only, no code of its own run.

    kind: a class of transformers; None: AutoModelForCausalLM. dtype: of the weights; "auto": the
    one that they are stored in.

    Raises ValueError for what is no causal LM of transformers, and for files missing, broken, or
    without some of the weights.
    """
    from transformers import AutoModelForCausalLM

    from unified_tokenizers.foreign_model import check_size, forget_kernels

    loader: Any = kind or AutoModelForCausalLM
    config = load_config(directory)
    numbers = check_weights(directory, "model.safetensors")
    if os.path.lexists(directory / "adapter_config.json"):
        raise ValueError(
            f"checkpoint {directory} has an adapter_config.json; merge the adapter into its model"
        )
    forget_kernels(config)
    make = loader._from_config if kind else loader.from_config
    where = f"checkpoint {directory} cannot be loaded"
    try:
        check_size(lambda: make(copy.deepcopy(config)), numbers, where)
    except ValueError as error:
        raise _of_several_models(directory) or error from None
    with _loading(directory), no_progress_bars():
        model, report = loader.from_pretrained(
            directory, config=config, dtype=dtype, use_safetensors=True, local_files_only=True,
            trust_remote_code=False, output_loading_info=True,
        )  # fmt: skip
    if missing := sorted(report["missing_keys"]):
        # transformers fills them with random numbers.
        lacks = f"checkpoint {directory} lacks {len(missing)} weights, such as {missing[0]}"
        raise _of_several_models(directory) or ValueError(lacks)
    return model


def load_config(directory: Path) -> Any:
    """The config.json of a checkpoint as transformers has it. Raises ValueError where it cannot."""
    from transformers import AutoConfig

    read_config(directory)
    for name in ("generation_config.json", "adapter_config.json"):
        if os.path.lexists(directory / name):
            read_json(directory / name)
    with _loading(directory):
        return AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)


def _of_several_models(directory: Path) -> ValueError | None:
    """What to say of a checkpoint whose language model is one of several in it, None of others."""
    config = read_json(directory / "config.json")
    parts = sorted(name for name in config if name.endswith("_config") and config[name])
    if not {"text_config", "vq_config"} & set(parts):
        return None
    return ValueError(
        f"checkpoint {directory} holds a whole {config.get('model_type')} ({', '.join(parts)}), "
        "which is neither extended nor trained; sampling from it is possible"
    )


@contextmanager
def _loading(directory: Path) -> Iterator[None]:
    """What a library raises over a checkpoint becomes one line."""
    try:
        with foreign(f"checkpoint {directory} cannot be loaded"):
            yield
    except ValueError as error:
        raise _of_several_models(directory) or error from None

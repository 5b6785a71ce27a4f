"""Reading a Hugging Face causal-LM checkpoint: config.json and safetensors, never a pickle."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified.engine.backends.base import Decoder
from unified.engine.backends.cpu.config import LlamaCpuConfig
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.engine.backends.cpu.stored import StoredWeight, to_quantize
from unified.engine.backends.depth_config import DepthConfig
from unified.models.choose_backend import torch_decoder, uses_cpu_backend
from unified.models.code_output import attach_depth_decoder, depth_decoder_of
from unified.models.depth_files import load_depth_tensors, read_depth_weights
from unified.models.quantized import QUANTIZED, quantize_layers
from unified.models.stored_weights import read_weights, stored_dtype
from unified_base import structured
from unified_base.foreign import foreign
from unified_base.meta_device import on_meta_device
from unified_base.model_config import check_model_config
from unified_base.quiet import no_progress_bars
from unified_base.safetensors_files import check_weights

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ValueError when the file is missing, unreadable or something else."""
    if not os.path.lexists(path):
        raise ValueError(f"{path.parent} has no {path.name}: it is no model directory")
    # Python's JSON has infinity, and some configurations do.
    obj: dict[str, Any] = structured.read_json(path, constants=True)
    return obj


def read_config(directory: Path) -> dict[str, Any]:
    """A checkpoint's config.json, in bounds (`unified_base.model_config`). ValueError otherwise."""
    path = directory / "config.json"
    config = read_json(path)
    check_model_config(config, str(path))
    return config


def weights_of(
    module: nn.Module, dtype: str = "auto", keep: Callable[[str], bool] = lambda name: True
) -> dict[str, StoredWeight]:
    """The weights of a model of transformers by name: not copied where they are on the CPU.

    Those of its depth decoder are left out; `module` may be that.
    dtype: "int8": matrices are to be quantized where they are packed. keep: which of them, by name.
    """
    import torch

    from unified.engine.backends.depth_module import DEPTH_DECODER

    words = {torch.bfloat16: torch.uint16, torch.float16: torch.int16}
    weights: dict[str, StoredWeight] = {}
    ours = depth_decoder_of(module) is not None  # CSM has one of its own by this name
    for name, tensor in module.state_dict().items():
        if not keep(name) or (ours and name.startswith(f"{DEPTH_DECODER}.")):
            continue
        tensor = tensor.detach().cpu()
        if tensor.dtype in words:
            weights[name] = tensor.contiguous().view(words[tensor.dtype]).numpy()
        else:
            weights[name] = tensor.float().numpy()
    return to_quantize(weights) if dtype == "int8" else weights


def has_encoder(config: Mapping[str, Any]) -> bool:
    """Whether a decoder of this config.json writes what answers to an encoder of its own: T5."""
    return config.get("model_type") in ("t5", "mt5", "umt5")


def decoder_of(
    hf: PreTrainedModel, repack: bool = True, backend: str = "auto", dtype: str = "auto"
) -> Decoder:
    """A decoder for sampling with the weights of a model of transformers.

    repack: whether backend "auto" may take the CPU backend, which packs a copy of them; the others
    share them. backend: of `unified.models.choose_backend`. dtype: "int8": a packed copy is
    quantized.
    """
    config = hf.config.to_dict()
    if has_encoder(config):
        from unified.models.text_to_text import TextToTextDecoder

        if backend not in ("auto", "transformers"):
            raise ValueError(
                f"backend {backend} does not compute a {config['model_type']}, whose encoder reads"
                " what its decoder answers; take backend auto or transformers"
            )
        return TextToTextDecoder(hf)
    if (graft := vars(hf).get("unified_layer_graft")) is not None:
        able = ("transformers",) if graft.looks_back else ("torch_static", "transformers")
        if backend not in ("auto", *able):
            raise ValueError(
                f"the decoder has {graft.name} in its layers, which backend {backend} does not"
                f" compute; take backend auto or {' or '.join(able)}"
            )
        return torch_decoder(hf, "transformers" if graft.looks_back else backend)
    if uses_cpu_backend(backend, config, str(hf.device), repack):
        sizes, weights = LlamaCpuConfig.from_hf(config), weights_of(hf, dtype)
        if (module := depth_decoder_of(hf)) is None:
            return LlamaCpuDecoder(sizes, weights)
        return LlamaCpuDecoder(sizes, weights, depth=(module.config, weights_of(module, dtype)))
    return torch_decoder(hf, backend)


def load_decoder(
    directory: Path, dtype: str = "auto", backend: str = "auto", depth: DepthConfig | None = None
) -> Decoder:
    """The CPU backend where it covers the checkpoint; if not, one that steps transformers' object.

    dtype: "float32", "bfloat16", "float16", "int8" or "auto": as the weights are stored; "int4",
    which torch steps. backend: of `unified.models.choose_backend`. depth: of the depth decoder
    beside it; None: it has none.
    """
    config = read_config(directory)
    if dtype == "int4" or not uses_cpu_backend(backend, config):
        hf = load_hf(directory, dtype=dtype, depth=depth)
        with foreign(f"checkpoint {directory} cannot be used"):
            return torch_decoder(hf, backend)
    try:
        sizes = LlamaCpuConfig.from_hf(config)
        weights = read_weights(directory, check=sizes.check, dtype=dtype)
        if depth is None:
            return LlamaCpuDecoder(sizes, weights)
        depth_weights = read_depth_weights(directory, depth, dtype)
        return LlamaCpuDecoder(sizes, weights, depth=(depth, depth_weights))
    except ValueError as error:
        raise ValueError(f"checkpoint {directory}: {error}") from None


def load_hf(
    directory: Path,
    kind: type[PreTrainedModel] | None = None,
    dtype: str = "auto",
    device: str = "cpu",
    depth: DepthConfig | None = None,
) -> Any:
    """The checkpoint as transformers has it, from safetensors only, no code of its own run.

    On the CPU and in the type they are stored in, weights are views of the mapped files: pages of
    the system's cache, which become memory of this process where they are written to.

    Args:
        directory: the checkpoint's.
        kind: a class of transformers; None: AutoModelForCausalLM, or AutoModelForSeq2SeqLM.
        dtype: of the weights; "auto": the one that most of them are stored in; "int8" or "int4":
            layers are quantized by torchao (`quantize_layers`).
        device: any device of torch; on "meta" no weights are read.
        depth: of the depth decoder beside it, which it is given; None where there is none.

    Raises:
        ValueError: no causal LM of transformers; files missing, broken, or without some of the
            weights; a device that is not there; weights too large for float16;
            torchao is missing, or cannot quantize for this device.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    from unified_tokenizers.foreign_model import check_size, forget_kernels

    config = load_config(directory)
    encodes = has_encoder({"model_type": config.model_type})
    loader: Any = kind or (AutoModelForSeq2SeqLM if encodes else AutoModelForCausalLM)
    quantized, asked = dtype if dtype in QUANTIZED else None, dtype
    if quantized:
        dtype = "auto"
    numbers = check_weights(directory, "model.safetensors")
    if os.path.lexists(directory / "adapter_config.json"):
        raise ValueError(
            f"checkpoint {directory} has an adapter_config.json; merge the adapter into its model"
        )
    forget_kernels(config)
    if dtype == "auto":
        dtype = stored_dtype(directory)
    make = loader._from_config if kind else loader.from_config
    where = f"checkpoint {directory} cannot be loaded"
    try:
        check_size(lambda: make(copy.deepcopy(config)), numbers, where)
    except ValueError as error:
        raise _of_several_models(directory) or error from None
    if torch.device(device).type == "meta":
        config.dtype = getattr(torch, dtype)
        with _loading(directory), on_meta_device():
            model = make(config).to(config.dtype).eval()
        if depth is not None:
            attach_depth_decoder(model, depth)
        return model
    with _loading(directory), no_progress_bars():
        model, report = loader.from_pretrained(
            directory, config=config, dtype=dtype, use_safetensors=True, local_files_only=True,
            trust_remote_code=False, output_loading_info=True,
        )  # fmt: skip
    if missing := sorted(report["missing_keys"]):
        # transformers fills them with random numbers.
        lacks = f"checkpoint {directory} lacks {len(missing)} weights, such as {missing[0]}"
        raise _of_several_models(directory) or ValueError(lacks)
    if depth is not None:
        attach_depth_decoder(model, depth, load_depth_tensors(directory, depth, asked))
    if dtype == "float16" and stored_dtype(directory) != dtype:
        check_finite(model, f"checkpoint {directory}")
    return move(model, device) if quantized is None else quantize_layers(model, quantized, device)


def check_finite(hf: PreTrainedModel, where: str) -> None:
    """Raises ValueError where weights became infinite: they were too large for float16."""
    for name, parameter in hf.named_parameters():
        if parameter.isinf().any():
            raise ValueError(
                f"{where}: {name} has numbers that float16 does not hold; take dtype bfloat16 or"
                " float32"
            )


def move(hf: PreTrainedModel, device: str) -> PreTrainedModel:
    """A model on another device. Raises ValueError where there is no such device, or no room."""
    with foreign(f"the model cannot be moved to device {device!r}"):
        moved: PreTrainedModel = hf.to(device)  # type: ignore[arg-type]
        return moved


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
        "which `UnifiedModel.from_pretrained` opens, trains and saves by its own class; it is no"
        " language model of text alone, as is expected here"
    )


@contextmanager
def _loading(directory: Path) -> Iterator[None]:
    """What a library raises over a checkpoint becomes one line."""
    try:
        with foreign(f"checkpoint {directory} cannot be loaded"):
            yield
    except ValueError as error:
        raise _of_several_models(directory) or error from None

"""Reading a Hugging Face causal-LM checkpoint: config.json and safetensors, never a pickle."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize

from unified.decoder import Decoder, SlimDecoder, Weight
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
) -> dict[str, Weight]:
    """Every tensor of model.safetensors, or of the shards its index names.

    bfloat16 comes as `Weight` has it, all else as float32. wanted: by a tensor's name; the others
    are passed over.

    Raises ValueError when a file is missing, truncated, not safetensors, or holds other than
    float32, float16 or bfloat16 tensors.
    """
    index = directory / "model.safetensors.index.json"
    files = ["model.safetensors"]
    if index.exists():
        files = sorted(set(read_json(index).get("weight_map", {}).values()))
    weights: dict[str, Weight] = {}
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
            found = _numbers(tensor["data"], tensor["dtype"], f"{path}: {key}")
            weights[key] = found.reshape(tensor["shape"])
    return weights


def _numbers(data: bytes, dtype: str, where: str) -> Weight:
    if dtype == "F32":
        return np.frombuffer(data, "<f4").astype(np.float32, copy=False)
    if dtype == "BF16":
        return np.frombuffer(data, "<u2").astype(np.uint16, copy=False)
    if dtype == "F16":
        return np.frombuffer(data, "<f2").astype(np.float32)
    raise ValueError(f"{where} has type {dtype}, expected F32, F16 or BF16")


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
    if hf.device.type == "cpu" and SlimConfig.covers(config):
        return SlimDecoder(SlimConfig.from_hf(config), weights_of(hf))
    from unified.generic_decoder import GenericDecoder

    return GenericDecoder(hf)


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


def load_hf(directory: Path, kind: Any = None, dtype: str = "float32") -> Any:
    """The checkpoint as transformers has it, from safetensors only, no code of its own run.

    kind: a class of transformers; None: AutoModelForCausalLM. dtype: of the weights; "auto": the
    one that they are stored in.

    Raises ValueError for what is no causal LM of transformers, and for files missing, broken, or
    without some of the weights.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoModelForCausalLM

    loader: Any = kind or AutoModelForCausalLM
    try:
        with no_progress_bars():
            model, report = loader.from_pretrained(
                directory, dtype=dtype, use_safetensors=True, local_files_only=True,
                trust_remote_code=False, output_loading_info=True,
            )  # fmt: skip
    except (
        SafetensorError, OSError, RuntimeError, ValueError, KeyError, StrictDataclassError
    ) as error:  # fmt: skip
        raise _unloadable(directory, error) from None
    if missing := sorted(report["missing_keys"]):
        # transformers fills them with random numbers.
        lacks = f"checkpoint {directory} lacks {len(missing)} weights, such as {missing[0]}"
        raise _of_several_models(directory) or ValueError(lacks)
    return model


def load_config(directory: Path) -> Any:
    """The config.json of a checkpoint as transformers has it. Raises ValueError where it cannot."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    read_json(directory / "config.json")
    try:
        return AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, StrictDataclassError) as error:
        raise _unloadable(directory, error) from None


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """transformers shows none for a while; afterwards as its user has chosen."""
    from transformers.utils import logging

    # It is one setting for all threads: the last that leaves puts it back.
    with _quiet.lock:
        if not _quiet.threads:
            _quiet.shown = logging.is_progress_bar_enabled()
            logging.disable_progress_bar()
        _quiet.threads += 1
    try:
        yield
    finally:
        with _quiet.lock:
            _quiet.threads -= 1
            if not _quiet.threads and _quiet.shown:
                logging.enable_progress_bar()


class _Quiet:
    """Who is inside `no_progress_bars`, and whether there were any before."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.threads = 0
        self.shown = True


_quiet = _Quiet()


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


def _unloadable(directory: Path, error: Exception) -> ValueError:
    summary = " ".join(str(error).split())[:300]
    several = _of_several_models(directory)
    return several or ValueError(f"checkpoint {directory} cannot be loaded: {summary}")

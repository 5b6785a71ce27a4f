"""Weights of 8 and 4 bits: which checkpoints can have them, and how torchao gives them to a model.

On the CPU backend int8 is quantized while weights are read (`unified.engine.backends.cpu`). For a
model that torch steps, torchao (an extra of its own) replaces the weights of the linear layers;
embeddings and head keep their type, since ids need whole rows of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from unified_base.extras import missing_extra
from unified_base.foreign import foreign

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

__all__ = [
    "INT4_GROUP", "INT4_INPUTS", "INT4_OUTPUTS", "QUANTIZED", "check_quantized",
    "is_quantized", "quantize_layers", "quantized_layers",
]  # fmt: skip

QUANTIZED = ("int8", "int4")
"""Types that weights are quantized to when a model is opened."""
INT4_GROUP = 128
"""Inputs that share a scale and a zero in int4."""
INT4_INPUTS, INT4_OUTPUTS = 1024, 8
"""What torchao's int4 pads inputs and outputs of a layer to multiples of."""
# What is no language model, and is stepped seldom or not at all; heads, whose rows are read one by
# one; and depth decoders, which are small and whose errors a position's later codes inherit.
_MEDIA = re.compile(
    r"\b(vqmodel|vision_model|aligner|generation_\w+|codec_model|audio_encoder|depth_decoder"
    r"|audio_lm_head|lm_heads|logits_dense)\b"
)


def check_quantized(dtype: str, device: str, backend: str = "auto") -> None:
    """Raises ValueError for a quantized type that weights on a device cannot have, or that a
    backend does not compute with."""
    if dtype != "int4":
        return
    if device.partition(":")[0] not in ("cpu", "cuda", "meta"):
        raise ValueError(
            f"dtype int4 needs device cpu or cuda (torchao's kernels), found device {device}; take"
            " dtype bfloat16"
        )
    if backend == "cpu":
        raise ValueError(
            "dtype int4 is stepped by torch, with torchao, and backend cpu has none of it; take"
            " dtype int8, or backend auto"
        )


def quantized_layers(hf: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers that are quantized, by name: all of the language model's but its heads and
    its depth decoder."""
    from torch import nn

    head = hf.get_output_embeddings()  # type: ignore[operator]
    for name, module in hf.named_modules():
        if isinstance(module, nn.Linear) and module is not head and not _MEDIA.search(name):
            yield name, module


def is_quantized(hf: nn.Module | None) -> bool:
    """Whether torchao has replaced weights of a model."""
    return hf is not None and any(
        type(p).__module__.startswith("torchao.") for p in hf.parameters()
    )


def quantize_layers(hf: PreTrainedModel, dtype: str, device: str = "cpu") -> PreTrainedModel:
    """Quantize the linear layers of a model in place, layer by layer, and move it to a device.

    Args:
        hf: the model, on the CPU: a layer is on the device in its own type only while it is
            quantized.
        dtype: "int8", with a scale for each output; "int4", with a scale and a zero for each output
            and INT4_GROUP inputs, which turns all other weights into bfloat16. Layers whose inputs
            are no multiple of INT4_GROUP stay bfloat16.
        device: where it goes.

    Raises:
        ValueError: torchao is missing or cannot quantize for this device, or the model has no
            layers that it could.
    """
    check_quantized(dtype, device)
    try:
        from torchao import quantization as ao
    except ImportError as error:
        purpose = f"dtype {dtype} of a model that torch steps"
        raise missing_extra(purpose, "torchao", "quantized") from error
    layers = [layer for _, layer in quantized_layers(hf)]
    chosen = {id(layer) for layer in layers}
    if not chosen:
        raise ValueError(
            f"{type(hf).__name__} has no linear layers of torch's beside its head, which is what"
            f" torchao quantizes; expected another architecture for dtype {dtype}; take bfloat16"
        )
    if dtype == "int4":
        import torch

        if all(layer.in_features % INT4_GROUP for layer in layers):
            raise ValueError(
                f"dtype int4 needs linear layers of a multiple of {INT4_GROUP} inputs, and those of"
                f" {type(hf).__name__} have {', '.join(_inputs(layers))}; take dtype int8"
            )
        hf.to(torch.bfloat16)  # type: ignore[arg-type]
        config = _int4_config(device)
    else:
        config = ao.Int8WeightOnlyConfig()
    with foreign(f"torchao cannot quantize the model to {dtype} on device {device}"):
        ao.quantize_(hf, config, lambda module, name: id(module) in chosen, device=device)
        # Modules without layers to quantize have stayed where they were.
        moved: PreTrainedModel = hf.to(device)  # type: ignore[arg-type]
    return moved


def _int4_config(device: str) -> Any:
    """What torchao is told for int4: either device has kernels, and a layout, of its own."""
    if device.partition(":")[0] == "cpu":
        from torchao.prototype.quantization.int4.inference_workflow import (
            PrototypeInt4WeightOnlyConfig,
        )

        return PrototypeInt4WeightOnlyConfig(group_size=INT4_GROUP, set_inductor_config=False)
    from torchao.quantization import Int4WeightOnlyConfig

    return Int4WeightOnlyConfig(group_size=INT4_GROUP, int4_packing_format="tile_packed_to_4d")


def _inputs(layers: list[nn.Linear]) -> list[str]:
    """The numbers of inputs that layers have, ascending."""
    return [str(number) for number in sorted({layer.in_features for layer in layers})]

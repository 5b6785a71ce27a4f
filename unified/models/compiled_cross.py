"""The weights of a `CrossModel` for the compiled CPU backend, and its encoder beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unified.engine.backends.base import Array
from unified.engine.backends.cpu.cross_config import CrossCpuConfig
from unified.engine.backends.cpu.cross_decoder import CrossCpuDecoder
from unified.engine.backends.cpu.stored import StoredWeight, to_quantize
from unified.models.cross_model import CrossLayer, CrossModel
from unified.models.hf_checkpoint import weights_of

__all__ = ["compiles", "cross_decoder", "packed_shapes"]


def compiles(model: CrossModel) -> bool:
    """Whether the compiled loops compute a model: its options, and plain products everywhere."""
    shape = model.shape
    return (
        model.covered
        and shape.head_dim % 2 == 0
        and all(
            type(module) is nn.Linear and module.bias is None
            for layer in model.layers
            for module in _products(layer)
        )
    )


def packed_shapes(model: CrossModel) -> dict[str, tuple[int, ...]]:
    """Shapes of what `cross_decoder` copies of a model, on any device, by the compiled names."""
    return {name: tuple(tensor.shape) for name, tensor in _weights(model).items()}


def cross_decoder(model: CrossModel, dtype: str = "auto") -> CrossCpuDecoder:
    """A decoder with a packed copy of the weights; it shares the encoder's.

    dtype: "int8": matrices are quantized, but for the encoder's.

    Raises ValueError where the model has options that are not compiled, or an adapter.
    """
    name = type(model.hf).__name__
    if not compiles(model):
        raise ValueError(
            f"backend cpu does not cover {name} with these options, or with an adapter; take"
            " backend auto or transformers"
        )
    shape, first_layer = model.shape, model.layers[0]
    angles, added = model.angles(), model.position_table()
    config = CrossCpuConfig(
        hidden_size=shape.width, num_layers=shape.num_layers, num_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads, head_dim=shape.head_dim,
        intermediate_size=int(_weight(first_layer.down).shape[1]),
        text_size=int(_weight(first_layer.text.k).shape[1]), text_heads=shape.num_text_heads,
        text_kv_heads=shape.num_text_kv_heads, text_head_dim=shape.text_head_dim,
        first=model.first, num_codebooks=model.num_codebooks, codebook_rows=model.rows,
        max_positions=model.max_positions, norm_eps=model.eps,
        layer_norm=getattr(model.norm, "bias", None) is not None, gated=first_layer.gated,
        inv_freq=(0.0,) * (shape.head_dim // 2) if angles is None else tuple(angles.tolist()),
        scaled=model.scale is None,
    )  # fmt: skip
    weights = weights_of(_Named(_weights(model)))
    without_head = [
        model.first + level * model.rows + row
        for level, head in enumerate(model.heads())
        for row in range(len(head), model.rows)
    ]
    encoder = model.encoder  # and not the model: what is packed need not stay

    def encoded(ids: list[int]) -> Array:
        text = torch.tensor([encoder.ids(ids)])
        with torch.inference_mode():
            states = encoder.states(text, torch.ones_like(text))[0]
        numbers: Array = states.float().numpy()
        return numbers

    return CrossCpuDecoder(
        name, config, _quantized(weights) if dtype == "int8" else weights, encoded,
        None if added is None else added.float().numpy(), without_head,
    )  # fmt: skip


def _quantized(weights: dict[str, StoredWeight]) -> dict[str, StoredWeight]:
    """Of the products; the table of embeddings stays as it is."""
    table = "embed_tokens.weight"
    return {**to_quantize(weights), table: weights[table]}


class _Named(nn.Module):
    """Tensors by name, as `weights_of` takes them."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self._tensors = tensors

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self._tensors


@torch.no_grad()
def _weights(model: CrossModel) -> dict[str, Tensor]:
    """Tensors by the names of `CrossCpuConfig.shapes`."""
    heads = [nn.functional.pad(h, (0, 0, 0, model.rows - len(h))) for h in model.heads()]
    text = [_weight(module) for part in model.layers for module in (part.text.k, part.text.v)]
    tensors = {
        "embed_tokens.weight": torch.cat(list(model.tables())),
        "lm_head.weight": torch.cat(heads),
        "text_kv.weight": torch.cat(text),
        **_norm("norm", model.norm),
    }
    for index, part in enumerate(model.layers):
        up = _weight(part.up)
        gate = {}
        if part.gated:
            gate_weight, up = up.chunk(2)
            gate = {"gate.weight": gate_weight}
        layer = {
            **_norm("norm", part.norm), **_norm("text_norm", part.text_norm),
            **_norm("mlp_norm", part.mlp_norm), **gate,
            "q.weight": _weight(part.own.q), "k.weight": _weight(part.own.k),
            "v.weight": _weight(part.own.v), "out.weight": _weight(part.own.out),
            "text_q.weight": _weight(part.text.q), "text_out.weight": _weight(part.text.out),
            "up.weight": up, "down.weight": _weight(part.down),
        }  # fmt: skip
        tensors |= {f"layers.{index}.{name}": tensor for name, tensor in layer.items()}
    return tensors


def _norm(name: str, module: nn.Module) -> dict[str, Tensor]:
    tensors = {f"{name}.weight": _weight(module)}
    if (bias := getattr(module, "bias", None)) is not None:
        tensors[f"{name}.bias"] = bias
    return tensors


def _weight(module: nn.Module) -> Tensor:
    weight: Tensor = module.weight  # type: ignore[assignment]
    return weight


def _products(layer: CrossLayer) -> Sequence[nn.Module]:
    parts = [layer.up, layer.down]
    for attention in (layer.own, layer.text):
        parts += [attention.q, attention.k, attention.v, attention.out]
    return parts

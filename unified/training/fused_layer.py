"""Layers of Llama's kind on CPUs with bfloat16 products: fewer passes, fewer copies.

Such a layer is RMSNorm, attention with rotary positions, RMSNorm, a gated MLP (Llama, Qwen3,
Mistral). Everything but the products is one compiled pass (`kernels.elementwise`); projections of
one input are one product; of what a gradient needs, what one pass makes again is not kept. So a
layer keeps 25 bytes a position and unit of width where transformers' own keeps 100.

Legend: T positions of all B sequences of length L, D width, I width inside the MLP, H heads, G key
heads, C channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unified.models.code_head import inner_model
from unified.training.fused_attention import attend_into, gradients_into, is_fused, run_kernel
from unified.training.kernels import elementwise

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["fuse_layers", "restore_layers"]

_CLOSE = 0.03
"""Of the largest number that a layer adds: what roundings to bfloat16 may differ by."""


def _bits(tensor: Tensor) -> np.ndarray:
    """bfloat16, contiguous, as uint16."""
    return tensor.detach().view(torch.int16).numpy().view(np.uint16)


def _partial_sums(rows: int, *shape: int) -> np.ndarray:
    """float32 (chunks, ...), one a chunk of rows."""
    return np.empty((-(-rows // elementwise.CHUNK), *shape), np.float32)


def _total(sums: np.ndarray) -> Tensor:
    return torch.from_numpy(sums).sum(0).bfloat16()


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    out = torch.empty_like(x)
    run_kernel(elementwise.norm, _bits(x), _bits(weight), np.float32(eps), _bits(out))
    return out


def _norm_gradient(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(gradient of x, gradient of the weight)."""
    x_grad, sums = torch.empty_like(x), _partial_sums(*x.shape)
    run_kernel(
        elementwise.norm_gradient, _bits(grad.contiguous()), _bits(x), _bits(weight),
        np.float32(eps), _bits(x_grad), sums,
    )  # fmt: skip
    return x_grad, _total(sums)


class _Norm(torch.autograd.Function):
    """RMSNorm of x (T, D)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return _norm(x, weight, eps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (*_norm_gradient(grad, *ctx.saved_tensors, ctx.eps), None)


class _Project(torch.autograd.Function):
    """RMSNorm of x (T, D), times several weights (O, D) side by side: (T, sum of O)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: Tensor, eps: float, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(x, norm, *weights)
        ctx.eps = eps
        return F.linear(_norm(x, norm, eps), torch.cat(weights))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, norm, *weights = ctx.saved_tensors
        weight_grad = grad.T @ _norm(x, norm, ctx.eps)
        x_grad, norm_grad = _norm_gradient(grad @ torch.cat(weights), x, norm, ctx.eps)
        parts = weight_grad.split([len(weight) for weight in weights])
        return (x_grad, norm_grad, None, *parts)


class _Attend(torch.autograd.Function):
    """Attention of qkv (T, (H + 2 G) C), normalised where norms have channels: (T, H C)."""

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, norms: Tensor, cos: Tensor, sin: Tensor, spans: Tensor,
        shape: _Shape,
    ) -> Tensor:  # fmt: skip
        out = qkv.new_empty(len(qkv), shape.heads * shape.channels)
        turned = shape.turned(qkv, norms, cos, sin)
        shifts = attend_into(*shape.split(turned, qkv), spans, shape.scale, shape.by_head(out))
        ctx.save_for_backward(qkv, norms, cos, sin, spans, out, shifts)
        ctx.shape = shape
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        qkv, norms, cos, sin, spans, out, shifts = ctx.saved_tensors
        shape: _Shape = ctx.shape
        qkv_grad = torch.empty_like(qkv)
        turned = shape.turned(qkv, norms, cos, sin)
        tensors = (
            shape.by_head(grad.contiguous()), *shape.split(turned, qkv), shape.by_head(out),
            *shape.split(qkv_grad, qkv_grad),
        )  # fmt: skip
        gradients_into(tensors, shifts, spans, shape.scale)
        sums = _partial_sums(len(qkv), *norms.shape)
        run_kernel(
            elementwise.turn_gradient, _bits(qkv_grad), _bits(qkv), *shape.arguments(norms),
            _bits(cos), _bits(sin), sums,
        )  # fmt: skip
        return qkv_grad, _total(sums), None, None, None, None


class _Shape:
    """Of a layer's attention over sequences of one length."""

    def __init__(self, attention: Any, length: int, eps: float) -> None:
        self.channels = attention.head_dim
        self.heads = attention.q_proj.out_features // self.channels
        self.groups = attention.k_proj.out_features // self.channels
        self.scale, self.length, self.eps = attention.scaling, length, eps

    def by_head(self, x: Tensor) -> Tensor:
        """(T, heads C) -> (B, heads, L, C), a view."""
        return x.view(-1, self.length, x.shape[1] // self.channels, self.channels).transpose(1, 2)

    def split(self, turned: Tensor, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys of the first, values of the second."""
        both, values = self.by_head(turned), self.by_head(qkv)
        rotated = self.heads + self.groups
        return both[:, : self.heads], both[:, self.heads : rotated], values[:, rotated:]

    def arguments(self, norms: Tensor) -> tuple[Any, ...]:
        """What `turn` and its gradient take after their arrays."""
        rotated = self.heads + self.groups
        return rotated, self.channels, _bits(norms), self.heads, np.float32(self.eps)

    def turned(self, qkv: Tensor, norms: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Queries and keys, normalised and rotated: (T, (H + G) C)."""
        out = qkv.new_empty(len(qkv), (self.heads + self.groups) * self.channels)
        run_kernel(
            elementwise.turn, _bits(qkv), *self.arguments(norms), _bits(cos), _bits(sin),
            _bits(out),
        )  # fmt: skip
        return out


class _Mlp(torch.autograd.Function):
    """(silu(first half) * second half of x (T, 2 I)) times a weight (D, I): (T, D)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        gated = x.new_empty(len(x), x.shape[1] // 2)
        run_kernel(elementwise.gate, _bits(x), _bits(gated))
        return F.linear(gated, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        x_grad, gated = torch.empty_like(x), x.new_empty(len(x), x.shape[1] // 2)
        above = grad @ weight
        run_kernel(elementwise.gate_gradient, _bits(above), _bits(x), _bits(x_grad), _bits(gated))
        return x_grad, grad.T @ gated


def _forward(layer: Any, hidden_BLD: Tensor, cos_sin: Sequence[Tensor], spans: Tensor) -> Tensor:
    """What a layer gives, fused."""
    attention, mlp, norm = layer.self_attn, layer.mlp, layer.input_layernorm
    batch, length, width = hidden_BLD.shape
    hidden = hidden_BLD.reshape(-1, width)
    cos, sin = (x.expand(batch, -1, -1).reshape(len(hidden), -1).contiguous() for x in cos_sin)
    projections = (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight)
    qkv = _Project.apply(hidden, norm.weight, norm.variance_epsilon, *projections)
    head_norms = [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
    norms, eps = hidden.new_empty(2, 0), 0.0
    if head_norms[0] is not None:
        norms = torch.stack([head_norm.weight for head_norm in head_norms])
        eps = head_norms[0].variance_epsilon
    attended = _Attend.apply(qkv, norms, cos, sin, spans, _Shape(attention, length, eps))
    hidden = hidden + attention.o_proj(attended)
    norm = layer.post_attention_layernorm
    both = _Project.apply(
        hidden, norm.weight, norm.variance_epsilon, mlp.gate_proj.weight, mlp.up_proj.weight
    )
    return (hidden + _Mlp.apply(both, mlp.down_proj.weight)).view_as(hidden_BLD)


def _layer_forward(
    layer: Any, hidden_states: Tensor, *_: Any, position_embeddings: Sequence[Tensor],
    document_spans: Tensor, **__: Any,
) -> Tensor:  # fmt: skip
    """In place of a layer's own forward, called as transformers calls it."""
    return _forward(layer, hidden_states, position_embeddings, document_spans)


def _norm_forward(norm: Any, x: Tensor) -> Tensor:
    flat = x.reshape(-1, x.shape[-1])
    out: Tensor = _Norm.apply(flat, norm.weight, norm.variance_epsilon)
    return out.view_as(x)


def fuse_layers(decoder: PreTrainedModel, layers: Sequence[nn.Module]) -> bool:
    """Let a decoder's layers and its last norm compute fused; True if all of them can.

    They must be trained whole, in bfloat16 on such a CPU, attend inside documents, be built as
    those of Llama, and give what their own forward gives.
    """
    inner = inner_model(decoder)
    if not all(_alike(layer) for layer in layers) or not _agrees(inner, layers[0]):
        return False
    for layer in layers:
        layer.forward = partial(_layer_forward, layer)  # type: ignore[method-assign]
    norm = getattr(inner, "norm", None)
    if _is_norm(norm):
        norm.forward = partial(_norm_forward, norm)
    return True


def restore_layers(decoder: PreTrainedModel, layers: Sequence[nn.Module]) -> None:
    """Undo `fuse_layers`."""
    for module in (*layers, getattr(inner_model(decoder), "norm", None)):
        if module is not None:
            vars(module).pop("forward", None)


def _is_norm(module: Any) -> bool:
    return type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon")


def _alike(layer: nn.Module) -> bool:
    """Whether a layer has the parts of Llama's and no others."""
    parts = dict(layer.named_children())
    if set(parts) != {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}:
        return False
    attention, mlp = dict(parts["self_attn"].named_children()), dict(parts["mlp"].named_children())
    norms = [parts["input_layernorm"], parts["post_attention_layernorm"]]
    norms += [attention.pop(name) for name in ("q_norm", "k_norm") if name in attention]
    if set(attention) != {"q_proj", "k_proj", "v_proj", "o_proj"}:
        return False
    activation = mlp.pop("act_fn", None)
    if set(mlp) != {"gate_proj", "up_proj", "down_proj"} or "SiLU" not in type(activation).__name__:
        return False
    linear = [*attention.values(), *mlp.values()]
    return (
        all(type(part) is nn.Linear and part.bias is None for part in linear)
        and all(_is_norm(norm) for norm in norms)
        and all(p.requires_grad and is_fused(p) for p in layer.parameters())
    )


@torch.no_grad()
def _agrees(inner: Any, layer: Any) -> bool:
    """Whether a layer gives the same as its own forward, up to rounding: its rotary positions may
    be of another kind, its parts of other meaning."""
    weight = layer.input_layernorm.weight
    rng = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, 11, len(weight), generator=rng).to(weight)
    positions = torch.tensor([[*range(5), *range(6)]])
    spans = torch.tensor([(0, 5), (5, 11)], dtype=torch.int32)
    try:
        cos_sin = inner.rotary_emb(hidden, positions)
        options = {"position_embeddings": cos_sin, "document_spans": spans}
        expected = layer(hidden, attention_mask=None, position_ids=positions, **options)
        actual = _layer_forward(layer, hidden, **options)
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return False
    if not isinstance(expected, Tensor):
        return False
    added = (expected - hidden).float()
    return bool((actual - expected).float().abs().max() <= _CLOSE * added.abs().max())

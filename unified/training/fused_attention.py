"""Attention inside documents by compiled loops: CPUs that multiply bfloat16 numbers (avx512_bf16).

Legend: B sequences, L positions, H heads, G key heads, C channels of a head, N documents.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unified.engine.backends.cpu.threads import ThreadPool, new_counters
from unified.training.kernels.vectors import SUPPORTED

__all__ = ["fused_attention", "is_fused"]


def is_fused(query: Tensor) -> bool:
    """Whether these loops can attend for a tensor of queries."""
    return SUPPORTED and query.device.type == "cpu" and query.dtype == torch.bfloat16


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPool:
    return ThreadPool(threads)


def _run(function: Any, *args: Any) -> None:
    """Run a kernel in as many threads as torch has."""
    _pool(torch.get_num_threads()).run(function, *args, new_counters(1))


def _dense(tensor: Tensor) -> Tensor:
    """The same, the channels of a head side by side."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _bits(tensor: Tensor) -> np.ndarray:
    """The memory of a tensor from its first number on: uint16."""
    size = 1 + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride()))
    flat = tensor.detach().as_strided((size,), (1,)).view(torch.int16)
    return flat.numpy().view(np.uint16)


def _strides(*tensors: Tensor) -> np.ndarray:
    """int64 (tensors, 3): of sequences, positions and heads; tensors (B, heads, L, C)."""
    order = (0, 2, 1)
    return np.array([[tensor.stride(n) for n in order] for tensor in tensors], np.int64)


def _documents(spans: Tensor) -> np.ndarray:
    """int64 (N, 2): those that are not empty, the longest first, so that no thread is left with a
    long one at the end."""
    documents = spans.numpy().astype(np.int64)
    lengths = documents[:, 1] - documents[:, 0]
    return documents[np.argsort(-lengths, kind="stable")][: np.count_nonzero(lengths)]


def _blank(documents: np.ndarray, length: int, *tensors: Tensor) -> None:
    """Zero the positions that lie in no document, of tensors (B, heads, L, C)."""
    at = 0
    ends = [(length * len(tensors[0]),) * 2]
    for start, stop in [*sorted(map(tuple, documents.tolist())), *ends]:
        while at < start:  # sequence by sequence
            sequence, first = divmod(at, length)
            last = min(length, start - sequence * length)
            for tensor in tensors:
                tensor[sequence, :, first:last] = 0
            at = sequence * length + last
        at = stop


@torch.library.custom_op("unified::fused_attention", mutates_args=())
def _attention(
    q_BHLC: Tensor, k_BGLC: Tensor, v_BGLC: Tensor, spans: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """(attention (B, L, H, C), log-sums of its weights float32 (H, B * L))."""
    from unified.training.kernels.attention import forward

    q, k, v = (_dense(tensor) for tensor in (q_BHLC, k_BGLC, v_BGLC))
    batch, heads, length, channels = q.shape
    out = q.new_empty(batch, length, heads, channels)
    shifts = q.new_zeros(heads, batch * length, dtype=torch.float32)
    documents = _documents(spans)
    turned = out.transpose(1, 2)
    _blank(documents, length, turned)
    groups = k.shape[1]
    _run(
        forward, _bits(q), _bits(k), _bits(v), _bits(turned), _strides(q, k, v, turned),
        documents, length, groups, heads // groups, channels, np.float32(scale), shifts.numpy(),
    )  # fmt: skip
    return out, shifts


@_attention.register_fake
def _(
    q_BHLC: Tensor, k_BGLC: Tensor, v_BGLC: Tensor, spans: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    batch, heads, length, channels = q_BHLC.shape
    shifts = q_BHLC.new_empty(heads, batch * length, dtype=torch.float32)
    return q_BHLC.new_empty(batch, length, heads, channels), shifts


@torch.library.custom_op("unified::fused_attention_gradients", mutates_args=())
def _gradients(
    grad_BLHC: Tensor, q_BHLC: Tensor, k_BGLC: Tensor, v_BGLC: Tensor, out_BLHC: Tensor,
    shifts: Tensor, spans: Tensor, scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    from unified.training.kernels.attention import backward

    q, k, v = (_dense(tensor) for tensor in (q_BHLC, k_BGLC, v_BGLC))
    batch, heads, length, channels = q.shape
    groups = k.shape[1]
    # As the layers' own projections have them.
    grads = tuple(
        q.new_empty(batch, length, number, channels).transpose(1, 2)
        for number in (heads, groups, groups)
    )
    documents = _documents(spans)
    _blank(documents, length, *grads)
    tensors = (
        _dense(grad_BLHC).transpose(1, 2), q, k, v, _dense(out_BLHC).transpose(1, 2), *grads
    )  # fmt: skip
    _run(
        backward, *map(_bits, tensors), _strides(*tensors), documents, length, groups,
        heads // groups, channels, np.float32(scale), shifts.numpy(),
    )  # fmt: skip
    return grads


@_gradients.register_fake
def _(
    grad_BLHC: Tensor, q_BHLC: Tensor, k_BGLC: Tensor, v_BGLC: Tensor, out_BLHC: Tensor,
    shifts: Tensor, spans: Tensor, scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    batch, heads, length, channels = q_BHLC.shape
    groups = k_BGLC.shape[1]
    return tuple(
        q_BHLC.new_empty(batch, length, number, channels).transpose(1, 2)
        for number in (heads, groups, groups)
    )  # type: ignore[return-value]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:4], *output)
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.scale = inputs[4]


def _back(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    q, k, v, spans, out, shifts = ctx.saved_tensors
    return (*_gradients(grad, q, k, v, out, shifts, spans, ctx.scale), None, None)


_attention.register_autograd(_back, setup_context=_keep)


def fused_attention(
    q_BHLC: Tensor, k_BGLC: Tensor, v_BGLC: Tensor, spans: Tensor, scale: float
) -> Tensor:
    """Causal attention inside each document: bfloat16 (B, L, H, C); 0 outside all of them.

    Scores, weights and sums are float32, weights are rounded to bfloat16 before their products. The
    gradients of random inputs are within 1% of the largest of those in float64. The bits do not
    depend on the number of threads.

    Args:
        q_BHLC, k_BGLC, v_BGLC: bfloat16, of any strides.
        spans: int32 (N, 2), where each document begins and ends, counted over all sequences; each
            lies in one sequence; empty ones are passed over.
        scale: of the scores.
    """
    out: Tensor = _attention(q_BHLC, k_BGLC, v_BGLC, spans, scale)[0]
    return out

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

__all__ = ["attend_into", "fused_attention", "gradients_into", "is_fused", "run_kernel"]


def is_fused(query: Tensor) -> bool:
    """Whether these loops can attend for a tensor of queries."""
    return SUPPORTED and query.device.type == "cpu" and query.dtype == torch.bfloat16


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPool:
    return ThreadPool(threads)


def run_kernel(function: Any, *args: Any) -> None:
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


def attend_into(
    q_BHLC: Tensor, k_BGLC: Tensor, v_BGLC: Tensor, spans: Tensor, scale: float, out_BHLC: Tensor
) -> Tensor:
    """Fill out_BHLC, of any strides, as `fused_attention`; returns log-sums float32 (H, B * L)."""
    from unified.training.kernels.attention import forward

    tensors = (q_BHLC, k_BGLC, v_BGLC, out_BHLC)
    batch, heads, length, channels = q_BHLC.shape
    groups = k_BGLC.shape[1]
    documents = _documents(spans)
    _blank(documents, length, out_BHLC)
    shifts = q_BHLC.new_zeros(heads, batch * length, dtype=torch.float32)
    run_kernel(
        forward, *map(_bits, tensors), _strides(*tensors), documents, length, groups,
        heads // groups, channels, np.float32(scale), shifts.numpy(),
    )  # fmt: skip
    return shifts


def gradients_into(
    tensors: tuple[Tensor, ...], shifts: Tensor, spans: Tensor, scale: float
) -> None:
    """Fill the last three of `tensors`: all (B, heads, L, C), the gradient of the output, queries,
    keys, values, the output, and the gradients of queries, keys and values."""
    from unified.training.kernels.attention import backward

    heads, length, channels = tensors[1].shape[1:]
    groups = tensors[2].shape[1]
    documents = _documents(spans)
    _blank(documents, length, *tensors[5:])
    run_kernel(
        backward, *map(_bits, tensors), _strides(*tensors), documents, length, groups,
        heads // groups, channels, np.float32(scale), shifts.numpy(),
    )  # fmt: skip


@torch.library.custom_op("unified::fused_attention", mutates_args=())
def _attention(
    q_BHLC: Tensor, k_BGLC: Tensor, v_BGLC: Tensor, spans: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """(attention (B, L, H, C), log-sums of its weights float32 (H, B * L))."""
    batch, heads, length, channels = q_BHLC.shape
    out = q_BHLC.new_empty(batch, length, heads, channels)
    tensors = (_dense(tensor) for tensor in (q_BHLC, k_BGLC, v_BGLC))
    return out, attend_into(*tensors, spans, scale, out.transpose(1, 2))


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
    batch, heads, length, channels = q_BHLC.shape
    groups = k_BGLC.shape[1]
    # As the layers' own projections have them.
    grads = tuple(
        q_BHLC.new_empty(batch, length, number, channels).transpose(1, 2)
        for number in (heads, groups, groups)
    )
    inputs = (grad_BLHC.transpose(1, 2), q_BHLC, k_BGLC, v_BGLC, out_BLHC.transpose(1, 2))
    gradients_into((*map(_dense, inputs), *grads), shifts, spans, scale)
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

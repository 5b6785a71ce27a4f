"""Attention inside the documents of packed sequences on the CPU: `attn_implementation="documents"`.

A sequence holds several documents, and each may attend to itself alone. Each is computed by itself,
on views: with a mask over whole sequences of 2,048 positions and documents of 80 to 500, nine
tenths of the work would be masked. Forward is torch's flash kernel; its backward takes a third of a
step on the CPU, so that one is products and softmax, recomputed as in FlashAttention
(arXiv:2205.14135).

Legend: T positions of all sequences, H heads, G key heads, C channels of a head, N documents.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from unified.training.fused_attention import fused_attention, is_fused

__all__ = ["NAME", "attend", "document_attention", "register"]

NAME = "documents"
# Products are of lengths that are multiples of this: oneDNN makes code for every new shape, which
# takes ten times as long as the product itself.
ALIGNED = 32
# About so many queries of one product; a longer document is computed in pieces, each up to its last
# key.
QUERIES = 256
# Documents side by side that are no longer than this together are one product with a mask: of
# twenty positions each, a call for every one would cost more than what it computes.
TOGETHER = 128


@lru_cache(maxsize=256)
def _future(queries: int, first: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What is added to scores of queries from position `first` on: (queries, first + queries),
    minus infinity where a key comes after the query. A sum costs half of a masked fill."""
    bias = torch.zeros(queries, first + queries, dtype=dtype, device=device)
    mask = torch.ones(bias.shape, dtype=torch.bool, device=device).triu_(1 + first)
    return bias.masked_fill_(mask, -torch.inf)


def _blocks(spans: Tensor, dtype: torch.dtype) -> list[tuple[int, int, Tensor | None]]:
    """(start, stop, what is added to scores, None where that hides the future alone)."""
    runs: list[list[tuple[int, int]]] = []  # documents that are computed together
    for start, stop in spans.tolist():
        if start == stop:
            continue
        last = runs[-1] if runs else None
        if last is not None and last[-1][1] == start and stop - last[0][0] <= TOGETHER:
            last.append((start, stop))
        else:
            runs.append([(start, stop)])
    blocks: list[tuple[int, int, Tensor | None]] = []
    for documents in runs:
        first, last_stop = documents[0][0], documents[-1][1]
        bias = None
        if len(documents) > 1:
            sizes = torch.tensor([b - a for a, b in documents], device=spans.device)
            owner = torch.arange(len(documents), device=spans.device).repeat_interleave(sizes)
            bias = _future(len(owner), 0, dtype, spans.device)
            bias = bias.masked_fill(owner[:, None] != owner, -torch.inf)
        blocks.append((first, last_stop, bias))
    return blocks


def _blank(blocks: list[tuple[int, int, Tensor | None]], *tensors: Tensor) -> None:
    """Zero what lies in no document, (H, T, C)."""
    at = 0
    for start, stop, _ in sorted(blocks, key=lambda block: block[0]):
        for tensor in tensors:
            tensor[:, at:start] = 0
        at = stop
    for tensor in tensors:
        tensor[:, at:] = 0


def _probabilities(q: Tensor, k: Tensor, shared: int, bias: Tensor) -> Tensor:
    """q (G, shared * n, C), k (G, m, C), bias (n, m) -> (G, shared * n, m)."""
    added = bias.expand(len(q), shared, *bias.shape).flatten(1, 2)
    return torch.softmax(torch.baddbmm(added, q, k.transpose(1, 2)), dim=-1)


@torch.library.custom_op("unified::document_attention", mutates_args=())
def document_attention(
    q_HTC: Tensor, k_GTC: Tensor, v_GTC: Tensor, spans: Tensor, scale: float
) -> Tensor:
    """Causal attention inside each document: (H, T, C); 0 outside all of them.

    spans: int32 (N, 2), where each document begins and ends; empty ones are passed over.
    """
    out = torch.empty_like(q_HTC)
    shared = len(q_HTC) // len(k_GTC)
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    blocks = _blocks(spans, q_HTC.dtype)
    _blank(blocks, out)
    for start, stop, bias in blocks:
        q, k, v = (x[:, start:stop] for x in (q_HTC, k_GTC, v_GTC))
        mask = None if bias is None else bias[None, None]
        for head in range(shared):
            attended = flash(
                q[None, head::shared], k[None], v[None], 0.0, bias is None, attn_mask=mask,
                scale=scale,
            )[0]  # fmt: skip
            out[head::shared, start:stop] = attended[0]
    return out


@document_attention.register_fake
def _(q_HTC: Tensor, k_GTC: Tensor, v_GTC: Tensor, spans: Tensor, scale: float) -> Tensor:
    return torch.empty_like(q_HTC)


@torch.library.custom_op("unified::document_attention_gradients", mutates_args=())
def _gradients(
    grad_HTC: Tensor, q_HTC: Tensor, k_GTC: Tensor, v_GTC: Tensor, spans: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    grads = torch.empty_like(q_HTC), torch.empty_like(k_GTC), torch.empty_like(v_GTC)
    blocks = _blocks(spans, q_HTC.dtype)
    _blank(blocks, *grads)
    scaled = q_HTC * scale
    groups, total = k_GTC.shape[:2]
    shared = len(q_HTC) // groups

    def queries(x_HTC: Tensor, first: int, last: int) -> Tensor:
        """Those that share a key head one after the other: (G, shared * n, C)."""
        return x_HTC[:, first:last].reshape(groups, -1, x_HTC.shape[-1]).contiguous()

    for start, stop, bias in blocks:
        # Contiguous, a product takes two thirds of the time.
        most = min(total, start + _up(stop - start))
        all_keys, all_values = k_GTC[:, start:most].contiguous(), v_GTC[:, start:most].contiguous()
        size = stop - start if bias is not None else _piece(stop - start)
        for first in range(start, stop, size):
            last = min(stop, first + size)
            # Up to ALIGNED positions: queries behind the end count nothing, keys there are future.
            end = last if bias is not None else min(total, first + _up(last - first))
            keys, values = all_keys[:, : end - start], all_values[:, : end - start]
            q, above = queries(scaled, first, end), queries(grad_HTC, first, end)
            if end > last:
                above = above.clone()  # it may still be what was given
                above.view(groups, shared, end - first, -1)[:, :, last - first :] = 0
            added = bias
            if added is None:
                added = _future(end - first, first - start, q.dtype, q.device)
            weights = _probabilities(q, keys, shared, added)
            _add(grads[2], start, first, last, torch.bmm(weights.transpose(1, 2), above))
            slopes = torch.bmm(above, values.transpose(1, 2))
            slopes = torch._softmax_backward_data(slopes, weights, -1, weights.dtype)
            q_grad = torch.bmm(slopes, keys).view(len(q_HTC), end - first, -1)
            grads[0][:, first:last] = q_grad[:, : last - first]
            _add(grads[1], start, first, last, torch.bmm(slopes.transpose(1, 2), q))
    grads[0].mul_(scale)
    return grads


def _up(positions: int) -> int:
    return -(-positions // ALIGNED) * ALIGNED


def _piece(length: int) -> int:
    """How many queries of a document are computed at once."""
    return _up(-(-length // max(1, round(length / QUERIES))))


def _add(total_GTC: Tensor, start: int, first: int, last: int, part: Tensor) -> None:
    """To the positions start..last; those from `first` on are still empty."""
    total_GTC[:, first:last] = part[:, first - start : last - start]
    if first > start:
        total_GTC[:, start:first] += part[:, : first - start]


@_gradients.register_fake
def _(
    grad_HTC: Tensor, q_HTC: Tensor, k_GTC: Tensor, v_GTC: Tensor, spans: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(q_HTC), torch.empty_like(k_GTC), torch.empty_like(v_GTC)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.scale = inputs[4]


def _back(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (*_gradients(grad.contiguous(), *ctx.saved_tensors, ctx.scale), None, None)


document_attention.register_autograd(_back, setup_context=_keep)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    document_spans: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers calls: query (B, H, L, C), key and value (B, G, L, C) -> (B, L, H, C).

    document_spans: as `document_attention` has them, positions counted over all B sequences.
    """
    assert document_spans is not None, "attention by documents needs document_spans"
    batch, heads, length, channels = query.shape
    scale = channels**-0.5 if scaling is None else scaling
    if is_fused(query):
        return fused_attention(query, key, value, document_spans, scale), None
    flat = [x.transpose(0, 1).reshape(-1, batch * length, channels) for x in (query, key, value)]
    out = document_attention(*(x.contiguous() for x in flat), document_spans, scale)
    return out.transpose(0, 1).reshape(batch, length, heads, channels), None


def register() -> None:
    """Make it known to transformers."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)

"""Attention inside documents whose spans may see themselves both ways, on any device.

transformers knows it as `attn_implementation="bidirectional"`.

Each document of a packed sequence is computed by itself, under a mask of its own: a query sees its
document up to its own position and, inside such a span, up to the span's last.

Legend: T positions of all sequences, n of a document, H heads, G key heads, C channels of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

__all__ = ["NAME", "attend", "register"]

NAME = "bidirectional"


@torch.compiler.disable  # where documents begin is data
def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    document_spans: Tensor | None = None,
    seen_until: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers calls: query (B, H, L, C), key and value (B, G, L, C) -> (B, L, H, C).

    document_spans: int32 (N, 2), where documents begin and end, counted over all B sequences.
    seen_until: int64 (T,), up to which position each sees its document.
    """
    assert document_spans is not None, "attention by documents needs document_spans"
    assert seen_until is not None, "attention to what comes later needs seen_until"
    batch, heads, length = query.shape[:3]
    q, k, v = (
        x.transpose(0, 1).reshape(-1, batch * length, x.shape[-1]) for x in (query, key, value)
    )
    grouped, parts, at = len(q) != len(k), [], 0
    documents = sorted(span for span in document_spans.tolist() if span[0] < span[1])
    for start, stop in documents:
        parts.append(v.new_zeros(heads, start - at, v.shape[-1]))
        own = slice(start, stop)
        columns = torch.arange(start, stop, device=q.device)
        mask = columns < seen_until[own, None]  # (n, n)
        attended = scaled_dot_product_attention(
            q[None, :, own], k[None, :, own], v[None, :, own], mask, scale=scaling,
            enable_gqa=grouped,
        )  # fmt: skip
        parts.append(attended[0])
        at = stop
    parts.append(v.new_zeros(heads, batch * length - at, v.shape[-1]))
    out = torch.cat(parts, 1)  # (H, T, C)
    if not documents:  # every weight has a gradient all the same
        out = out + 0 * (q.sum() + k.sum() + v.sum())
    return out.transpose(0, 1).reshape(batch, length, heads, -1), None


def register() -> None:
    """Make it known to transformers."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)

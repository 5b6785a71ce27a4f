"""Cross-entropy among the ids that the grammar allows, without ever holding all logits.

At most positions the grammar allows a part of the vocabulary: a code of one codebook, or text. Only
the head's rows of that part are used, a few positions at a time, and the gradients are computed
on the way, since the weight of every position is known before. Nothing of the size of positions
times vocabulary is kept: the idea of cut cross-entropy (arXiv:2411.09009) and of Liger
(arXiv:2410.10989).

Legend: P positions with loss, D width, V vocabulary, R allowed rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unified.training.fused_attention import is_fused, run_kernel
from unified.vocabulary.block import Ranges

__all__ = ["Head", "HeadPart", "allowed_loss"]

# Positions computed at once: as many as have this many bytes of float32 logits; it bounds memory (4
# to 128 MB took the same time on 4,170 rows, to 5%). But never fewer than FEWEST, for whom the
# head's rows are read too often: at 151,936 rows 1,024 positions took 2.8 s by 32, 1.7 by 256, 2.1
# by 512.
CHUNK_BYTES = 8 << 20
FEWEST = 256


@dataclass(frozen=True)
class HeadPart:
    """Rows of the head from `start` on: weight (rows, D), bias (rows,) or None."""

    start: int
    weight: Tensor
    bias: Tensor | None = None

    @property
    def stop(self) -> int:
        return self.start + len(self.weight)


@dataclass(frozen=True)
class Head:
    """The rows that make logits, in parts that follow one another; softcap: of Gemma 2, or None."""

    parts: tuple[HeadPart, ...]
    softcap: float | None = None


def allowed_loss(
    hidden_PD: Tensor,
    head: Head,
    targets: Tensor,
    weights: Tensor,
    groups: Sequence[tuple[Ranges, int]],
    z_loss: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """(weighted sum, float32, with gradient; losses float32 (P,), without) of predicting `targets`.

    The loss of a position is the cross-entropy of its target among the allowed ids, in nats; the
    weighted sum has besides `z_loss` times the squared log-normaliser (arXiv:2204.02311).

    Args:
        hidden_PD: hidden states before the head, sorted by group.
        targets: int64 (P,), ids that lie within their group's ranges.
        weights: float32 (P,), of any sign.
        groups: allowed ranges and how many positions in a row have them; the numbers add up to P.
    """
    assert sum(number for _, number in groups) == len(targets)
    tensors = [t for part in head.parts for t in (part.weight, part.bias)]
    starts = tuple(part.start for part in head.parts)
    train = torch.is_grad_enabled() and (
        hidden_PD.requires_grad or any(t is not None and t.requires_grad for t in tensors)
    )
    total, losses = _AllowedLoss.apply(
        hidden_PD, targets, weights, tuple(groups), z_loss, head.softcap, starts, train, *tensors
    )
    return total, losses


class _AllowedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_PD: Tensor,
        targets: Tensor,
        weights: Tensor,
        groups: tuple[tuple[Ranges, int], ...],
        z_loss: float,
        softcap: float | None,
        starts: tuple[int, ...],
        train: bool,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        parts = [
            HeadPart(start, weight, bias)  # type: ignore[arg-type]
            for start, weight, bias in zip(starts, tensors[::2], tensors[1::2])
        ]
        losses = torch.zeros(len(targets), dtype=torch.float32, device=hidden_PD.device)
        extra = losses.new_zeros(())
        wanted = ctx.needs_input_grad
        hidden_grad = torch.zeros_like(hidden_PD) if train and wanted[0] else None
        # Sums over chunks in bfloat16 would lose what is small; each is as large as its part.
        grads = [
            torch.zeros_like(t, dtype=torch.float32) if train and t is not None and need else None
            for t, need in zip(tensors, wanted[8:])
        ]
        at = 0
        for ranges, number in groups:
            pieces = _pieces(ranges, parts)
            width = sum(stop - start for _, start, stop in pieces)
            together = max(min(FEWEST, number), CHUNK_BYTES // max(1, 4 * width))
            for begin in range(at, at + number, together) if width > 1 else ():
                chunk = slice(begin, min(at + number, begin + together))
                x = hidden_PD[chunk]
                if softcap is None and is_fused(x):
                    slopes, losses[chunk], normaliser = _fused(
                        x, parts, pieces, targets[chunk], weights[chunk], z_loss, train
                    )
                    if z_loss:
                        extra += z_loss * (weights[chunk] * normaliser.square()).sum()
                    if train:
                        _add_gradients(slopes, x, parts, pieces, hidden_grad, chunk, grads)
                    continue
                logits, local = _logits(x, parts, pieces, targets[chunk], softcap)
                target = logits.gather(1, local[:, None])[:, 0]
                # In place, in four passes: torch.logsumexp makes two more arrays of this size.
                bend = None
                if softcap is not None and train:
                    bend = 1 - (logits / softcap).square()
                greatest = logits.amax(1)
                total = logits.sub_(greatest[:, None]).exp_().sum(1)
                normaliser = greatest + total.log()
                losses[chunk] = normaliser - target
                weight = weights[chunk]
                if z_loss:
                    extra += z_loss * (weight * normaliser.square()).sum()
                if not train:
                    continue
                slope = weight + 2 * z_loss * weight * normaliser if z_loss else weight
                logits.mul_((slope / total)[:, None])
                logits.scatter_add_(1, local[:, None], -weight[:, None])
                if bend is not None:
                    logits.mul_(bend)
                _add_gradients(logits, x, parts, pieces, hidden_grad, chunk, grads)
            at += number
        typed = [g if g is None else g.to(t.dtype) for g, t in zip(grads, tensors)]  # type: ignore[union-attr]
        ctx.save_for_backward(hidden_grad, *typed)
        ctx.mark_non_differentiable(losses)
        return (losses * weights).sum() + extra, losses

    @staticmethod
    def backward(ctx: Any, total_grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden_grad, *grads = ctx.saved_tensors

        def scaled(grad: Tensor | None) -> Tensor | None:
            return None if grad is None else grad * total_grad.to(grad.dtype)

        return (scaled(hidden_grad), *(None,) * 7, *map(scaled, grads))


# (part, first row, last row + 1), rows counted in the part
_Piece = tuple[int, int, int]


def _pieces(ranges: Ranges, parts: Sequence[HeadPart]) -> list[_Piece]:
    """The allowed rows as runs of rows of the parts, in order of their ids."""
    pieces = []
    for start, stop in ranges:
        for index, part in enumerate(parts):
            first, last = max(start, part.start), min(stop, part.stop)
            if first < last:
                pieces.append((index, first - part.start, last - part.start))
    return pieces


def _fused(
    x: Tensor, parts: Sequence[HeadPart], pieces: Sequence[_Piece], targets: Tensor,
    weights: Tensor, z_loss: float, train: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(slopes bfloat16 (n, R) where `train` is set, losses and log-normalisers float32 (n,)), by
    one pass over the logits."""
    from unified.training.kernels.cross_entropy import cross_entropy

    logits, local = _logits(x, parts, pieces, targets, None, x.dtype)
    losses, normalisers = torch.empty_like(weights), torch.empty_like(weights)
    run_kernel(
        cross_entropy, logits.view(torch.int16).numpy().view(np.uint16), local.numpy(),
        weights.numpy(), np.float32(z_loss), train, losses.numpy(), normalisers.numpy(),
    )  # fmt: skip
    return logits, losses, normalisers


def _logits(
    x: Tensor,
    parts: Sequence[HeadPart],
    pieces: Sequence[_Piece],
    targets: Tensor,
    softcap: float | None,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """(logits (n, R), index of each target among the allowed ids int64 (n,))."""
    logits = x.new_empty((len(x), sum(b - a for _, a, b in pieces)), dtype=dtype)
    local = torch.zeros_like(targets)
    column = 0
    for index, first, last in pieces:
        part = parts[index]
        bias = None if part.bias is None else part.bias[first:last]
        product = F.linear(x, part.weight[first:last], bias)
        if len(pieces) == 1 and dtype == x.dtype:
            logits = product
        else:
            logits[:, column : column + last - first] = product
        row = targets - part.start
        local = torch.where((row >= first) & (row < last), row - first + column, local)
        column += last - first
    if softcap is not None:
        logits.div_(softcap).tanh_().mul_(softcap)
    return logits, local


def _add_gradients(
    slopes: Tensor,
    x: Tensor,
    parts: Sequence[HeadPart],
    pieces: Sequence[_Piece],
    hidden_grad: Tensor | None,
    chunk: slice,
    grads: Sequence[Tensor | None],
) -> None:
    """Add what a chunk gives; slopes: (n, R), the gradient of its logits."""
    column = 0
    for index, first, last in pieces:
        part = slopes[:, column : column + last - first]
        slope = part.to(x.dtype)
        if hidden_grad is not None:
            hidden_grad[chunk] += slope @ parts[index].weight[first:last]
        weight_grad, bias_grad = grads[2 * index], grads[2 * index + 1]
        if weight_grad is not None:
            weight_grad[first:last] += slope.T @ x
        if bias_grad is not None:
            bias_grad[first:last] += part.sum(0)
        column += last - first

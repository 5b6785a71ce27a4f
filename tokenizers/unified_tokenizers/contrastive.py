"""The contrastive losses that hold media and their texts to one space.

`softmax`: each medium is to name its text among those of the batch and each text its medium
(InfoNCE; CLIP, arXiv:2103.00020). `sigmoid`: every pair of a batch by itself, whether it belongs
together (SigLIP, arXiv:2303.15343). Pairs whose texts are equal belong together too: two pictures
of "a fox" are no wrong answers to each other.

Legend: B batch, D width of the space.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["CONTRASTIVE_LOSSES", "MOST_SCALE", "ContrastiveLoss", "contrastive_loss", "unit"]

ContrastiveLoss = Literal["softmax", "sigmoid"]
CONTRASTIVE_LOSSES: tuple[str, ...] = get_args(ContrastiveLoss)
MOST_SCALE = 100.0
"""What likenesses are multiplied by, at most (arXiv:2103.00020, section 2.5)."""


def unit(features_BD: Tensor) -> Tensor:
    """Vectors of length one, float32: their products are the cosines of their angles."""
    return F.normalize(features_BD.float(), dim=-1)


def contrastive_loss(
    media_BD: Tensor,
    texts_BD: Tensor,
    texts: Sequence[str],
    scale: Tensor,
    bias: Tensor | None = None,
    kind: str = "softmax",
) -> Tensor:
    """The loss of a batch, a scalar, per medium.

    Args:
        media_BD, texts_BD: of length one.
        texts: the texts themselves; pairs of equal ones belong together.
        scale: what cosines are multiplied by, its logarithm; `MOST_SCALE` at most counts.
        bias: added to them, of `sigmoid`.
        kind: of `CONTRASTIVE_LOSSES`.
    """
    if kind not in CONTRASTIVE_LOSSES:
        raise ValueError(f"loss is {kind!r}, expected one of {', '.join(CONTRASTIVE_LOSSES)}")
    numbers: dict[str, int] = {}
    number_B = torch.tensor([numbers.setdefault(text, len(numbers)) for text in texts])
    same_BB = (number_B[:, None] == number_B).to(media_BD.device)
    logits_BB = scale.exp().clamp(max=MOST_SCALE) * media_BD @ texts_BD.T
    if kind == "sigmoid":
        if bias is not None:
            logits_BB = logits_BB + bias
        signs_BB = same_BB.to(logits_BB.dtype) * 2 - 1
        return -F.logsigmoid(signs_BB * logits_BB).sum(1).mean()
    target_BB = same_BB.to(logits_BB.dtype)
    target_BB = target_BB / target_BB.sum(1, keepdim=True)  # symmetric: so are its columns
    return (F.cross_entropy(logits_BB, target_BB) + F.cross_entropy(logits_BB.T, target_BB)) / 2

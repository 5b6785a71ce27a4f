"""Quantizers: vectors <-> codes; all kinds that matter, of vector-quantize-pytorch, in one module.

Legend: B batch, N vectors, D width, K codebooks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from vector_quantize_pytorch import (
    FSQ,
    LFQ,
    ResidualFSQ,
    ResidualSimVQ,
    ResidualVQ,
    SimVQ,
    VectorQuantize,
)

from unified_tokenizers.quantizer_config import KINDS, QuantizerConfig

__all__ = ["KINDS", "CodeRows", "Quantized", "Quantizer", "QuantizerConfig"]


class Quantized(NamedTuple):
    """values: float32 (B, N, D), the codes' vectors, with a gradient to the input. codes: int64
    (B, N, K). loss: float32 (), of the quantizer itself; 0 for FSQ."""

    values: Tensor
    codes: Tensor
    loss: Tensor


class Quantizer(nn.Module):
    """Vectors (B, N, D), D = `config.width`, to codes (B, N, K) and back.

    Computes in float32 whatever the caller's mode: in bfloat16 FSQ gives other codes. In training
    mode `vq` and `cosine-vq` move their codebooks with every call, in step on all ranks.
    """

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.parts = nn.ModuleList(_part(config) for _ in range(config.groups))

    def forward(self, vectors_BND: Tensor) -> Quantized:
        if self.training and self.config.revive:
            self._expect(vectors_BND.shape[0] * vectors_BND.shape[1])
        values, codes, losses = [], [], []
        with torch.autocast(vectors_BND.device.type, enabled=False):
            for part, chunk in zip(self.parts, vectors_BND.float().chunk(self.config.groups, -1)):
                value, code, *loss = part(chunk)
                values.append(value)
                codes.append(rearrange(code, "b n ... -> b n (...)").long())
                losses += [part_loss.sum() for part_loss in loss]
        zero = vectors_BND.new_zeros((), dtype=torch.float32)
        return Quantized(torch.cat(values, -1), torch.cat(codes, -1), sum(losses, zero))

    def values_of(self, codes_BNK: Tensor) -> Tensor:
        """The vectors of codes: float32 (B, N, D)."""
        values = []
        with torch.autocast(codes_BNK.device.type, enabled=False):
            for part, codes in zip(self.parts, codes_BNK.chunk(self.config.groups, -1)):
                if isinstance(part, ResidualFSQ | ResidualSimVQ | ResidualVQ):
                    values.append(part.get_output_from_indices(codes))
                elif isinstance(part, VectorQuantize):
                    values.append(part.get_output_from_indices(codes[..., 0]))
                else:
                    assert isinstance(part, FSQ | LFQ | SimVQ)
                    values.append(part.indices_to_codes(codes[..., 0]))
        return torch.cat(values, -1).float()

    def _codebooks(self) -> Iterator[Any]:
        """The codebooks that follow by moving averages."""
        for module in self.modules():
            if isinstance(module, VectorQuantize):
                yield module._codebook

    def _expect(self, number: int) -> None:
        """Tell the codebooks what a code's mean use is, when so many vectors come at once.

        The library revives below a fixed number of uses, whatever the batch and the codebook: at
        1,024 vectors and 4,096 codes its usual 2 would replace every code at every step.
        """
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            number *= torch.distributed.get_world_size()
        mean = number / self.config.codebook_size
        for codebook in self._codebooks():
            codebook.threshold_ema_dead_code = self.config.revive * mean
            # As if it had been used like the others: it is given time to be found.
            codebook.reset_cluster_size = mean


def _part(config: QuantizerConfig) -> nn.Module:
    """The library's quantizer of one group."""
    deep: dict[str, Any] = {"num_quantizers": config.depth} if config.depth > 1 else {}
    if config.kind == "fsq":
        levels = list(config.levels)
        return ResidualFSQ(levels=levels, **deep) if deep else FSQ(levels)
    if config.kind in ("lfq", "bsq"):
        return LFQ(
            codebook_size=config.codes, spherical=config.kind == "bsq",
            entropy_loss_weight=config.entropy, commitment_loss_weight=config.commitment,
        )  # fmt: skip
    shape = {"dim": config.dim, "codebook_size": config.codes, **deep}
    if config.kind == "simvq":
        return (ResidualSimVQ if deep else SimVQ)(**shape)
    return (ResidualVQ if deep else VectorQuantize)(
        **shape, use_cosine_sim=config.kind == "cosine-vq", decay=config.decay, kmeans_init=True,
        threshold_ema_dead_code=config.revive, commitment_weight=config.commitment,
    )  # fmt: skip


class CodeRows(nn.Embedding):
    """A row of numbers for every code of every codebook, added up: (..., K) to (..., width).

    A code's vector says where it lies in a few dimensions; its row says what it means. Rows pass no
    gradient to the encoder, the projection of the vectors beside them does.
    """

    starts: Tensor

    def __init__(self, codebook_sizes: tuple[int, ...], width: int) -> None:
        super().__init__(sum(codebook_sizes), width)
        starts = torch.tensor([0, *codebook_sizes[:-1]]).cumsum(0)
        self.register_buffer("starts", starts, persistent=False)
        # Rows of torch's unit variance drown the projection: 3% of the codes used after 100 steps.
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes + self.starts).sum(-2)

"""Quantizers: vectors <-> codes; all kinds that matter, of vector-quantize-pytorch, in one module.

Legend: B batch, N vectors, D width, K codebooks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
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

from unified_base.config import parse_config

__all__ = ["KINDS", "CodeRows", "Quantized", "Quantizer", "QuantizerConfig"]

KINDS = ("vq", "cosine-vq", "simvq", "fsq", "lfq", "bsq")
# FSQ and LFQ keep every code's vector: `levels=[4] * 16` asks for 34 GB in the middle of a run.
_MOST_CODES = 2**20
_TRAINING = {"training": True}


@dataclass(frozen=True)
class QuantizerConfig:
    """Which quantizer, and its shape.

    Attributes:
        kind: what finds the code of a vector:
            `vq`, the nearest row of a codebook that follows by moving averages (VQ-VAE-2,
            arXiv:1906.00446); `cosine-vq`, the same on unit vectors (ViT-VQGAN, arXiv:2110.04627);
            `simvq`, the nearest row of a fixed random codebook under a trained linear map
            (arXiv:2411.02038); `fsq`, every number rounded to a few levels (arXiv:2309.15505);
            `lfq`, the signs (MAGVIT-v2, arXiv:2310.05737); `bsq`, the signs of a unit vector
            (arXiv:2406.07548).
        codes: codes of a codebook; a power of two for `lfq` and `bsq`; not for `fsq`.
        levels: of each number, for `fsq` alone; a codebook has their product of codes.
        dim: width of a code's vector, for `vq`, `cosine-vq` and `simvq` alone; the others' follows
            from their codes. Few dimensions (8) are what keeps a large codebook in use.
        depth: residual codebooks, each coding what those before it left over (arXiv:2107.03312).
        groups: parts that a vector is cut into, each with codebooks of its own (arXiv:2305.02765).
        decay: of the moving averages of `vq` and `cosine-vq`. The slower, the longer it takes to
            see that a code is used no more: log(revive) / log(decay) steps, 23 as set here.
        revive: a code of theirs that is used less than this share of the mean is put where a vector
            of the batch is; 0: never.
        commitment: weight of the loss that keeps vectors near their codes.
        entropy: weight of the loss by which `lfq` and `bsq` use all their codes.

    The last four are of training: a fingerprint leaves them out.
    """

    kind: str = "fsq"
    codes: int = 0
    levels: tuple[int, ...] = ()
    dim: int = 0
    depth: int = 1
    groups: int = 1
    decay: float = field(default=0.97, metadata=_TRAINING)
    revive: float = field(default=0.5, metadata=_TRAINING)
    commitment: float = field(default=0.25, metadata=_TRAINING)
    entropy: float = field(default=0.1, metadata=_TRAINING)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"quantizer kind {self.kind!r}, expected one of {', '.join(KINDS)}")
        numbers = (self.codes, self.dim, self.depth, self.groups, *self.levels)
        if not all(type(number) is int for number in numbers):
            raise TypeError(
                f"codes, levels, dim, depth and groups are {numbers}, expected integers"
            )
        if self.depth < 1 or self.groups < 1:
            raise ValueError(
                f"a quantizer of depth {self.depth} and {self.groups} groups, expected 1 or more"
            )
        learnt = self.kind in ("vq", "cosine-vq", "simvq")
        wanted = {"levels": self.kind == "fsq", "codes": self.kind != "fsq", "dim": learnt}
        for name, needed in wanted.items():
            if bool(getattr(self, name)) != needed:
                raise ValueError(
                    f"a quantizer of kind {self.kind!r} has {name} {getattr(self, name)!r},"
                    f" expected {'some' if needed else 'none'}"
                )
        if any(level < 2 for level in self.levels) or (2 in self.levels and self.depth == 1):
            least = 3 if self.depth == 1 else 2
            raise ValueError(f"fsq levels are {list(self.levels)}, expected at least {least} each")
        if self.kind in ("lfq", "bsq"):
            if self.codes & (self.codes - 1) or self.codes < 2:
                raise ValueError(f"{self.kind} has {self.codes} codes, expected a power of two")
            if self.depth > 1:
                raise ValueError(f"{self.kind} has depth {self.depth}; it has no residual form")
        if not 2 <= self.codebook_size <= _MOST_CODES:
            raise ValueError(
                f"a codebook of {self.codebook_size:,} codes, expected 2 to {_MOST_CODES:,}; take"
                " more codebooks (depth or groups)"
            )

    @classmethod
    def parse(cls, entries: Any) -> QuantizerConfig:
        """From plain entries; lists become tuples. Raises ValueError for unknown ones."""
        return parse_config(cls, entries, "quantizer")

    @property
    def codebook_size(self) -> int:
        """Codes of each codebook."""
        return self.codes or math.prod(self.levels)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Codes of each of the K = groups x depth codebooks, group by group."""
        return (self.codebook_size,) * (self.groups * self.depth)

    @property
    def width(self) -> int:
        """Width D of the vectors: of one group's code vector, times the groups."""
        per_group = self.dim or len(self.levels) or self.codes.bit_length() - 1
        return self.groups * per_group


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

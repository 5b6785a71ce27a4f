"""Which quantizer a tokenizer has, and its shape. Without torch: looking codes up needs none."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from unified_base.config import parse_config

__all__ = ["KINDS", "QuantizerConfig"]

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

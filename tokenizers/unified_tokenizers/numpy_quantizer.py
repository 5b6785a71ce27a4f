"""Codes to vectors and back in numpy, for quantizers that are trained: lookups, no library.

Legend: B batch, N vectors, K codebooks, C codes of one, D width.
"""

from __future__ import annotations

import math

import numpy as np

from unified_tokenizers.numpy_layers import Floats, TensorTable
from unified_tokenizers.quantizer_config import QuantizerConfig

__all__ = ["NumpyCodeRows", "NumpyQuantizer"]


class NumpyQuantizer:
    """`quantizers.Quantizer` in evaluation: codes (..., K) to vectors (..., D) of all kinds.

    can_encode: whether it finds the codes of vectors as well: kinds without a codebook (`fsq`,
    `lfq`, `bsq`), of one level.
    """

    def __init__(self, config: QuantizerConfig, table: TensorTable, name: str) -> None:
        self.config = config
        self.can_encode = config.kind in ("fsq", "lfq", "bsq") and config.depth == 1
        self._codebooks_CD = [
            _codebook(config, table, f"{name}.parts.{group}", level)
            for group in range(config.groups)
            for level in range(config.depth)
        ]

    def values_of(self, codes: np.ndarray) -> Floats:
        """The vectors of codes int64 (..., K): float32 (..., D). Levels are added up, groups lie
        side by side."""
        depth, groups = self.config.depth, []
        for first in range(0, len(self._codebooks_CD), depth):
            levels = [self._codebooks_CD[k][codes[..., k]] for k in range(first, first + depth)]
            groups.append(sum(levels[1:], levels[0]))
        return np.concatenate(groups, -1)

    def codes_of(self, vectors: Floats) -> np.ndarray:
        """The codes int64 (..., K) of vectors float32 (..., D); of kinds that `can_encode`."""
        assert self.can_encode
        parts = np.split(vectors, self.config.groups, -1)
        find = _fsq_codes if self.config.kind == "fsq" else _sign_codes
        return np.stack([find(part, self.config.levels) for part in parts], -1)


class NumpyCodeRows:
    """`quantizers.CodeRows`: the rows of all codebooks' codes added up, (..., K) to (..., D)."""

    def __init__(self, table: TensorTable, codebook_sizes: tuple[int, ...], width: int) -> None:
        self.rows = table.get("code_rows.weight", sum(codebook_sizes), width)
        self.starts = np.cumsum([0, *codebook_sizes[:-1]])

    def __call__(self, codes: np.ndarray) -> Floats:
        rows: Floats = self.rows[codes + self.starts].sum(-2)
        return rows


def _codebook(config: QuantizerConfig, table: TensorTable, part: str, level: int) -> Floats:
    """The vectors (C, D) of all codes of a level, as it adds them."""
    if config.kind == "fsq":
        return _fsq_codebook(config.levels, level if config.depth > 1 else None)
    if config.kind in ("lfq", "bsq"):
        bits = config.codes.bit_length() - 1
        mask = table.get(f"{part}.mask", bits)
        signs = ((np.arange(config.codes)[:, None] & mask) != 0) * np.float32(2) - np.float32(1)
        return signs / np.float32(math.sqrt(bits)) if config.kind == "bsq" else signs
    name = f"{part}.layers.{level}" if config.depth > 1 else part
    codes, dim = config.codes, config.dim
    if config.kind == "simvq":
        frozen = table.get(f"{name}.frozen_codebook", codes, dim)
        return frozen @ table.get(f"{name}.code_transform.weight", dim, dim).T
    # What training has in a codebook beside it.
    table.get(f"{name}._codebook.initted")
    table.get(f"{name}._codebook.cluster_size", 1, codes)
    table.get(f"{name}._codebook.embed_avg", 1, codes, dim)
    return table.get(f"{name}._codebook.embed", 1, codes, dim)[0]


def _fsq_codebook(levels: tuple[int, ...], depth: int | None) -> Floats:
    """depth: of a residual quantizer, whose levels lie symmetrically (arXiv:2411.19842)."""
    sizes = np.array(levels)
    digits = np.arange(math.prod(levels))[:, None] // _basis(levels) % sizes
    if depth is None:
        half = (sizes // 2).astype(np.float32)
        return (digits.astype(np.float32) - half) / half
    values = digits.astype(np.float32) * (np.float32(2) / (sizes - 1).astype(np.float32))
    return (values - np.float32(1)) * sizes.astype(np.float32) ** np.float32(-depth)


def _basis(levels: tuple[int, ...]) -> np.ndarray:
    return np.cumprod([1, *levels[:-1]])


def _fsq_codes(vectors: Floats, levels: tuple[int, ...]) -> np.ndarray:
    """Every number bounded by a tanh and rounded (arXiv:2309.15505): int64 (...)."""
    sizes = np.array(levels)
    half = ((sizes - 1) * (1 + 1e-3) / 2).astype(np.float32)
    offset = np.where(sizes % 2 == 0, np.float32(0.5), np.float32(0))
    bounded = np.tanh(vectors + np.arctanh(offset / half)) * half - offset
    digits = np.round(bounded).astype(np.int64) + sizes // 2
    return (digits * _basis(levels)).sum(-1)


def _sign_codes(vectors: Floats, levels: tuple[int, ...]) -> np.ndarray:
    """A bit for every number above zero, the first one the highest: int64 (...)."""
    bits = vectors.shape[-1]
    return ((vectors > 0) * (1 << np.arange(bits - 1, -1, -1))).sum(-1)

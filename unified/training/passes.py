"""Rows to what one forward pass takes: tensors, documents' bounds, positions sorted by what they
may be followed by.

Legend: B rows, L places of a row, P positions with loss, N documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unified.dataloading import Row
from unified.formats.grammar import MODALITIES
from unified.vocabulary.block import Ranges

__all__ = ["Pass", "blank_pass", "make_pass", "modality_factors"]


@dataclass(frozen=True, eq=False)
class Pass:
    """One forward pass.

    Attributes:
        shown: int64 (B, L), what the decoder is given. places: int64 (B, L), in their documents.
        spans: int32 (N, 2), where documents begin and end over all B rows; padded with empty ones.
        at: int64 (P,), the place (over all rows) whose features predict; sorted by group.
        targets: int64 (P,). weights: float32 (P,). modality: int64 (P,). document: int64 (P,).
        groups: allowed ranges, and how many of the positions have them.
        keys: of each document, "source/key".
        num_ids: places that are not padding.
    """

    shown: Tensor
    places: Tensor
    spans: Tensor
    at: Tensor
    targets: Tensor
    weights: Tensor
    modality: Tensor
    document: Tensor
    groups: tuple[tuple[Ranges, int], ...]
    keys: tuple[str, ...]
    num_ids: int

    @property
    def weight(self) -> float:
        """Of all its positions."""
        return float(self.weights.double().sum())

    def to(self, device: torch.device) -> Pass:
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)

    def weighed(self, weights: Tensor) -> Pass:
        """The same pass with other weights, float32 (P,)."""
        return replace(self, weights=weights)


def modality_factors(weights: Mapping[str, float]) -> np.ndarray:
    """A factor for the number of each modality: float32 (M,)."""
    factors = np.ones(len(MODALITIES), np.float32)
    for modality, factor in weights.items():
        factors[MODALITIES[modality]] = factor
    return factors


def blank_pass(length: int) -> Pass:
    """A pass of one row of padding, of which nothing counts."""
    none = torch.zeros(0, dtype=torch.int64)
    return Pass(
        shown=torch.zeros(1, length, dtype=torch.int64),
        places=torch.arange(length)[None],
        spans=torch.zeros(max(1, length // 4), 2, dtype=torch.int32),
        at=none, targets=none, weights=none.float(), modality=none, document=none,
        groups=(), keys=(), num_ids=0,
    )  # fmt: skip


def make_pass(rows: Sequence[Row], factors: np.ndarray) -> Pass:
    """The pass of some rows of one length.

    factors: float32 (M,), on the loss of each modality.
    """
    length = len(rows[0].ids)
    spans, keys, at, targets, weights, modality, document, allowed = ([] for _ in range(8))  # type: ignore[var-annotated]
    table: dict[Ranges, int] = {}
    for index, row in enumerate(rows):
        begin = index * length
        spans.append(np.stack([row.starts[:-1], row.starts[1:]], axis=1) + begin)
        (counted,) = np.nonzero(row.loss)
        at.append(counted + begin - 1)
        targets.append(row.ids[counted])
        modality.append(row.modality[counted])
        weights.append(row.loss[counted] * factors[row.modality[counted]])
        document.append(np.searchsorted(row.starts, counted, side="right") - 1 + len(keys))
        numbers = [table.setdefault(ranges, len(table)) for ranges in row.ranges]
        allowed.append(np.array(numbers, np.int64)[row.allowed[counted]])
        keys.extend(row.keys)
    group = np.concatenate(allowed)
    order = np.argsort(group, kind="stable")
    names = list(table)
    present, sizes = np.unique(group, return_counts=True)

    def sorted_by_group(parts: list[np.ndarray], kind: type) -> Tensor:
        return torch.from_numpy(np.concatenate(parts)[order].astype(kind))

    # As many as fit, so that what is compiled for one pass fits every other.
    bounds = np.zeros((len(rows) * max(1, length // 4), 2), np.int32)
    found = np.concatenate(spans)
    if len(found) > len(bounds):
        bounds = np.zeros_like(found)
    bounds[: len(found)] = found
    return Pass(
        shown=torch.from_numpy(np.stack([row.shown for row in rows]).astype(np.int64)),
        places=torch.from_numpy(np.stack([row.positions() for row in rows]).astype(np.int64)),
        spans=torch.from_numpy(bounds),
        at=sorted_by_group(at, np.int64),
        targets=sorted_by_group(targets, np.int64),
        weights=sorted_by_group(weights, np.float32),
        modality=sorted_by_group(modality, np.int64),
        document=sorted_by_group(document, np.int64),
        groups=tuple((names[number], int(size)) for number, size in zip(present, sizes)),
        keys=tuple(keys),
        num_ids=sum(row.num_ids for row in rows),
    )

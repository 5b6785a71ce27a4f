"""Packed sequences to what one forward pass takes: tensors, documents' bounds, positions sorted by
what the grammar allows there.

Legend: B sequences, L positions of a sequence, P positions with loss, N documents, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from unified.dataloading import PackedSequence
from unified.formats.grammar import MODALITIES
from unified.vocabulary.block import Ranges

__all__ = ["MicroBatch", "blank_micro_batch", "make_micro_batch", "modality_factors"]


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """What one forward pass takes.

    Attributes:
        input_ids: int64 (B, L).
        position_ids: int64 (B, L), from 0 in each document.
        document_spans: int32 (N, 2), where documents begin and end, counted over all B sequences;
            padded with empty ones.
        predict_from: int64 (P,), the positions (over all sequences) whose hidden states predict;
            sorted by group.
        labels: int64 (P,), what they predict.
        weights: float32 (P,), what each loss counts.
        modality: int64 (P,), of the labels.
        document: int64 (P,), index of the document that a position is in.
        groups: allowed ranges, and how many of the positions have them.
        keys: of each document, "source/key".
        num_ids: positions that are not padding.
    """

    input_ids: Tensor
    position_ids: Tensor
    document_spans: Tensor
    predict_from: Tensor
    labels: Tensor
    weights: Tensor
    modality: Tensor
    document: Tensor
    groups: tuple[tuple[Ranges, int], ...]
    keys: tuple[str, ...]
    num_ids: int

    @property
    def weight(self) -> float:
        """Of all its positions together."""
        return float(self.weights.double().sum())

    def to(self, device: torch.device) -> MicroBatch:
        """The same on a device."""
        tensors = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **tensors)  # type: ignore[arg-type]

    def with_weights(self, weights: Tensor) -> MicroBatch:
        """The same with other weights, float32 (P,)."""
        return replace(self, weights=weights)


def modality_factors(weights: Mapping[str, float]) -> np.ndarray:
    """A factor for the number of each modality: float32 (M,)."""
    factors = np.ones(len(MODALITIES), np.float32)
    for modality, factor in weights.items():
        factors[MODALITIES[modality]] = factor
    return factors


def blank_micro_batch(seq_len: int) -> MicroBatch:
    """One sequence of padding, of which nothing counts."""
    none = torch.zeros(0, dtype=torch.int64)
    return MicroBatch(
        input_ids=torch.zeros(1, seq_len, dtype=torch.int64),
        position_ids=torch.arange(seq_len)[None],
        document_spans=torch.zeros(max(1, seq_len // 4), 2, dtype=torch.int32),
        predict_from=none, labels=none, weights=none.float(), modality=none, document=none,
        groups=(), keys=(), num_ids=0,
    )  # fmt: skip


def make_micro_batch(sequences: Sequence[PackedSequence], factors: np.ndarray) -> MicroBatch:
    """The micro-batch of some sequences of one length.

    factors: float32 (M,), on the loss of each modality.
    """
    seq_len = len(sequences[0].labels)
    spans: list[np.ndarray] = []
    predict_from: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    modality: list[np.ndarray] = []
    document: list[np.ndarray] = []
    allowed: list[np.ndarray] = []
    keys: list[str] = []
    table: dict[Ranges, int] = {}
    for index, sequence in enumerate(sequences):
        begin = index * seq_len
        starts = sequence.starts
        spans.append(np.stack([starts[:-1], starts[1:]], axis=1) + begin)
        (counted,) = np.nonzero(sequence.loss_weights)
        predict_from.append(counted + begin - 1)
        labels.append(sequence.labels[counted])
        modality.append(sequence.modality[counted])
        weights.append(sequence.loss_weights[counted] * factors[sequence.modality[counted]])
        document.append(np.searchsorted(starts, counted, side="right") - 1 + len(keys))
        numbers = [table.setdefault(ranges, len(table)) for ranges in sequence.ranges]
        allowed.append(np.array(numbers, np.int64)[sequence.allowed[counted]])
        keys.extend(sequence.keys)
    group = np.concatenate(allowed)
    order = np.argsort(group, kind="stable")
    names = list(table)
    present, sizes = np.unique(group, return_counts=True)

    def sorted_by_group(parts: list[np.ndarray], kind: type) -> Tensor:
        return torch.from_numpy(np.concatenate(parts)[order].astype(kind))

    return MicroBatch(
        input_ids=_stacked([sequence.input_ids for sequence in sequences]),
        position_ids=_stacked([sequence.position_ids() for sequence in sequences]),
        document_spans=_padded(np.concatenate(spans), len(sequences) * max(1, seq_len // 4)),
        predict_from=sorted_by_group(predict_from, np.int64),
        labels=sorted_by_group(labels, np.int64),
        weights=sorted_by_group(weights, np.float32),
        modality=sorted_by_group(modality, np.int64),
        document=sorted_by_group(document, np.int64),
        groups=tuple((names[number], int(size)) for number, size in zip(present, sizes)),
        keys=tuple(keys),
        num_ids=sum(sequence.num_ids for sequence in sequences),
    )


def _stacked(arrays: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays).astype(np.int64))


def _padded(spans: np.ndarray, size: int) -> Tensor:
    """Spans filled up with empty ones to as many as fit, so that what is compiled for one
    micro-batch fits every other: int32 (N, 2)."""
    padded = np.zeros((max(size, len(spans)), 2), np.int32)
    padded[: len(spans)] = spans
    return torch.from_numpy(padded)

"""Packed sequences to what one forward pass takes: tensors, documents' bounds, positions sorted by
what the grammar allows there.

Legend: B sequences, L positions of a sequence, P ids with loss, N documents, M modalities, V
vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from unified.dataloading import PackedSequence
from unified.dataloading.deeper_ids import DeeperIds
from unified.training.embedded_batch import EmbeddedGroup, embedded_groups
from unified.training.several_ids import DeeperBatch, DepthSubset, deeper_ids, several_of
from unified.vocabulary.block import Ranges

__all__ = ["MicroBatch", "blank_micro_batch", "make_micro_batch"]


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """What one forward pass takes.

    Attributes:
        input_ids: int64 (B, L), of each position the id of depth 0.
        position_ids: int64 (B, L), from 0 in each document.
        document_spans: int32 (N, 2), where documents begin and end, counted over all B sequences;
            padded with empty ones.
        predict_from: int64 (P,), the positions (over all sequences) whose hidden states predict:
            those of ids of depth 0 first, then those of the others, both sorted by group.
        labels: int64 (P,), what they predict.
        weights: float32 (P,), what each loss counts.
        modality: int64 (P,), of the labels.
        document: int64 (P,), index of the document that a label is of.
        groups: allowed ranges, and how many of the labels of depth 0 have them.
        keys: of each document, "source/key".
        num_positions, num_ids: that are not padding.
        deeper: the ids of depth 1 and more; None where every position holds one id.
        embedded: what stands at continuous positions.
        spans: int64 (M, 2), [start, stop) of positions that see one another, counted over all
            sequences; None where there are none.
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
    num_positions: int
    num_ids: int
    deeper: DeeperBatch | None = None
    embedded: tuple[EmbeddedGroup, ...] = ()
    spans: Tensor | None = None

    @property
    def num_first(self) -> int:
        """How many of the labels are of depth 0."""
        return sum(number for _, number in self.groups)

    @property
    def weight(self) -> float:
        """Of all its positions together."""
        return float(self.weights.double().sum())

    def seen_until(self) -> Tensor:
        """Up to which position, counted over all sequences, each one sees its document: int64
        (B * L,)."""
        until = torch.arange(1, self.input_ids.numel() + 1, device=self.input_ids.device)
        for start, stop in [] if self.spans is None else self.spans.tolist():
            until[start:stop] = stop
        return until

    def to(self, device: torch.device) -> MicroBatch:
        """The same on a device."""
        tensors = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        deeper = None if self.deeper is None else self.deeper.to(device)
        embedded = tuple(group.to(device) for group in self.embedded)
        return replace(self, deeper=deeper, embedded=embedded, **tensors)  # type: ignore[arg-type]

    def with_weights(self, weights: Tensor) -> MicroBatch:
        """The same with other weights, float32 (P,)."""
        return replace(self, weights=weights)


def blank_micro_batch(seq_len: int) -> MicroBatch:
    """One sequence of padding, of which nothing counts."""
    none = torch.zeros(0, dtype=torch.int64)
    return MicroBatch(
        input_ids=torch.zeros(1, seq_len, dtype=torch.int64),
        position_ids=torch.arange(seq_len)[None],
        document_spans=torch.zeros(max(1, seq_len // 4), 2, dtype=torch.int32),
        predict_from=none, labels=none, weights=none.float(), modality=none, document=none,
        groups=(), keys=(), num_positions=0, num_ids=0,
    )  # fmt: skip


def make_micro_batch(
    sequences: Sequence[PackedSequence],
    factors: np.ndarray,
    id_factors: np.ndarray | None = None,
    subset: DepthSubset | None = None,
    writes: Ranges | None = None,
) -> MicroBatch:
    """The micro-batch of some sequences of one length.

    Args:
        factors: float32 (M,), on the loss of each modality.
        id_factors: float32 (V,), on the loss of each id; None: 1.
        subset: where ids of depth 1 and more are learnt; None: everywhere.
        writes: the ids that the decoder can write; others are read and have no loss. None: all.

    Raises:
        ValueError: at an id of `writes` the grammar allows others, too.
    """
    seq_len = len(sequences[0].labels)
    spans: list[np.ndarray] = []
    first, later = (_Labels(factors, id_factors, writes) for _ in range(2))
    table: dict[Ranges, int] = {}
    numbers: list[np.ndarray] = []  # of each sequence's ranges
    bounds: list[tuple[np.ndarray, int]] = []  # where its documents begin, and how many came before
    keys: list[str] = []
    for index, sequence in enumerate(sequences):
        begin = index * seq_len
        starts = sequence.starts
        spans.append(np.stack([starts[:-1], starts[1:]], axis=1) + begin)
        numbers.append(np.array([table.setdefault(r, len(table)) for r in sequence.ranges]))
        bounds.append((starts + begin, len(keys)))
        with_loss = first.learnt(sequence)
        first.add(sequence, with_loss, with_loss + begin, numbers[-1], bounds[-1])
        keys.extend(sequence.keys)
    deeper, owner = deeper_ids(sequences, subset)
    state = np.zeros(0, np.int64)
    if deeper is not None:
        several, state_of = several_of(deeper)
        for index in np.unique(owner).tolist():
            with_loss = later.learnt(deeper, owner == index)
            later.add(deeper, with_loss, deeper.position[with_loss], numbers[index], bounds[index])
        state = state_of[later.learnt(deeper)]
    names = list(table)
    first_order, groups = first.sorted_by_group(names)
    later_order, deeper_groups = later.sorted_by_group(names)

    def column(name: str, kind: type) -> Tensor:
        parts = (first.column(name)[first_order], later.column(name)[later_order])
        return torch.from_numpy(np.concatenate(parts).astype(kind))

    return MicroBatch(
        input_ids=_stacked([sequence.input_ids for sequence in sequences]),
        position_ids=_stacked([sequence.position_ids() for sequence in sequences]),
        document_spans=_padded(np.concatenate(spans), len(sequences) * max(1, seq_len // 4)),
        predict_from=column("predict_from", np.int64),
        labels=column("labels", np.int64),
        weights=column("weights", np.float32),
        modality=column("modality", np.int64),
        document=column("document", np.int64),
        groups=groups,
        keys=tuple(keys),
        num_positions=sum(sequence.num_positions for sequence in sequences),
        num_ids=sum(sequence.num_ids for sequence in sequences),
        deeper=None
        if deeper is None
        else DeeperBatch(several, deeper_groups, torch.from_numpy(state[later_order])),
        embedded=embedded_groups(sequences),
        spans=_spans(sequences),
    )


def _spans(sequences: Sequence[PackedSequence]) -> Tensor | None:
    """See `MicroBatch.spans`."""
    length = len(sequences[0].labels)
    spans = [
        (number * length + start, number * length + stop)
        for number, sequence in enumerate(sequences)
        for start, stop in sequence.spans
    ]
    return torch.tensor(spans, dtype=torch.int64) if spans else None


class _Labels:
    """Labels with loss being collected, by columns of what a micro-batch says of them."""

    def __init__(
        self, factors: np.ndarray, id_factors: np.ndarray | None, writes: Ranges | None
    ) -> None:
        self._factors, self._id_factors, self._writes = factors, id_factors, writes
        self._columns: dict[str, list[np.ndarray]] = {
            name: [] for name in ("predict_from", "labels", "weights", "modality", "document",
                                  "group")
        }  # fmt: skip

    def learnt(
        self, ids: PackedSequence | DeeperIds, among: np.ndarray | None = None
    ) -> np.ndarray:
        """Indices of the ids with loss, int64 (n,). among: bool, which are asked for; None: all."""
        learnt = ids.loss_weights != 0
        if self._writes is not None:
            learnt &= _within(ids.labels, self._writes)
        return np.flatnonzero(learnt if among is None else learnt & among)

    def add(
        self,
        ids: PackedSequence | DeeperIds,
        indices: np.ndarray,
        positions: np.ndarray,
        numbers: np.ndarray,
        bounds: tuple[np.ndarray, int],
    ) -> None:
        """Add the ids at indices `indices`.

        positions: of each of them, over all sequences. numbers: of their sequence's ranges. bounds:
        the positions where its documents begin, and how many came before them.
        """
        labels, modality = ids.labels[indices], ids.modality[indices]
        weights = ids.loss_weights[indices] * self._factors[modality]
        if self._id_factors is not None:
            weights = weights * self._id_factors[labels]
        starts, before = bounds
        values = (
            positions - 1, labels, weights, modality,
            np.searchsorted(starts, positions, side="right") - 1 + before,
            numbers[ids.allowed[indices]],
        )  # fmt: skip
        for column, value in zip(self._columns.values(), values):
            column.append(value)

    def column(self, name: str) -> np.ndarray:
        parts = self._columns[name]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def sorted_by_group(
        self, names: Sequence[Ranges]
    ) -> tuple[np.ndarray, tuple[tuple[Ranges, int], ...]]:
        """(the order of the labels, their groups); names: of the groups."""
        group = self.column("group")
        present, sizes = np.unique(group, return_counts=True)
        order = np.argsort(group, kind="stable")
        if (writes := self._writes) is not None:
            for number in present.tolist():
                ends = np.array([(start, stop - 1) for start, stop in names[number]])
                if not _within(ends, writes).all():
                    raise ValueError(
                        f"the grammar allows ids of {_listed(names[number])} where the decoder"
                        f" writes those of {_listed(writes)} alone"
                    )
        return order, tuple((names[int(n)], int(size)) for n, size in zip(present, sizes))


def _within(ids: np.ndarray, ranges: Ranges) -> np.ndarray:
    """Which ids lie in ranges, bool of their shape."""
    within = np.zeros(ids.shape, bool)
    for start, stop in ranges:
        within |= (ids >= start) & (ids < stop)
    return within


def _listed(ranges: Ranges) -> str:
    return ", ".join(f"{start} to {stop - 1}" for start, stop in ranges)


def _stacked(arrays: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays).astype(np.int64))


def _padded(spans: np.ndarray, size: int) -> Tensor:
    """Spans filled up with empty ones to as many as fit, so that what is compiled for one
    micro-batch fits every other: int32 (N, 2)."""
    padded = np.zeros((max(size, len(spans)), 2), np.int32)
    padded[: len(spans)] = spans
    return torch.from_numpy(padded)

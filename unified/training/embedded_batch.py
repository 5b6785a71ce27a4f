"""Continuous positions of a micro-batch: what stands there, by connector and shape.

Legend: M media of a group, n positions of each, E width of features, D of the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from unified.dataloading import PackedSequence
from unified.engine.backends.pass_media import SeenMedium

if TYPE_CHECKING:
    from unified.models.grafting.embedder import MediaEmbedder

__all__ = ["EmbeddedGroup", "Vectorizer", "embedded_groups", "vectorizer_of"]


@dataclass(frozen=True, eq=False)
class EmbeddedGroup:
    """Media of one kind, shape and number of positions.

    Attributes:
        kind: of their spans.
        features: float16 (M, *grid, E), or prepared media (M, ...), uint8 or float32.
        at: int64 (M, n), positions over all sequences.
    """

    kind: str
    features: Tensor
    at: Tensor

    def to(self, device: torch.device) -> EmbeddedGroup:
        """The same on a device."""
        return replace(self, features=self.features.to(device), at=self.at.to(device))


def embedded_groups(sequences: Sequence[PackedSequence]) -> tuple[EmbeddedGroup, ...]:
    """The continuous positions of sequences of one length."""
    parts: dict[tuple[object, ...], list[tuple[np.ndarray, np.ndarray]]] = {}
    for number, sequence in enumerate(sequences):
        first = number * len(sequence.labels)
        for medium in sequence.embedded:
            features = medium.features
            key = medium.kind, features.shape, features.dtype.str, len(medium.positions)
            at = medium.positions.astype(np.int64) + first
            parts.setdefault(key, []).append((features, at))
    return tuple(
        EmbeddedGroup(
            str(key[0]),
            torch.from_numpy(np.stack([features for features, _ in media])),
            torch.from_numpy(np.stack([at for _, at in media])),
        )
        for key, media in parts.items()
    )


class Vectorizer(nn.Module):
    """The connectors in training, and the frozen encoders beside them.

    The encoders are no part of the module: they stay in float32 and are in no checkpoint.
    """

    def __init__(self, embedders: dict[str, MediaEmbedder]) -> None:
        super().__init__()
        self.connectors = nn.ModuleDict({k: e.connector for k, e in embedders.items()})
        self._encoders = {kind: embedder.encoder for kind, embedder in embedders.items()}
        self._attended = {kind for kind, embedder in embedders.items() if embedder.attended}

    def put_into(self, embedded: Tensor, groups: Sequence[EmbeddedGroup]) -> Tensor:
        """Embeddings (B, L, D) with vectors in their places, and gradients of the connectors."""
        flat = embedded.flatten(0, 1)
        for group in groups:
            if group.kind not in self._attended:
                vectors = self._vectors(group).flatten(0, 1)
                flat = flat.index_copy(0, group.at.flatten(), vectors.to(flat.dtype))
        return flat.view_as(embedded)

    def seen(
        self, groups: Sequence[EmbeddedGroup], position_ids: Tensor
    ) -> tuple[list[SeenMedium], Tensor | None]:
        """`PassMedia.media` and `PassMedia.latest` of a micro-batch, with gradients.

        position_ids: int64 (B, L), from 0 in each document.
        """
        media: list[SeenMedium] = []
        for group in groups:
            first = group.at[:, 0].tolist()
            vectors = self._vectors(group) if group.kind in self._attended else [None] * len(first)
            media += [SeenMedium(at, own) for at, own in zip(first, vectors)]
        if not media:
            return media, None
        media.sort(key=lambda medium: medium.at)
        device, flat = position_ids.device, position_ids.flatten()
        at = torch.tensor([medium.at for medium in media], device=device)
        positions = torch.arange(len(flat), device=device)
        latest = torch.searchsorted(at, positions, right=True) - 1
        begins = positions - flat  # of each position's document
        latest = latest.where(at[latest.clamp_min(0)] >= begins, -1)
        return media, latest.view_as(position_ids)

    def _vectors(self, group: EmbeddedGroup) -> Tensor:
        """The connector's vectors (M, n, D) of the media of a group."""
        from unified.models.grafting.embedder import connect

        features = group.features
        if features.dtype != torch.float16:  # media
            features = self._encoders[group.kind](features)
        return connect(self.connectors[group.kind], features)  # type: ignore[arg-type]

    def none(self) -> Tensor:
        """Zero, with gradients of zero for every connector: for batches without media."""
        return sum((p.sum() * 0.0 for p in self.parameters()), torch.zeros(())).float()


def vectorizer_of(embedders: dict[str, MediaEmbedder], device: torch.device) -> Vectorizer | None:
    """The connectors of a model on a device, with their encoders; None where it has none."""
    for embedder in embedders.values():
        embedder.to(str(device))
    return Vectorizer(embedders) if embedders else None

"""What turns media into vectors for continuous positions, as the sequencer takes it.

The encoders and connectors themselves are in `unified.models.grafting`.

Legend: n positions, E width of what the encoder gives, D the decoder's width.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unified.formats.coded import CodedMedia, coded_media
from unified.vocabulary.vocabulary import Vocabulary
from unified_data.document import Media

__all__ = [
    "Embedder", "check_embedder", "check_fingerprint", "choose_embedder", "embed_segment",
]  # fmt: skip


class Embedder(Protocol):
    """An encoder and a connector for one kind of span.

    kind: of its spans. modality: of its media. fingerprint: of the encoder and of how media are
    prepared for it. prepared: numpy's type of prepared media.
    """

    kind: str
    modality: str

    @property
    def fingerprint(self) -> str: ...

    @property
    def prepared(self) -> str: ...

    def prepare(self, segment: Media) -> np.ndarray:
        """A medium as the encoder takes it: uint8 (3, H, W) of a picture, float32 (1, S) of a
        sound. Raises ValueError for one that it cannot take."""

    def grid(self, prepared: np.ndarray) -> tuple[int, ...]:
        """The grid of positions that a prepared medium takes, n in all."""

    def encode(self, prepared: Sequence[np.ndarray]) -> list[NDArray[np.float32]]:
        """The features of prepared media: float32 (*grid, E) each, the encoder's own grid."""

    def embed(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The connector's vectors, float32 (n, D), of the features of a medium."""


def embed_segment(embedder: Embedder, segment: Media) -> CodedMedia:
    """A medium as a segment of continuous positions, with its vectors."""
    prepared = embedder.prepare(segment)
    (features,) = embedder.encode([prepared])
    vectors = embedder.embed(features)
    codes = np.zeros((1, *embedder.grid(prepared)), np.int64)
    return coded_media(embedder.modality, codes, segment.role, segment.loss, embedder.kind, vectors)


def choose_embedder(
    embedders: Mapping[str, Embedder], tokenizers: Container[str], segment: Media
) -> Embedder | None:
    """What reads a medium as continuous positions; None where it is read as codes.

    tokenizers: the modalities that have codes, too. A prompt alone is read as vectors then, with a
    role or with loss 0: what a model writes is codes.
    """
    prompt = segment.role == "prompt" or (segment.role is None and segment.loss == 0)
    if segment.modality in tokenizers and not prompt:
        return None
    of_modality = (e for e in embedders.values() if e.modality == segment.modality)
    return next(of_modality, None)


def check_embedder(embedder: Embedder, vocabulary: Vocabulary) -> None:
    """Raises ValueError where a vocabulary has no id that holds an embedder's places."""
    kind = embedder.kind
    blocks = vocabulary.levels(kind)
    if [block.size for block in blocks] != [1]:
        held = ", ".join(f"{block.name} of {block.size}" for block in blocks) or "no block"
        raise ValueError(
            f"the model reads {kind} by an encoder, and its vocabulary has {held} for that;"
            f" expected '{kind}.0' of one id"
        )


def check_fingerprint(embedder: Embedder, vocabulary: Vocabulary) -> None:
    """Raises ValueError where a vocabulary was made for another encoder; every weight is read."""
    known = vocabulary.levels(embedder.kind)[0].fingerprint
    if known is not None and known != embedder.fingerprint:
        raise ValueError(
            f"the encoder of {embedder.kind} has fingerprint {embedder.fingerprint}, the vocabulary"
            f" was made for {known}; take both from the same model"
        )

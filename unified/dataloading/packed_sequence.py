"""A packed training sequence: documents end to end in a fixed number of positions.

L positions of a sequence, n documents in it.

Arrays over positions hold the id of depth 0 of each: the only one, or the first of several that
share the position. The others lie beside, in `deeper`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from unified.dataloading.deeper_ids import DeeperIds
from unified.dataloading.embedded_media import EmbeddedMedium
from unified.vocabulary.block import Ranges

__all__ = ["COUNTERS", "PackedSequence"]

COUNTERS = ("documents", "ids", "split", "corrupt", "too_long", "not_reversed")
"""What a stream counts: documents and ids tokenized; documents split into chunks; samples skipped
because they are corrupt, or hold a picture or sound longer than a sequence; documents that should
have been reversed but could not be."""


@dataclass(frozen=True, eq=False)
class PackedSequence:
    """Whole documents, or chunks of over-long ones, side by side.

    Attributes:
        input_ids: int32 (L,), what the decoder reads: `labels` with the noise of their sources. The
            format's padding id where no document stands.
        labels: int32 (L,), the true ids (not shifted: `labels[i]` is predicted at position i - 1).
        loss_weights: float32 (L,), the weight of predicting each label from the inputs of the same
            document before it; 0 in padding and at the first position of each document.
        allowed: int32 (L,), index into `ranges`: what the grammar allowed where each id stands.
        modality: uint8 (L,), see `unified.formats.grammar.MODALITIES`.
        starts: int32 (n + 1,), cumulative lengths: where each document begins; the last is the
            number of positions that are not padding.
        ranges: the distinct tuples of id ranges, sorted.
        keys: n of "source/key". The chunks of a document that was split have the same key.
        stream, number: this is sequence `number` of that stream. Of endless sources its index in
            the order of all is `number * streams + stream`.
        counters: since the stream's last sequence, by the names in `COUNTERS`.
        reports: a line for each sample skipped since then, with shard, key and reason; at most 8.
        state: of the stream after this sequence, as JSON; see `Loader.state`.
        deeper: the ids of depth 1 and more; None where every position holds one id.
        embedded: what stands at its continuous positions, in order.
        spans: [start, stop) of positions that see one another.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    loss_weights: np.ndarray
    allowed: np.ndarray
    modality: np.ndarray
    starts: np.ndarray
    ranges: tuple[Ranges, ...]
    keys: tuple[str, ...]
    stream: int
    number: int
    counters: dict[str, int]
    reports: tuple[str, ...]
    state: dict[str, Any]
    deeper: DeeperIds | None = None
    embedded: tuple[EmbeddedMedium, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()

    @property
    def num_positions(self) -> int:
        """Positions that are not padding."""
        return int(self.starts[-1])

    @property
    def num_ids(self) -> int:
        """Ids that are not padding."""
        return self.num_positions + (0 if self.deeper is None else len(self.deeper))

    def position_ids(self) -> np.ndarray:
        """Positions counted in their documents, from 0: int32 (L,). Padding counts likewise."""
        length = len(self.labels)
        starts = self.starts[self.starts < length]
        sizes = np.diff(np.append(starts, length))
        return (np.arange(length) - np.repeat(starts, sizes)).astype(np.int32)

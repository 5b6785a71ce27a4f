"""One row of training data: documents packed end to end into a fixed number of places.

L places of a row, n documents in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from unified.vocabulary.block import Ranges

__all__ = ["COUNTS", "Row"]

COUNTS = ("documents", "ids", "cut", "broken", "too_long", "kept_order")
"""What a lane counts: documents and ids laid out; documents cut into pieces; samples left out
because they are broken, or hold a picture or sound longer than a row; documents that could not be
reversed."""


@dataclass(frozen=True, eq=False)
class Row:
    """Whole documents, or pieces of over-long ones, side by side.

    Attributes:
        ids: int32 (L,). The format's padding id where no document stands.
        shown: int32 (L,), the ids with the noise of their sources: what the decoder is given.
        loss: float32 (L,), the weight of predicting each id from what is shown of the same document
            before it; 0 in padding and at the first id of each document.
        allowed: int32 (L,), index into `ranges`: what the grammar allowed where each id stands.
        modality: uint8 (L,), see `unified.formats.grammar.MODALITIES`.
        starts: int32 (n + 1,), where each document begins; the last is the number of ids that are
            not padding.
        ranges: the distinct tuples of id ranges, sorted.
        keys: n of "source/key". The pieces of a document that was cut have the same one.
        lane, number: this is row `number` of that lane. Of endless sources the row's place in the
            order of all is `number * lanes + lane`.
        counts: since the lane's last row, by the names in `COUNTS`.
        reports: a line for each sample left out since then, with shard, key and reason; at most 8.
        state: of the lane after this row, as JSON; see `Loader.state`.
    """

    ids: np.ndarray
    shown: np.ndarray
    loss: np.ndarray
    allowed: np.ndarray
    modality: np.ndarray
    starts: np.ndarray
    ranges: tuple[Ranges, ...]
    keys: tuple[str, ...]
    lane: int
    number: int
    counts: dict[str, int]
    reports: tuple[str, ...]
    state: dict[str, Any]

    @property
    def num_ids(self) -> int:
        """Places that are not padding."""
        return int(self.starts[-1])

    def positions(self) -> np.ndarray:
        """The place of each id in its document, from 0: int32 (L,). Padding is counted likewise."""
        length = len(self.ids)
        starts = self.starts[self.starts < length]
        sizes = np.diff(np.append(starts, length))
        return (np.arange(length) - np.repeat(starts, sizes)).astype(np.int32)

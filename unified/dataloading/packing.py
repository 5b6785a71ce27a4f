"""Laid-out documents cut into pieces, and pieces packed into rows of a fixed length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from unified.dataloading.laid import Laid
from unified.vocabulary.block import Ranges

__all__ = ["Packer", "Piece", "TooLongError", "cut", "fill_row", "fullest", "pieces_of"]


class TooLongError(ValueError):
    """A document holds a picture or sound that is longer than a row."""


@dataclass(frozen=True, eq=False, slots=True)
class Piece:
    """A document, or what one cut of it holds; arrays as in `Laid`.

    reference: (source, place in its order, number of the piece): it can be read again from these.
    """

    ids: np.ndarray
    shown: np.ndarray
    loss: np.ndarray
    allowed: np.ndarray
    modality: np.ndarray
    key: str
    reference: tuple[str, int, int]

    def __len__(self) -> int:
        return len(self.ids)


def cut(laid: Laid, length: int) -> list[int]:
    """Where a document is to be cut so that no piece is longer than `length`: [0, ..., L].

    A piece takes in one segment after the other while they fit. A text longer than a row is cut
    inside, wherever a row is full; what is left of it goes on with what follows.

    Raises TooLongError for a picture or sound that does not fit into a row.
    """
    if laid.units[-1] <= length:
        return [0, laid.units[-1]]
    edges = [0]
    for at, (start, stop) in enumerate(pairwise(laid.units)):
        if stop - start > length and not laid.texts[at]:
            raise TooLongError(
                f"its picture or sound of {stop - start} ids is longer than a row of {length}"
            )
        if stop - start > length:
            edges += range(edges[-1] + length, stop, length)
        elif stop - edges[-1] > length:
            edges.append(start)
    return [*edges, laid.units[-1]]


def pieces_of(
    laid: Laid, shown: np.ndarray, length: int, key: str, source: str, place: int
) -> list[Piece]:
    """The pieces of a document. The first id of each has no loss: nothing stands before it."""
    edges = cut(laid, length)
    laid.loss[edges[:-1]] = 0.0
    return [
        Piece(
            laid.ids[a:b], shown[a:b], laid.loss[a:b], laid.allowed[a:b], laid.modality[a:b],
            key, (source, place, number),
        )
        for number, (a, b) in enumerate(pairwise(edges))
    ]  # fmt: skip


def fullest(lengths: Sequence[int], room: int) -> list[int]:
    """Which of some lengths together come nearest to `room` without passing it; ascending.

    Subset sums as bits of an integer: bit s after item i says that some of the items up to i make
    s. Of several ways that fill as much, the one with the earlier items is taken.
    """
    within = (1 << (room + 1)) - 1
    sums = [1]
    for length in lengths:
        sums.append((sums[-1] | sums[-1] << length) & within)
        if sums[-1] >> room:
            break
    left = sums[-1].bit_length() - 1
    chosen = []
    for at in range(len(sums) - 2, -1, -1):
        if not sums[at] >> left & 1:
            chosen.append(at)
            left -= lengths[at]
    return chosen[::-1]


class Packer:
    """Pieces that wait for a row, the oldest first.

    The oldest is in the next row in any case, so none waits for more rows than there are pieces
    before it.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.waiting: list[Piece] = []
        self._lengths: list[int] = []
        self._ids = 0
        # 16 rows, but of long rows, where more pieces fit into one, so many that memory is bounded.
        self._most = length * max(4, min(16, 65_536 // length))

    @property
    def wants_more(self) -> bool:
        """Whether a row would be fuller with more to choose from.

        Where pieces are short, two rows' worth of them fill a row to the last place. Where few make
        a row, 32 of them are held or `_most`: of the pocket world's documents, 80 to 500 ids and
        more, 4 rows of 512 places left 5% empty, 16 rows 1%.
        """
        few = len(self.waiting) < 32
        return self._ids < (self._most if few else 2 * self.length)

    def add(self, pieces: Sequence[Piece]) -> None:
        lengths = [len(piece) for piece in pieces]
        self.waiting += pieces
        self._lengths += lengths
        self._ids += sum(lengths)

    def take(self) -> list[Piece]:
        """The pieces of the next row, in the order in which they came; [] if none waits."""
        if not self.waiting:
            return []
        others = fullest(self._lengths[1:], self.length - self._lengths[0])
        chosen = [0, *(at + 1 for at in others)]
        row = [self.waiting[at] for at in chosen]
        for at in reversed(chosen):
            del self.waiting[at]
            self._ids -= self._lengths.pop(at)
        return row


def fill_row(
    pieces: Sequence[Piece], length: int, padding: int, table: Sequence[Ranges]
) -> dict[str, Any]:
    """The fields of a `Row` that its documents decide. table: `Layout.ranges`."""
    sizes = [len(piece) for piece in pieces]
    starts = np.cumsum([0, *sizes], dtype=np.int32)
    used = int(starts[-1])
    ids = np.full(length, padding, np.int32)
    shown = ids.copy()
    loss, modality = np.zeros(length, np.float32), np.zeros(length, np.uint8)
    allowed = np.zeros(length, np.int32)
    for piece, start, stop in zip(pieces, starts.tolist(), starts[1:].tolist()):
        ids[start:stop] = piece.ids
        shown[start:stop] = piece.shown
        loss[start:stop] = piece.loss
        modality[start:stop] = piece.modality
        allowed[start:stop] = piece.allowed
    # The layout numbers what it meets; a row must not depend on what its worker has met before.
    met = np.flatnonzero(np.bincount(allowed[:used], minlength=len(table))).tolist()
    met.sort(key=table.__getitem__)
    numbers = np.zeros(len(table), np.int32)
    numbers[met] = np.arange(len(met))
    allowed[:used] = numbers[allowed[:used]]
    return {
        "ids": ids, "shown": shown, "loss": loss, "allowed": allowed, "modality": modality,
        "starts": starts, "ranges": tuple(table[number] for number in met),
        "keys": tuple(piece.key for piece in pieces),
    }  # fmt: skip

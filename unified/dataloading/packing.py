"""Tokenized documents split into chunks, and chunks packed into sequences of a fixed length.

Lengths count positions of the decoder, however many ids each holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from unified.dataloading.deeper_ids import DeeperIds, joined
from unified.dataloading.embedded_media import EmbeddedMedium, between, moved
from unified.dataloading.tokenized_document import TokenizedDocument
from unified.vocabulary.block import Ranges

__all__ = [
    "Chunk",
    "Packer",
    "TooLongError",
    "best_fill",
    "pack",
    "split_document",
    "split_points",
]


class TooLongError(ValueError):
    """A document holds a picture or sound that is longer than a sequence."""


@dataclass(frozen=True, eq=False, slots=True)
class Chunk:
    """A document, or a part of one that was split; arrays as in `PackedSequence`.

    Its length is that of its positions.

    reference: (source, index in its order, number of the chunk): it can be read again from these.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    loss_weights: np.ndarray
    allowed: np.ndarray
    modality: np.ndarray
    key: str
    reference: tuple[str, int, int]
    deeper: DeeperIds | None = None
    embedded: tuple[EmbeddedMedium, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_ids(self) -> int:
        return len(self.labels) + (0 if self.deeper is None else len(self.deeper))


def split_points(document: TokenizedDocument, seq_len: int) -> list[int]:
    """The positions where a document is to be split so that no chunk is longer than `seq_len`,
    0 and its length among them.

    A chunk takes in one segment after the other while they fit. A text longer than a sequence is
    split inside, wherever a sequence is full; what is left of it goes on with what follows.

    Raises:
        TooLongError: a picture or sound does not fit into a sequence.
    """
    if document.boundaries[-1] <= seq_len:
        return [0, document.boundaries[-1]]
    points = [0]
    for part, (start, stop) in enumerate(pairwise(document.boundaries)):
        if stop - start > seq_len and not document.is_text[part]:
            raise TooLongError(
                f"its picture or sound of {stop - start} positions is longer than a sequence of"
                f" {seq_len}"
            )
        if stop - start > seq_len:
            points += range(points[-1] + seq_len, stop, seq_len)
        elif stop - points[-1] > seq_len:
            points.append(start)
    return [*points, document.boundaries[-1]]


def split_document(
    document: TokenizedDocument,
    input_ids: np.ndarray,
    seq_len: int,
    key: str,
    source: str,
    index: int,
) -> list[Chunk]:
    """The chunks of a document. The first position of each has no loss: nothing stands before it.

    Args:
        document: its loss weights are changed in place.
        input_ids: int32 (L,), what the decoder reads in place of the document's ids.
        seq_len: positions of a sequence.
        key: "source/key" of the sample.
        source, index: where it stands in its source's order, for `Chunk.reference`.
    """
    points = split_points(document, seq_len)
    if document.depth is not None:
        return _split_together(document, document.depth, input_ids, points, key, (source, index))
    document.loss_weights[points[:-1]] = 0.0
    return [
        Chunk(
            input_ids[a:b], document.ids[a:b], document.loss_weights[a:b], document.allowed[a:b],
            document.modality[a:b], key, (source, index, number), None,
            between(document.embedded, a, b), _spans_between(document.spans, a, b),
        )
        for number, (a, b) in enumerate(pairwise(points))
    ]  # fmt: skip


def _split_together(
    document: TokenizedDocument,
    depth: np.ndarray,
    input_ids: np.ndarray,
    points: Sequence[int],
    key: str,
    source_index: tuple[str, int],
) -> list[Chunk]:
    """The chunks of a document some of whose positions hold several ids."""
    begins = np.flatnonzero(depth == 0)  # the first id of each position
    position = np.cumsum(depth == 0, dtype=np.int32) - np.int32(1)  # of each id
    for point in points[:-1]:
        document.loss_weights[position == point] = 0.0
    (later,) = np.nonzero(depth)
    columns = (
        input_ids, document.ids, document.loss_weights, document.allowed, document.modality
    )  # fmt: skip
    deeper = DeeperIds(position[later], depth[later], *(column[later] for column in columns))
    of_first = [column[begins] for column in columns]
    chunks = []
    for number, (a, b) in enumerate(pairwise(points)):
        read, labels, weights, allowed, modality = (column[a:b] for column in of_first)
        reference = (*source_index, number)
        columns_of = (read, labels, weights, allowed, modality)
        later_ids, media = deeper.between(a, b), between(document.embedded, a, b)
        spans = _spans_between(document.spans, a, b)
        chunks.append(Chunk(*columns_of, key, reference, later_ids, media, spans))
    return chunks


def _spans_between(
    spans: Sequence[tuple[int, int]], start: int, stop: int
) -> tuple[tuple[int, int], ...]:
    """What of spans lies in positions start to stop - 1, counted from `start`: where a document is
    split, each part sees what is in it."""
    parts = ((max(first, start) - start, min(last, stop) - start) for first, last in spans)
    return tuple((first, last) for first, last in parts if first < last)


def best_fill(lengths: Sequence[int], room: int) -> list[int]:
    """Indices of the lengths whose sum comes nearest to `room` without exceeding it; ascending.

    Subset sums as bits of an integer: bit s after item i says that some of the items up to i make
    s. Of several ways that fill as much, the one with the earlier items is chosen.
    """
    within = (1 << (room + 1)) - 1
    sums = [1]  # sums[i]: bit s set where some of the first i lengths add up to s
    for length in lengths:
        sums.append((sums[-1] | sums[-1] << length) & within)
        if sums[-1] >> room:  # full already
            break
    left = sums[-1].bit_length() - 1
    chosen = []
    for item in range(len(sums) - 2, -1, -1):
        if not sums[item] >> left & 1:  # not reachable without this one
            chosen.append(item)
            left -= lengths[item]
    return chosen[::-1]


class Packer:
    """Chunks that wait to be packed, the oldest first.

    The oldest is in the next sequence in any case, so none waits for more sequences than there are
    chunks before it.
    """

    def __init__(self, seq_len: int) -> None:
        self.seq_len = seq_len
        self.waiting: list[Chunk] = []
        self._lengths: list[int] = []
        self._num_ids = 0
        # 16 sequences, but of long ones, into which more chunks fit, so many that memory is
        # bounded.
        self._most_ids = seq_len * max(4, min(16, 65_536 // seq_len))

    @property
    def wants_more(self) -> bool:
        """Whether a sequence would be fuller with more to choose from.

        Where chunks are short, two sequences' worth of them fill one to the last position. Where
        few make a sequence, 32 of them are held or `_most_ids`: of the pocket world's documents, 80
        to 500 ids and more, 4 sequences of 512 positions left 5% empty, 16 sequences 1%.
        """
        few = len(self.waiting) < 32
        return self._num_ids < (self._most_ids if few else 2 * self.seq_len)

    def add(self, chunks: Sequence[Chunk]) -> None:
        """Append chunks to those that wait."""
        lengths = [len(chunk) for chunk in chunks]
        self.waiting += chunks
        self._lengths += lengths
        self._num_ids += sum(lengths)

    def next(self) -> list[Chunk]:
        """The chunks of the next sequence, in the order in which they came; [] if none waits."""
        if not self.waiting:
            return []
        others = best_fill(self._lengths[1:], self.seq_len - self._lengths[0])
        chosen = [0, *(index + 1 for index in others)]
        chunks = [self.waiting[index] for index in chosen]
        for index in reversed(chosen):
            del self.waiting[index]
            self._num_ids -= self._lengths.pop(index)
        return chunks


def pack(
    chunks: Sequence[Chunk], seq_len: int, padding: int, table: Sequence[Ranges]
) -> dict[str, Any]:
    """The fields of a `PackedSequence` that its documents decide.

    Args:
        chunks: of `seq_len` positions at most together.
        seq_len: L, positions of the sequence.
        padding: the id that fills it up.
        table: `Layout.ranges`, which the chunks' `allowed` index.
    """
    starts = np.cumsum([0, *(len(chunk) for chunk in chunks)], dtype=np.int32)
    used = int(starts[-1])
    labels = np.full(seq_len, padding, np.int32)  # (L,), as all that follow
    input_ids = labels.copy()
    loss_weights, modality = np.zeros(seq_len, np.float32), np.zeros(seq_len, np.uint8)
    allowed = np.zeros(seq_len, np.int32)
    for chunk, start, stop in zip(chunks, starts.tolist(), starts[1:].tolist()):
        input_ids[start:stop] = chunk.input_ids
        labels[start:stop] = chunk.labels
        loss_weights[start:stop] = chunk.loss_weights
        modality[start:stop] = chunk.modality
        allowed[start:stop] = chunk.allowed
    deeper = joined([
        (start, chunk.deeper)
        for chunk, start in zip(chunks, starts.tolist())
        if chunk.deeper is not None and len(chunk.deeper)
    ])  # fmt: skip
    # The layout numbers ranges as it meets them; a sequence must not depend on what its worker has
    # met before.
    counts = np.bincount(allowed[:used], minlength=len(table))
    if deeper is not None:
        counts += np.bincount(deeper.allowed, minlength=len(table))
    present = np.flatnonzero(counts).tolist()
    present.sort(key=table.__getitem__)
    numbers = np.zeros(len(table), np.int32)
    numbers[present] = np.arange(len(present))
    allowed[:used] = numbers[allowed[:used]]
    if deeper is not None:
        deeper = replace(deeper, allowed=numbers[deeper.allowed])
    return {
        "input_ids": input_ids, "labels": labels, "loss_weights": loss_weights, "allowed": allowed,
        "modality": modality, "starts": starts,
        "ranges": tuple(table[number] for number in present),
        "keys": tuple(chunk.key for chunk in chunks), "deeper": deeper,
        "embedded": tuple(
            medium
            for chunk, start in zip(chunks, starts.tolist())
            for medium in moved(chunk.embedded, start)
        ),
        "spans": tuple(
            (first + start, last + start)
            for chunk, start in zip(chunks, starts.tolist())
            for first, last in chunk.spans
        ),
    }  # fmt: skip

"""What the engine asks of a backend: forward passes over KV slots, and logits of some ids.

Shape legend: `N` sequences, `T` new ids of all sequences, `D` width of the hidden states.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Array",
    "AttendedMedium",
    "BidirectionalPosition",
    "Cache",
    "CodesDecoder",
    "ContinuousPosition",
    "Decoder",
    "HiddenStates",
    "LayeredDecoder",
    "LayeredReading",
    "OwnPosition",
    "PartLogits",
    "Position",
    "PositionCodes",
    "Ranges",
    "attended_medium",
    "continuous_positions",
    "id_at",
]  # fmt: skip

Array = NDArray[np.float32]
HiddenStates = Any
"""Hidden states (T, D) in a type of the backend's own: an array or tensor of any device. The engine
takes their `len` and indexes them with lists of rows, and hands them to `Decoder.logits`."""
Ranges = tuple[tuple[int, int], ...]
"""Ids as ranges [start, stop), ascending."""


@dataclass(frozen=True, eq=False, slots=True)
class ContinuousPosition:
    """A position that holds a vector where others hold an id's embedding.

    vector: float32 (D,). content: digest of the vectors of its medium. index: which of them it is.
    Two are equal where content and index are, so that what begins alike is read once.
    """

    vector: Array
    content: bytes
    index: int

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ContinuousPosition):
            return NotImplemented
        return self.index == other.index and self.content == other.content

    def __hash__(self) -> int:
        return hash((self.content, self.index))


@dataclass(frozen=True, eq=False, slots=True)
class AttendedMedium:
    """A position that holds an id, behind which the sequence has seen a medium: modules in the
    decoder's layers attend to its vectors.

    id: whose embedding it is. vectors: float32 (N, D). content: digest of them; two are equal where
    id and content are.
    """

    id: int
    vectors: Array
    content: bytes

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AttendedMedium):
            return NotImplemented
        return self.id == other.id and self.content == other.content

    def __hash__(self) -> int:
        return hash((self.id, self.content))


def _digest(values: Array) -> bytes:
    return hashlib.sha256(str(values.shape).encode() + values.tobytes()).digest()


def continuous_positions(vectors: Array) -> list[ContinuousPosition]:
    """A position for each of the vectors of a medium, float32 (n, D)."""
    values = np.ascontiguousarray(vectors, np.float32)
    content = _digest(values)
    return [ContinuousPosition(vector, content, at) for at, vector in enumerate(values)]


def attended_medium(id: int, vectors: Array) -> AttendedMedium:
    """The one position of a medium whose vectors, float32 (N, D), are attended to."""
    values = np.ascontiguousarray(vectors, np.float32)
    return AttendedMedium(id, values, _digest(values))


OwnPosition = int | tuple[int, ...] | ContinuousPosition | AttendedMedium
"""What a position of the decoder holds: an id; those of levels that are together, two or more, its
embedding being the sum of theirs; a vector in the place of an embedding; or an id behind which a
medium is seen."""


@dataclass(frozen=True, eq=False, slots=True)
class BidirectionalPosition:
    """A position of a span whose positions see one another, those behind them too.

    own: what it holds. ahead: how many positions of the span stand behind it. content: digest of
    the span. Two are equal where content and ahead are: keys and values of a position depend on the
    whole span, so that a cached one serves no other span.
    """

    own: OwnPosition
    ahead: int
    content: bytes

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BidirectionalPosition):
            return NotImplemented
        return self.ahead == other.ahead and self.content == other.content

    def __hash__(self) -> int:
        return hash((self.ahead, self.content))


Position = OwnPosition | BidirectionalPosition
"""A position, of a span that is seen both ways or not."""


def id_at(column: int, ranges: Ranges) -> int:
    """The id of a column of logits over `ranges`."""
    for start, stop in ranges:
        if column < stop - start:
            return start + column
        column -= stop - start
    raise IndexError(column)


class Cache(Protocol):
    """Keys and values of sequences, a KV slot for each; slots may have different lengths.

    lengths: ids in each slot, by its number; 0 for a number that is free. copies_in_parts: whether
    `copy_prefix` can go on from a `start`.
    """

    lengths: list[int]
    copies_in_parts: bool

    def allocate(self, max_ids: int) -> int:
        """The number of a new, empty slot for at most `max_ids` ids.

        Raises ValueError for more ids than positions, MemoryError where it does not fit.
        """

    def free(self, slot: int) -> None:
        """Give a slot's memory back. Its number may be allocated again."""

    def copy_prefix(
        self, source: int, target: int, length: int | None = None, start: int = 0
    ) -> None:
        """Make slot `target` a copy of the first `length` ids of slot `source`; None: of all.

        start: ids that the target has in common with the source already; 0 unless
        `copies_in_parts`. A source that cannot be truncated (see `truncate`) leaves the target
        empty.
        """

    def truncate(self, slot: int, length: int) -> None:
        """Truncate a slot to its first `length` ids.

        A cache that cannot be truncated (sliding windows, recurrent states) is reset.
        """

    def reset(self, slot: int) -> None:
        """Empty a slot, for another sequence."""


CacheT = TypeVar("CacheT", bound=Cache)


class Decoder(Protocol[CacheT]):
    """A decoder for sampling. Sequences of any lengths share a pass.

    One that chooses ids on its device has `sample`, too (`unified.engine.backends.device_choice`);
    one that computes the logits of several groups of rows at once has `PartLogits`.

    backend: its name. batch_invariant: whether the logits behind an id are the same bits whatever
    else is in the pass, and however many ids of the sequence are. vocab_size: ids it has logits
    for. max_positions: the most ids of a sequence. One that reads continuous positions has
    `input_width`: the numbers of a vector; one whose layers attend to media has `attends_media`;
    one that reads spans whose positions see one another has `bidirectional`: see
    `unified.engine.backends.both_ways`.
    """

    backend: ClassVar[str]
    batch_invariant: ClassVar[bool]
    vocab_size: int
    max_positions: int

    def available_bytes(self) -> int:
        """Bytes of memory that are left where caches lie."""

    def cache_bytes(self, max_ids: int) -> int:
        """Bytes of a KV slot for at most `max_ids` ids, as `Cache.allocate` makes it."""

    def new_cache(self, num_slots: int = 0, max_ids: int = 0) -> CacheT:
        """A `Cache` of `num_slots` slots for at most `max_ids` ids each; more can be allocated.

        Raises ValueError for more ids than positions, MemoryError where it does not fit.
        """

    def forward(
        self, cache: CacheT, slots: Sequence[int], input_ids: Sequence[Sequence[Position]]
    ) -> HiddenStates:
        """Append one or more positions to each of some slots.

        Returns hidden states (T, D), one row for each new position: those of the first slot in
        order, then those of the next.

        Raises MemoryError, or an error of its own. A slot of that pass then holds what it held
        before, or more, or nothing, and `cache.lengths` says which.
        """

    def logits(self, hidden_states: HiddenStates, ranges: Ranges) -> Array:
        """Logits float32 (T, ids of all ranges), in the order of the ranges."""


class PartLogits(Protocol):
    """The method of a decoder that computes the logits of several groups of rows in one call."""

    def logits_of_parts(
        self, hidden_states: HiddenStates, parts: Sequence[tuple[Sequence[int], Ranges]]
    ) -> Sequence[Array]:
        """For each part (rows of the hidden states, ranges) what `Decoder.logits` gives for these
        rows and ranges, in the same bits."""


class LayeredReading(Protocol):
    """Ids of one slot on their way through the decoder's layers.

    layers_left: that have not run over them. The slot holds the ids once it is 0, not before: who
    gives a reading up only forgets it.
    """

    layers_left: int

    def advance(self, layers: int) -> None:
        """Run at most so many more layers. Raises what `Decoder.forward` raises."""


class LayeredDecoder(Decoder[CacheT], Protocol[CacheT]):
    """A decoder that can read a prompt a few layers at a time, between passes for others.

    reads_by_layers: False where a class cannot although the one it is made of can.
    """

    reads_by_layers: ClassVar[bool]

    def begin_reading(self, cache: CacheT, slot: int, ids: Sequence[Position]) -> LayeredReading:
        """Read the next positions of a slot, one or more, whose hidden states nobody needs.

        Until it ends, or is forgotten, nothing else may be read into the slot.
        """


class PositionCodes(Protocol):
    """Positions that are filled id by id, behind hidden states (N, D) of a pass."""

    def append(self, rows: Sequence[int], ids: Sequence[int]) -> None:
        """Say what the next id of some of the N positions is."""

    def logits(self, rows: Sequence[int], ranges: Ranges) -> Array:
        """Logits float32 (len(rows), ids of all ranges) of the next id of some positions, all of
        which hold one id at least. A row's are the same bits whatever others are asked for."""


class CodesDecoder(Decoder[CacheT], Protocol[CacheT]):
    """A decoder whose positions can hold several ids; the first comes of `logits`."""

    def begin_positions(self, hidden_states: HiddenStates) -> PositionCodes:
        """The positions that follow on hidden states (N, D)."""

"""A document as ids, and the builder that puts one together.

L ids of a document.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unified.dataloading.embedded_media import EmbeddedMedium

__all__ = ["MarkerRun", "TokenizedDocument", "TokenizedDocumentBuilder"]


@dataclass(frozen=True, eq=False, slots=True)
class TokenizedDocument:
    """A document as ids.

    Attributes:
        ids: int32 (L,).
        loss_weights: float32 (L,), the weight of predicting each id.
        allowed: int32 (L,), index into `Layout.ranges`.
        modality: uint8 (L,).
        boundaries: where a document may be split: the positions of the decoder at which its
            beginning, each segment with the markers before it, and its end start; and how many
            there are.
        is_text: for each stretch between boundaries whether it is text, which may be split inside.
        codes: for each picture or sound its kind, the index of its first id, and the offsets from
            there of its codes by codebook level.
        depth: uint8 (L,), the index of each id within its position; None where every position
            holds one id.
        embedded: what stands at its continuous positions, in order.
        spans: [start, stop) of positions that see one another.
    """

    ids: np.ndarray
    loss_weights: np.ndarray
    allowed: np.ndarray
    modality: np.ndarray
    boundaries: list[int]
    is_text: list[bool]
    codes: list[tuple[str, int, list[np.ndarray]]]
    depth: np.ndarray | None = None
    embedded: tuple[EmbeddedMedium, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class MarkerRun:
    """Marker ids, what is allowed at each of them, and after the last of them.

    num_closing: how many of them, from the first, end the role before.
    """

    ids: np.ndarray
    allowed: np.ndarray
    after: int
    num_closing: int = 0


class TokenizedDocumentBuilder:
    """Collects the parts of a document."""

    def __init__(self) -> None:
        self.length = 0  # in ids
        self._num_positions = 0
        self.boundaries: list[int] = []
        self.is_text: list[bool] = []
        self.codes: list[tuple[str, int, list[np.ndarray]]] = []
        # Positions whose weight is not that of the part they are in.
        self.own_weights: list[tuple[np.ndarray, float]] = []
        self._embedded: list[EmbeddedMedium] = []
        self._ids: list[np.ndarray] = []
        self._allowed: list[np.ndarray] = []
        self._modality: list[np.ndarray] = []
        self._weights: list[float] = []
        self._counts: list[int] = []
        self._depths: list[tuple[int, np.ndarray]] = []  # of runs in which levels are together
        # Of spans that are seen both ways, in positions and in ids; and where an open one begins.
        self._spans: list[tuple[tuple[int, int], tuple[int, int]]] = []
        self._span_start: tuple[int, int] | None = None

    def begin_part(self, text: bool = False) -> None:
        """The document may be split here. text: and inside what follows."""
        self.boundaries.append(self._num_positions)
        self.is_text.append(text)

    def begin_span(self, behind: int = 0, whole: bool = False) -> None:
        """What is added from here on sees one another; a span that is open goes on.

        behind: how many markers come before it. whole: from the document's beginning on.
        """
        if self._span_start is None:
            at = self._num_positions + behind, self.length + behind
            self._span_start = (0, 0) if whole else at

    def end_span(self, behind: int = 0) -> bool:
        """What is added behind the next `behind` markers is no part of the span that is open.
        Whether one is."""
        if self._span_start is None:
            return False
        (first, first_id), self._span_start = self._span_start, None
        stop = self._num_positions + behind
        self._spans.append(((first, stop), (first_id, self.length + behind)))
        return True

    def add(
        self,
        ids: np.ndarray,
        allowed: np.ndarray,
        modality: np.ndarray,
        weight: float,
        depth: np.ndarray | None = None,
    ) -> None:
        """Append ids that have one weight. depth: uint8 (L,); None: each is a position."""
        if depth is None:
            self._num_positions += len(ids)
        else:
            self._depths.append((self.length, depth))
            self._num_positions += int(np.count_nonzero(depth == 0))
        self._ids.append(ids)
        self._allowed.append(allowed)
        self._modality.append(modality)
        self._weights.append(weight)
        self._counts.append(len(ids))
        self.length += len(ids)

    def embed(self, kind: str, offsets: np.ndarray, features: np.ndarray) -> None:
        """Say what stands at positions of the ids that are added next, `offsets` from the first."""
        at = (offsets + self._num_positions).astype(np.int32)
        self._embedded.append(EmbeddedMedium(kind, at, features))

    def add_markers(self, run: MarkerRun, weights: tuple[float, float], factor: float) -> None:
        """Append markers. weights: of those that close a role and of the others, as `loss_weights`
        gives them."""
        count, closing = len(run.ids), run.num_closing
        if not count:
            return
        self.add(run.ids, run.allowed, np.zeros(count, np.uint8), weights[1] * factor)
        if closing:
            self._weights[-1:] = [weights[0] * factor, weights[1] * factor]
            self._counts[-1:] = [closing, count - closing]

    def build(self) -> TokenizedDocument:
        """The document."""
        loss_weights = np.repeat(np.array(self._weights, np.float32), self._counts)
        for positions, weight in self.own_weights:
            loss_weights[positions] = weight
        for _, (first, stop) in self._spans:
            loss_weights[first + 1 : stop] = 0.0  # markers: what is seen is not predicted
        depths = None
        if self._depths:
            depths = np.zeros(self.length, np.uint8)
            for start, depth in self._depths:
                depths[start : start + len(depth)] = depth
        return TokenizedDocument(
            np.concatenate(self._ids), loss_weights, np.concatenate(self._allowed),
            np.concatenate(self._modality), [*self.boundaries, self._num_positions], self.is_text,
            self.codes, depths, tuple(self._embedded), tuple(span for span, _ in self._spans),
        )  # fmt: skip

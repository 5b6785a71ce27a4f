"""A document as ids, and how one is put together from parts.

L ids of a document.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Laid", "Parts", "Passage"]


@dataclass(frozen=True, eq=False, slots=True)
class Laid:
    """A document as ids.

    Attributes:
        ids: int32 (L,).
        loss: float32 (L,), the weight of predicting each id.
        allowed: int32 (L,), index into `Layout.ranges`.
        modality: uint8 (L,).
        units: where a document may be cut: the places where its begin, each segment with the
            markers before it, and its end start; and L.
        texts: for each unit whether it is a text, which may be cut inside.
        codes: for each picture or sound its kind, where it starts, and from there the places of its
            codes by level.
    """

    ids: np.ndarray
    loss: np.ndarray
    allowed: np.ndarray
    modality: np.ndarray
    units: list[int]
    texts: list[bool]
    codes: list[tuple[str, int, list[np.ndarray]]]


@dataclass(frozen=True, eq=False, slots=True)
class Passage:
    """Markers, and what is allowed at each of them and after them. ends: how many of them end the
    role before."""

    ids: np.ndarray
    allowed: np.ndarray
    after: int
    ends: int = 0


class Parts:
    """A document being put together."""

    def __init__(self) -> None:
        self.ids: list[np.ndarray] = []
        self.allowed: list[np.ndarray] = []
        self.modality: list[np.ndarray] = []
        self.weights: list[float] = []
        self.counts: list[int] = []
        self.units: list[int] = []
        self.texts: list[bool] = []
        self.codes: list[tuple[str, int, list[np.ndarray]]] = []
        self.own: list[tuple[np.ndarray, float]] = []  # places of a weight of their own
        self.length = 0

    def unit(self, text: bool = False) -> None:
        self.units.append(self.length)
        self.texts.append(text)

    def add(
        self, ids: np.ndarray, allowed: np.ndarray, modality: np.ndarray, weight: float
    ) -> None:
        self.ids.append(ids)
        self.allowed.append(allowed)
        self.modality.append(modality)
        self.weights.append(weight)
        self.counts.append(len(ids))
        self.length += len(ids)

    def markers(self, passage: Passage, weights: tuple[float, float], factor: float) -> None:
        """weights: as `loss_weights` gives them."""
        count, ends = len(passage.ids), passage.ends
        if not count:
            return
        # They are mostly all of one kind; counted apart where they are not.
        self.add(passage.ids, passage.allowed, np.zeros(count, np.uint8), weights[1] * factor)
        if ends:
            self.weights[-1:] = [weights[0] * factor, weights[1] * factor]
            self.counts[-1:] = [ends, count - ends]

    def laid(self) -> Laid:
        loss = np.repeat(np.array(self.weights, np.float32), self.counts)
        for places, weight in self.own:
            loss[places] = weight
        return Laid(
            np.concatenate(self.ids), loss, np.concatenate(self.allowed),
            np.concatenate(self.modality), [*self.units, self.length], self.texts, self.codes,
        )  # fmt: skip

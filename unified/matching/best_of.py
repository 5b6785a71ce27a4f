"""The best of several pictures, by a scorer of how well each fits its text (as DALL-E has it,
arXiv:2102.12092, section 2.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

__all__ = ["Ranked", "Scorer", "rank"]


class Scorer(Protocol):
    """What says how well pictures fit a text; a `Tower` is one."""

    def scores(self, text: str, pictures: Sequence[np.ndarray]) -> Sequence[float]:
        """A number for each picture, uint8 (H, W, 3); a larger one for what fits better."""


class Ranked(NamedTuple):
    """A picture by its number among those that were scored."""

    number: int
    score: float


def rank(scorer: Scorer, text: str, pictures: Sequence[np.ndarray]) -> list[Ranked]:
    """The pictures by how well they fit, the best first; equal ones in their order.

    Raises ValueError for a scorer that does not give a finite number for each.
    """
    scores = [float(score) for score in scorer.scores(text, pictures)]
    if len(scores) != len(pictures) or not np.isfinite(scores).all():
        raise ValueError(
            f"the scorer gave {scores} for {len(pictures)} pictures, expected a number for each"
        )
    order = sorted(range(len(scores)), key=lambda number: -scores[number])
    return [Ranked(number, scores[number]) for number in order]

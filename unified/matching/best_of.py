"""The best of several pictures, by a scorer of how well each fits its text (as DALL-E has it,
arXiv:2102.12092, section 2.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

__all__ = ["Ranked", "Scorer", "check_best_of", "rank"]


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


def check_best_of(best_of: int, n: int, scorer: object | None, text: str | None) -> int:
    """How many pictures are drawn. Raises ValueError where the best of them cannot be chosen."""
    if best_of < n:
        raise ValueError(f"best of {best_of} pictures {n} are wanted, expected {n} or more drawn")
    if scorer is None:
        raise ValueError(
            f"best of {best_of}: there is no scorer; give a tower, which says how well a picture"
            " fits a text (`unified tower train`, or a published CLIP or SigLIP)"
        )
    if text is None:
        raise ValueError(f"best of {best_of}: what to draw is said aloud, expected a text to score")
    return best_of

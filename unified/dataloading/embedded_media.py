"""What stands at the continuous positions of documents and sequences: features, or media.

L positions of a sequence, n of a medium.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

__all__ = ["EmbeddedMedium", "between", "moved"]


@dataclass(frozen=True, eq=False, slots=True)
class EmbeddedMedium:
    """One medium at continuous positions.

    Attributes:
        kind: of its span.
        positions: int32 (n,), where it stands, ascending.
        features: of its encoder, float16 (*grid, E); or the prepared medium, uint8 or float32, for
            the encoder to read in the step.
    """

    kind: str
    positions: np.ndarray
    features: np.ndarray


def between(media: Sequence[EmbeddedMedium], start: int, stop: int) -> tuple[EmbeddedMedium, ...]:
    """Those that stand in positions start to stop - 1, as wholes, counted from `start`."""
    inside = [m for m in media if start <= m.positions[0] < stop]
    assert all(m.positions[-1] < stop for m in inside)  # a medium is never split
    return moved(inside, -start)


def moved(media: Sequence[EmbeddedMedium], by: int) -> tuple[EmbeddedMedium, ...]:
    """The same with positions that count from elsewhere."""
    return tuple(replace(m, positions=m.positions + np.int32(by)) for m in media)

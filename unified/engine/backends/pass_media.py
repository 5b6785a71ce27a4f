"""Media for modules inside a decoder's layers: what a pass holds, and what KV slots have seen.

A module that looks at a medium must know, in every later pass, which medium stood before: it is
state of a sequence, like its keys and values, and is copied and truncated with them.

Legend: B rows, T positions, N vectors of a medium, D width.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unified.engine.backends.base import AttendedMedium, ContinuousPosition, OwnPosition

__all__ = ["PassMedia", "SeenMedium", "latest_of", "media_of", "pass_media", "read_media"]


@dataclass(eq=False, slots=True)
class SeenMedium:
    """A medium that a sequence has seen.

    Attributes:
        at: its position, or the first of them.
        vectors: (N, D), what may be attended to; None: it stands at positions of its own.
        projected: in sampling, keys and values by the module that made them of the vectors.
    """

    at: int
    vectors: Tensor | None = None
    projected: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)


@dataclass
class PassMedia:
    """What of a pass is of media, for modules inside layers.

    Attributes:
        mask: bool (B, T), the positions that hold vectors; None: none does.
        media: what the rows have seen.
        latest: int64 (B, T), for each position the index in `media` of the last medium at it or
            before it in its document, -1 where there is none; None: there is none anywhere.
    """

    mask: Tensor | None = None
    media: Sequence[SeenMedium] = ()
    latest: Tensor | None = None

    def __deepcopy__(self, memo: object) -> PassMedia:
        """A model's copy has passes of its own; those of training hold what has gradients."""
        return PassMedia()

    def mark(self, at: NDArray[np.int64] | Tensor | None, ids: Tensor) -> None:
        """Say which positions of the next pass hold vectors.

        at: int64, counted over the pass; None: none. ids: (B, T) or (B, T, K).
        """
        self.mask = None
        if at is not None:
            where = torch.as_tensor(at, device=ids.device)
            mask = torch.zeros(ids.shape[0] * ids.shape[1], dtype=torch.bool, device=ids.device)
            self.mask = mask.index_fill(0, where, True).view(ids.shape[:2])

    def seen(self, x: Tensor) -> Tensor:
        """Whether a medium stands at each position of (B, T, D) or before it: bool (B, T)."""
        if self.latest is None or self.latest.shape != x.shape[:2]:
            return torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        return self.latest >= 0


_MEDIA = "unified_pass_media"


def media_of(hf: nn.Module) -> PassMedia:
    """What the passes of a model say of media, one for all its modules."""
    media = vars(hf).get(_MEDIA)
    if media is None:
        media = PassMedia()
        object.__setattr__(hf, _MEDIA, media)
    return media


@contextmanager
def pass_media(hf: nn.Module, **fields: Any) -> Iterator[None]:
    """Say what of the passes inside the block is of media (fields of `PassMedia`)."""
    media = media_of(hf)
    before = copy.copy(media.__dict__)
    media.__dict__.update(fields)
    try:
        yield
    finally:
        media.__dict__.update(before)


def read_media(
    positions: Sequence[OwnPosition], start: int, device: torch.device
) -> tuple[list[OwnPosition], list[SeenMedium]]:
    """New positions of a sequence, an id where a medium is attended to; and the media in them.

    start: positions that the sequence has before.
    """
    plain: list[OwnPosition] = []
    media: list[SeenMedium] = []
    for at, position in enumerate(positions, start):
        if isinstance(position, AttendedMedium):
            media.append(SeenMedium(at, torch.from_numpy(position.vectors).to(device)))
            position = position.id
        elif isinstance(position, ContinuousPosition) and position.index == 0:
            media.append(SeenMedium(at))
        plain.append(position)
    return plain, media


def latest_of(
    rows: Sequence[Sequence[SeenMedium]], starts: Sequence[int], count: int, device: torch.device
) -> tuple[list[SeenMedium], Tensor | None]:
    """`PassMedia.media` and `PassMedia.latest` (B, count) of new positions.

    rows: what each row has seen, in order, the new positions included. starts: the positions that
    each has before these.
    """
    media: list[SeenMedium] = []
    numbers: dict[int, int] = {}  # a medium that rows share is attended to once
    latest = np.full((len(rows), count), -1, np.int64)
    for row, (own, start) in enumerate(zip(rows, starts)):
        places = [medium.at for medium in own]
        last = np.searchsorted(places, np.arange(start, start + count), side="right") - 1
        for index in np.unique(last[last >= 0]).tolist():
            medium = own[index]
            number = numbers.setdefault(id(medium), len(media))
            if number == len(media):
                media.append(medium)
            latest[row, last == index] = number
    if not media:
        return media, None
    return media, torch.from_numpy(latest).to(device)

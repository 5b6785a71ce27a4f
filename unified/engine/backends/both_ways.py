"""Spans whose positions see one another: prefix attention, as positions and as masks.

A query sees the keys up to its own and, inside such a span, up to the span's last. A span is read
in one pass; what is read again of it later, its last positions, finds the others' keys as they were
with the whole span before them.

Legend: `c` new positions of a sequence, `L` positions of it with these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unified.engine.backends.base import (
    AttendedMedium,
    BidirectionalPosition,
    ContinuousPosition,
    OwnPosition,
    Position,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["as_span", "check_full_attention", "seen_mask", "seen_until", "without_spans"]


def as_span(positions: Sequence[Position]) -> list[Position]:
    """Positions as a span that is seen both ways."""
    own = [p.own if isinstance(p, BidirectionalPosition) else p for p in positions]
    digest = hashlib.sha256(str(len(own)).encode())
    for position in own:
        digest.update(_bytes_of(position))
    content, last = digest.digest(), len(own) - 1
    return [BidirectionalPosition(p, last - at, content) for at, p in enumerate(own)]


def _bytes_of(position: OwnPosition) -> bytes:
    if isinstance(position, ContinuousPosition):
        return b"v" + position.content + str(position.index).encode()
    if isinstance(position, AttendedMedium):
        return b"m" + position.content + str(position.id).encode()
    return b"i" + str(position).encode()


def without_spans(
    rows: Sequence[Sequence[Position]],
) -> tuple[list[Sequence[OwnPosition]], list[list[int] | None]]:
    """Rows of positions as what they hold, and for each how many its positions see ahead; None for
    a row without a span."""
    plain: list[Sequence[OwnPosition]] = []
    ahead: list[list[int] | None] = []
    for row in rows:
        if any(isinstance(p, BidirectionalPosition) for p in row):
            plain.append([p.own if isinstance(p, BidirectionalPosition) else p for p in row])
            ahead.append([p.ahead if isinstance(p, BidirectionalPosition) else 0 for p in row])
        else:
            plain.append(row)  # type: ignore[arg-type]
            ahead.append(None)
    return plain, ahead


def seen_until(ahead: Sequence[int], start: int) -> NDArray[np.int64]:
    """How many of a sequence's keys each new position sees, int64 (c,).

    start: positions that the sequence has before. A span that goes on behind the pass is a mistake
    of the caller's.
    """
    until = start + 1 + np.arange(len(ahead)) + np.array(ahead, np.int64)
    assert until.max(initial=0) <= start + len(ahead), "a span is read in one pass"
    return until


def seen_mask(until: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """What is added to scores: 0 where a query may look, the least number elsewhere.

    until: int64 (..., c), of each query. Returns (..., c, length).
    """
    import torch  # which commands of the shipped model do without

    hidden = torch.arange(length, device=until.device) >= until[..., None]
    mask = torch.zeros(hidden.shape, dtype=dtype, device=until.device)
    return mask.masked_fill_(hidden, torch.finfo(dtype).min)


def check_full_attention(config: object, name: str) -> None:
    """Raises ValueError for a model some of whose layers see less than all that came before.

    name: of the model.
    """
    kinds = set(getattr(config, "layer_types", None) or ())
    limits = ("sliding_window", "attention_chunk_size")
    windows = [n for n in limits if not kinds and getattr(config, n, None) is not None]
    if windows or not kinds <= {"full_attention"}:
        found_kinds = ", ".join(sorted(kinds - {"full_attention"})) or ", ".join(windows)
        raise ValueError(
            f"{name} has layers of {found_kinds}: spans that are seen both ways need full attention"
            " in every layer; take another model, or a format without `bidirectional`"
        )

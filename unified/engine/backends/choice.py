"""What a backend that chooses ids on its device is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from unified.engine.backends.base import Ranges
from unified.engine.sampler import SpanSampling

__all__ = ["Choice"]


@dataclass(frozen=True)
class Choice:
    """An id to choose for one request.

    rows: of the hidden states, the full prompt's first, then those of `Guidance.conditions`.
    ranges: ids that the grammar allows. sampling: its parameters. seed: the request's.
    number: ids that the request has chosen before. penalized: ids that its repetition penalty is
    of, empty without one.
    """

    rows: tuple[int, ...]
    ranges: Ranges
    sampling: SpanSampling
    seed: int
    number: int
    penalized: tuple[int, ...] = ()

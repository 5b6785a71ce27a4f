"""What a backend that chooses ids on its device is asked for.

Such a `Decoder` has a method more, and then every id is chosen by it that is chosen one at a time:
drafts are verified, and ends of documents weighed, with `Decoder.logits`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from unified.engine.backends.base import HiddenStates, Ranges
from unified.engine.sampler import SpanSampling

__all__ = ["DeviceChoice", "DeviceSampler"]


@dataclass(frozen=True)
class DeviceChoice:
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


class DeviceSampler(Protocol):
    """The method that such a decoder has."""

    def sample(self, hidden_states: HiddenStates, choices: Sequence[DeviceChoice]) -> list[int]:
        """An id for each choice, which depends on that choice alone.

        Raises ValueError where logits are not numbers: the decoder's weights are damaged.
        """

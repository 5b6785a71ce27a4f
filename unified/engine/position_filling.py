"""Positions of several ids: the first comes of the decoder's own logits, here are the others.

A pass chooses the first id of every position, as it does of text. Those that hold more are filled
in rounds, level by level, for all requests together: a depth decoder, or the parallel heads of the
same hidden states, says what comes next (`PositionCodes`). What the grammar forces, such as the
fill of delays, is told to it, too. This is for what the backend does not write in one call
(`level_writing`).

Shape legend: `N` positions that are being filled, one for each branch of a request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unified.engine.active import ActiveRequest
from unified.engine.backends.base import Array, CodesDecoder, HiddenStates, PositionCodes, Ranges
from unified.engine.backends.device_choice import DeviceChoice
from unified.engine.choosing import Choice, choose_ids
from unified.engine.draft_policy import DraftPolicy

__all__ = ["PositionFilling"]


class PositionFilling:
    """Positions that some requests have begun, behind the hidden states of one pass."""

    def __init__(
        self,
        decoder: CodesDecoder,
        requests: Sequence[ActiveRequest],
        hidden_states: HiddenStates,
        rows: Mapping[int, int],
        policy: DraftPolicy,
    ) -> None:
        """See `choosing.choose_ids`."""
        branches = [branch for request in requests for branch in request.current_branches]
        before = [rows[id(branch)] for branch in branches]
        every = before == list(range(len(hidden_states)))
        codes = decoder.begin_positions(hidden_states if every else hidden_states[before])
        self._logits = (_DeviceCodes if hasattr(codes, "sample") else _CodeLogits)(codes)
        self._index_of = {id(branch): index for index, branch in enumerate(branches)}
        self._indices = np.arange(len(branches))
        self._told = dict.fromkeys(map(id, requests), 0)  # ids of each position
        self._policy = policy

    def choose(self, requests: Sequence[ActiveRequest]) -> Iterator[Choice]:
        """The next id of each position, which the caller accepts before it asks again.

        requests: those whose positions are not whole yet.

        Raises what went wrong for any of them.
        """
        self._tell(requests)
        logits, indices = self._logits, self._indices
        for outcome in choose_ids(logits, requests, indices, self._index_of, self._policy):
            if not isinstance(outcome, Choice):
                raise outcome[1]
            yield outcome

    def _tell(self, requests: Sequence[ActiveRequest]) -> None:
        """Tell the backend what has been chosen or forced since."""
        behind = list(requests)
        while behind:
            rows: list[int] = []
            ids: list[int] = []
            more: list[ActiveRequest] = []
            for request in behind:
                told, begun = self._told[id(request)], request.begun
                if told == len(begun):
                    continue
                for branch in request.current_branches:
                    rows.append(self._index_of[id(branch)])
                    ids.append(begun[told])
                self._told[id(request)] = told + 1
                if told + 1 < len(begun):
                    more.append(request)
            if rows:
                self._logits.codes.append(rows, ids)
            behind = more


class _CodeLogits:
    """Positions in place of a decoder: their indices (n,) are its hidden states."""

    def __init__(self, codes: PositionCodes) -> None:
        self.codes = codes

    def logits(self, indices: NDArray[np.int64], ranges: Ranges) -> Array:
        return self.codes.logits(indices.tolist(), ranges)


class _DeviceCodes(_CodeLogits):
    """The same where the backend chooses ids on its device (`device_choice`)."""

    def sample(self, indices: NDArray[np.int64], choices: Sequence[DeviceChoice]) -> list[int]:
        codes: Any = self.codes
        ids: list[int] = codes.sample(choices)
        return ids

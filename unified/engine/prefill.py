"""How much of the prompts may be read in one pass while others wait for their next id."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median

__all__ = ["PrefillBudget"]

# A pass that reads a prompt takes at most this many times what a pass without takes: no stream's
# gap is above three steps, whose times vary.
_LONGEST = 2.2
_LEAST = 4
_FIRST = 16  # before anything has been measured
# Copying an id of a prefix takes a tenth of the time of reading it, or less: 6 us beside 200 with
# the decoder of the pocket kind.
_COPIES = 10
# After so many passes with a prompt in them the next has none, to measure what it takes.
_MEASURE_EVERY = 32
_RECENT = 5  # measurements whose median counts: a pass that the system interrupted does not


@dataclass
class PrefillBudget:
    """Chunked prefill (Agrawal et al., Sarathi-Serve, arXiv:2403.02310): ids of prompts per pass.

    The number follows from what passes take: those that only decode, and an id of a prompt on top.
    It changes when ids are read and never which.

    most: ids in a pass at most.
    """

    most: int
    # Seconds of passes without prompts, and of an id of a prompt.
    _steps: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _ids: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _since: int = 0  # passes with prompts since the last without
    _decoding: bool = False  # whether anybody was in the last pass

    def ids(self, decoding: bool) -> int:
        """How many ids of prompts the next pass may read. decoding: whether others take part."""
        if not decoding:
            return self.most
        if self._since >= _MEASURE_EVERY:
            return 0
        if not self._steps or not self._ids:
            return min(_FIRST, self.most)
        each = max(median(self._ids), 1e-9)
        return min(self.most, max(_LEAST, int((_LONGEST - 1) * median(self._steps) / each)))

    def copies(self) -> int:
        """How many ids of prefixes may be copied before the next pass."""
        return _COPIES * max(1, self.ids(True)) if self._decoding else 1 << 30

    def observe(self, seconds: float, num_decoding: int, prompt_ids: int) -> None:
        """What a pass took, that of `num_decoding` requests and `prompt_ids` ids of prompts."""
        self._decoding = num_decoding > 0
        if not prompt_ids:
            self._steps.append(seconds)
            self._since = 0
        elif num_decoding and self._steps:
            self._since += 1
            self._ids.append((seconds - median(self._steps)) / prompt_ids)
        else:
            self._ids.append(seconds / prompt_ids)

"""How much of the prompts may be read in one pass while others wait for their next id."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median

__all__ = ["PrefillBudget"]

# A pass that reads a prompt takes at most this many times what a pass takes where none is read: no
# stream's gap is above three steps, whose times vary.
_LONGEST = 2.2
_LEAST = 4
_FIRST = 16  # before anything has been measured
# Where a pass has time for fewer ids than this, prompts are read a few layers at a time: the next
# id at position 3,500 costs four passes of the 17M decoder, sixteen of them seven.
_FEW = 8
_CHUNKS = (8, 16, 32, 64)  # ids that go through the layers together
# Copying an id of a prefix takes a tenth of the time of reading it, or less: 6 us beside 200 with
# the decoder of the pocket kind.
_COPIES = 10
# After so many passes with a prompt beside them two have none, and the second is measured: what a
# prompt reads drives the weights out of the processor's caches, and the first brings them back.
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
    # Seconds: of passes undisturbed by prompts, of those between layers of a prompt, of an id of a
    # prompt that is read in a pass, and of a layer for a chunk of them.
    _steps: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _between: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _ids: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _layers: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _chunk: int = _FIRST
    _since: int = 0  # passes with prompts since the last without
    _without: int = 2  # passes without since
    _decoding: int = 0  # requests in the last pass that were not reading

    def measuring(self) -> bool:
        """Whether the next pass leaves prompts out, to measure what it takes."""
        return self._since >= _MEASURE_EVERY

    def ids(self, decoding: bool) -> int:
        """How many ids of prompts the next pass may read. decoding: whether others take part."""
        if not decoding:
            return self.most
        if self.measuring():
            return 0
        if not self._steps or not self._ids:
            return min(_FIRST, self.most)
        return min(self.most, max(_LEAST, self._affordable()))

    def _affordable(self) -> int:
        """Ids of prompts that a pass has time for."""
        return int((_LONGEST - 1) * median(self._steps) / max(median(self._ids), 1e-9))

    def wants_layers(self) -> bool:
        """Whether a pass has time for so few ids that they should go a few layers at a time."""
        if not self._steps or not self._ids or self.most < _CHUNKS[0]:
            return False
        return self._affordable() < _FEW

    def chunk(self) -> int:
        """How many ids go through the layers together."""
        return min(self._chunk, self.most)

    def layers(self) -> int:
        """How many layers a chunk may go through before the next pass."""
        if not self._layers:
            return 1
        return max(1, int(self._spare() / max(median(self._layers), 1e-9)))

    def observe_layers(self, seconds: float, layers: int, ended: bool) -> None:
        """What some layers took with a chunk; ended: whether they were its last."""
        self._since, self._without = self._since + 1, 0
        self._layers.append(seconds / layers)
        if not ended:
            return
        each, spare, at = median(self._layers), self._spare(), _CHUNKS.index(self._chunk)
        if each > spare and at:
            at -= 1
        elif each * 2.5 < spare and at + 1 < len(_CHUNKS):
            at += 1
        if _CHUNKS[at] != self._chunk:
            self._chunk = _CHUNKS[at]
            self._layers.clear()

    def _spare(self) -> float:
        """Seconds that layers of a prompt may take between two passes."""
        steps = self._steps or self._between
        if not steps:
            return 0.0
        return _LONGEST * median(steps) - median(self._between or steps)

    def copies(self) -> int:
        """How many ids of prefixes may be copied before the next pass."""
        return _COPIES * max(1, self.ids(True)) if self._decoding else 1 << 30

    def observe(self, seconds: float, num_decoding: int, prompt_ids: int) -> None:
        """What a pass took, that of `num_decoding` requests and `prompt_ids` ids of prompts."""
        if num_decoding and num_decoding != self._decoding:
            self._steps.clear()
            self._between.clear()
            self._since = 0
        self._decoding = num_decoding
        if prompt_ids:
            self._since, self._without = self._since + 1, 0
            step = median(self._steps) if num_decoding and self._steps else 0.0
            self._ids.append((seconds - step) / prompt_ids)
            return
        self._without += 1
        (self._between if self._without == 1 else self._steps).append(seconds)
        if self._without > 1:
            self._since = 0

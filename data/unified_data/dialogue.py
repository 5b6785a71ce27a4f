"""A sound of two voices side by side, with what the first one says: what models such as Moshi make.

Shapes: S samples, T frames of a codec.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unified_base.cells import sound_cell
from unified_base.text import quoted
from unified_data.segments import Audio, Role

__all__ = ["MAX_WORDS", "Dialogue"]

MAX_WORDS = 1 << 20
"""Frames of a dialogue at most: 23 hours at 12.5 frames a second."""


@dataclass(frozen=True, eq=False)
class Dialogue(Audio):
    """Two voices in two channels, and the words of the first one, frame by frame.

    waveform: float32 (2, S): the model's voice, then the one that it speaks with. words: T tokens
    of a text tokenizer by their names, one for each frame of equal length; a frame in which no word
    goes on has the tokenizer's token for that, such as "<pad>".
    """

    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "words", tuple(self.words))
        if self.waveform.shape[0] != 2:
            raise ValueError(
                f"a dialogue's waveform has shape {self.waveform.shape}, expected (2, S): a channel"
                " for each voice"
            )
        if not 1 <= len(self.words) <= MAX_WORDS:
            raise ValueError(
                f"a dialogue has words for {len(self.words):,} frames, expected 1 to {MAX_WORDS:,}"
            )
        for at, word in enumerate(self.words):
            if not isinstance(word, str) or not word:
                raise ValueError(f"word {at} of a dialogue is {quoted(word)}, expected a token")

    @classmethod
    def of(cls, sound: Audio, words: Any) -> Dialogue:
        """The dialogue of a sound of two channels. words: a list or tuple of str."""
        if not isinstance(words, list | tuple):
            raise ValueError(f"words is {quoted(words)}, expected a list of tokens")
        role: Role | None = sound.role
        return cls(sound.waveform, sound.sample_rate, role, sound.loss, tuple(words))

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        return sound_cell(self.waveform, self.sample_rate, self.role or "", "two voices")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dialogue):
            return NotImplemented
        return self.words == other.words and super().__eq__(other) is True

    __hash__ = None

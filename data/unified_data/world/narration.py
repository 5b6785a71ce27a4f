"""Who reads articles aloud, and what stands for it in a document.

No voice is joined yet: an article has a narration once `VOICES` names who can read its language and
`narrated` gives the phonemes and the sound.
"""

from __future__ import annotations

from unified_data.document import Audio
from unified_data.world.wordings import Language

__all__ = ["VOICES", "narrated"]

VOICES: dict[Language, tuple[str, ...]] = {"en": (), "zh": ()}
"""The voices that read articles, by language."""


def narrated(sentence: str, voice: str) -> tuple[str, Audio]:
    """A sentence in IPA without its strokes, and its sound.

    Raises ValueError for a voice that is not in `VOICES`.
    """
    raise ValueError(f"no voice {voice!r} reads articles, expected one of {VOICES}")

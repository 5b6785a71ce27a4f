"""Who reads the first paragraph of an article aloud, and what stands for it in a document."""

from __future__ import annotations

import re

from unified_data.document import Audio
from unified_data.world.phonemes import format_phonemes
from unified_data.world.sentences import split_of_sentence
from unified_data.world.sound import SAMPLE_RATE, speak_text
from unified_data.world.voices import SPEAKERS, find_speaker
from unified_data.world.wordings import Language

__all__ = ["can_narrate", "narrated", "narrators"]


def narrators(language: Language) -> tuple[str, ...]:
    """The voices that read articles of a language."""
    return tuple(name for name, speaker in SPEAKERS.items() if speaker.language == language)


def can_narrate(sentence: str, language: Language, split: str) -> bool:
    """Whether articles of a split may say a sentence: one of `train`, or of the split itself.

    A Chinese sentence with Latin letters has no voice.
    """
    if language == "zh" and re.search("[A-Za-z]", sentence):
        return False
    return split_of_sentence(sentence) in ("train", split)


def narrated(sentence: str, voice: str) -> tuple[str, Audio]:
    """A sentence in phonemes, `/ɪt ɪz ɐ kæt/`, and its sound.

    Raises ValueError as `find_speaker` and `speak_text` do.
    """
    speech = speak_text(sentence, find_speaker(voice))
    return format_phonemes(speech.phonemes), Audio(speech.waveform, SAMPLE_RATE, role="response")

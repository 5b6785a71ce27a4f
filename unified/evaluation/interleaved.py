"""Is a document of text, pictures and sound what was asked for? Checked without a judging model.

Asked for is a text about a subject with a number of pictures, each beside words that name the
subject, and perhaps sounds, each of which says the paragraph before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from PIL import Image as PillowImage

from unified.evaluation.judges import GlyphJudge, words
from unified.evaluation.names import named_subjects
from unified.evaluation.spoken_words import Features, features, rank
from unified_data.document import Audio, Image, Segment, Text
from unified_data.pocket.scenes import SIDE
from unified_data.pocket.speech import DEFAULT_VOICE, SAMPLE_RATE, speak
from unified_data.pocket.subjects import Subject, load_subjects

__all__ = [
    "RIVALS", "InterleavedChecks", "InterleavedWish", "check_document", "names_beside",
    "said_aloud", "says", "shows",
]  # fmt: skip

RIVALS = 12
"""Other sentences that a sound must be further from than from its own."""
_POOL = 40
_PARAGRAPH = re.compile(r"\n\s*\n")
# A quotation's mark, a heading's, the voice that reads: "> (ben) The fox is ...".
_MARKS = re.compile(r"^\s*(?:[>#*-]+\s*)*(?:\(\w+\)\s*)?")
_LEAST = 60
"""Pixels of a picture's shorter side: of smaller ones nothing is said."""


@dataclass(frozen=True)
class InterleavedWish:
    """What a document is to hold. subject: of the pocket world."""

    subject: Subject
    images: int
    sounds: int = 0


@dataclass(frozen=True)
class InterleavedChecks:
    """What is as asked.

    images, sounds: their number. order: the text begins, every sound follows words, and words stand
    between any two media. captions: the paragraph before or behind each picture names the subject.
    pictured: each picture shows it, by the glyphs of the world; None where that was not looked at.
    voiced: each sound says the paragraph before it; None where no sound was asked for.
    """

    images: bool
    sounds: bool
    order: bool
    captions: bool
    pictured: bool | None
    voiced: bool | None

    @property
    def missing(self) -> list[str]:
        """Names of the checks that failed."""
        return [each.name for each in fields(self) if getattr(self, each.name) is False]


def check_document(
    segments: Sequence[Segment], wish: InterleavedWish, judge: GlyphJudge | None = None
) -> InterleavedChecks:
    """The checks of a document without its prompt. judge: of pictures in the world's style.

    Nothing passes for being absent: without a picture that was asked for no caption is right.

    Raises ValueError where a sound was asked for and espeak-ng is not installed.
    """
    pictures = [i for i, each in enumerate(segments) if isinstance(each, Image)]
    sounds = [i for i, each in enumerate(segments) if isinstance(each, Audio)]
    there = bool(pictures) or not wish.images
    pictured = None
    if judge is not None:
        pictured = there and all(
            shows(judge, each.pixels, wish.subject, _names_several(segments, i))
            for i, each in enumerate(segments)
            if isinstance(each, Image)
        )
    voiced = None
    if wish.sounds:
        voiced = bool(sounds) and all(says(segments, i) for i in sounds)
    return InterleavedChecks(
        len(pictures) == wish.images,
        len(sounds) == wish.sounds,
        _in_order(segments),
        there and all(names_beside(segments, i, wish.subject) for i in pictures),
        pictured,
        voiced,
    )


def _in_order(segments: Sequence[Segment]) -> bool:
    """Words before every medium since the one before it: an article, no pile of pictures."""
    spoken = False
    for segment in segments:
        if isinstance(segment, Text):
            spoken |= bool(words(segment.text))
        elif not spoken:
            return False
        else:
            spoken = False
    return bool(segments)


def _paragraphs(segments: Sequence[Segment], at: int, step: int) -> list[str]:
    """The paragraphs on one side of a segment, up to the next medium, nearest first."""
    texts = []
    at += step
    while 0 <= at < len(segments) and isinstance(segment := segments[at], Text):
        texts.append(segment.text)
        at += step
    whole = "".join(texts[::step] if step > 0 else reversed(texts))
    parts = [part for part in _PARAGRAPH.split(whole) if words(part)]
    return parts if step > 0 else parts[::-1]


def names_beside(segments: Sequence[Segment], at: int, subject: Subject) -> bool:
    """Whether the paragraph before a picture, or that behind it, names a subject."""
    beside = [_paragraphs(segments, at, step)[:1] for step in (-1, 1)]
    return any(subject.name in named_subjects(text, True) for near in beside for text in near)


def _names_several(segments: Sequence[Segment], at: int) -> bool:
    """Whether the paragraph before a picture names more than one subject, as a caption of two."""
    return any(len(set(named_subjects(text))) > 1 for text in _paragraphs(segments, at, -1)[:1])


def shows(judge: GlyphJudge, pixels: np.ndarray, subject: Subject, two: bool) -> bool:
    """Whether a subject is what a picture shows best, or, where it is to show two, one of them."""
    if min(pixels.shape[:2]) < _LEAST:
        return False
    if pixels.shape[:2] != (SIDE, SIDE):
        picture = PillowImage.fromarray(pixels).resize((SIDE, SIDE), PillowImage.Resampling.BOX)
        pixels = np.asarray(picture)
    matches = judge.best_two(pixels) if two else (judge.best(pixels),)
    return any(match.score > 0 and match.subject == subject for match in matches)


def said_aloud(segments: Sequence[Segment], at: int) -> str:
    """The words that a sound at a place is to say: the paragraph before it without its marks."""
    before = _paragraphs(segments, at, -1)[:1]
    return " ".join(_MARKS.sub("", line) for text in before for line in text.splitlines()).strip()


def says(segments: Sequence[Segment], at: int) -> bool:
    """Whether a sound is nearer to the words before it than to 12 other sentences as long.

    By dynamic time warping of log-mel frames, against espeak-ng. Raises ValueError without it.
    """
    sound, text = segments[at], said_aloud(segments, at)
    assert isinstance(sound, Audio)
    if not words(text):
        return False
    own = _spoken(text)
    rivals = [_spoken(other) for other in other_sentences(text)]
    return rank(features(sound), own, rivals, anywhere=False) == 0


def other_sentences(text: str) -> list[str]:
    """Sentences of the world, of about as many words: those that a sound could say instead."""
    length = len(words(text))
    own = set(words(text))
    others = [each for each in _leads() if set(words(each)) != own]
    return sorted(others, key=lambda each: abs(len(words(each)) - length))[:RIVALS]


@cache
def _leads() -> tuple[str, ...]:
    """First sentences of some subjects, each spoken by espeak-ng but once."""
    subjects = load_subjects()
    return tuple(subject.lead for subject in subjects[:: max(1, len(subjects) // _POOL)])


@cache
def _spoken(text: str) -> Features:
    return features(Audio(speak(text, DEFAULT_VOICE), SAMPLE_RATE))

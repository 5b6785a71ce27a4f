"""Documents that go from any medium to any other, in the forms of the world, and what is right.

A request is a Document of one's own: the same segments as in training, a Slot for the answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from unified.evaluation.answers import yes_or_no
from unified.evaluation.heard_sounds import said_plainly
from unified.evaluation.names import named_in_chinese
from unified.evaluation.placed_things import COLOURS, paint_things, scatter
from unified.evaluation.unknown_things import made_up_name
from unified.evaluation.wanted import Wanted
from unified_data.document import Audio, Document, Image, Segment, Slot, Text
from unified_data.pocket.scenes import BACKGROUNDS, SIDE
from unified_data.pocket.speech import DEFAULT_VOICE, SAMPLE_RATE, VOICES
from unified_data.pocket.subjects import Subject, load_subjects
from unified_data.world.chinese import chinese_names
from unified_data.world.tasks import DESCRIBE_ZH, edit_document, names_document

__all__ = ["CROSSINGS", "Crossing", "is_spoken_of"]

_SIDES = (40, 60)


@dataclass(frozen=True, eq=False)
class Crossing:
    """A request and its truth. wanted: what a picture must show; reads: whether a text is right;
    says: the name that a sound must say. asked, expected: in words."""

    document: Document
    asked: str
    expected: str
    wanted: Wanted | None = None
    reads: Callable[[str], bool] | None = None
    says: str | None = None
    pixels: np.ndarray | None = None
    audio: Audio | None = None


def is_spoken_of(subject: Subject) -> bool:
    """Whether a subject is in the half that training joins speech and pictures of; by SHA-256 of
    its name, as the world's builder decides it."""
    return hashlib.sha256(f"spoken|{subject.name}".encode()).digest()[0] < 128


def _never_spoken(rng: np.random.Generator, number: int = 1) -> tuple[Subject, ...]:
    others = [subject for subject in load_subjects() if not is_spoken_of(subject)]
    return tuple(others[int(i)] for i in rng.permutation(len(others))[:number])


def _any(rng: np.random.Generator, number: int) -> tuple[Subject, ...]:
    everything = load_subjects()
    return tuple(everything[int(i)] for i in rng.permutation(len(everything))[:number])


def _prompt(*segments: Segment) -> tuple[Segment, ...]:
    return tuple(replace(segment, role="prompt", loss=0.0) for segment in segments)


def _spoken(text: str, rng: np.random.Generator) -> Audio:
    voices = list(VOICES.values())
    voice = voices[int(rng.integers(len(voices)))]
    return Audio(said_plainly(text, voice), SAMPLE_RATE)


def _picture(rng: np.random.Generator, *subjects: Subject) -> np.ndarray:
    grounds = list(BACKGROUNDS.values())
    sides = _SIDES if len(subjects) == 1 else (32, 45)
    return paint_things(scatter(subjects, rng, sides), grounds[int(rng.integers(len(grounds)))])


def _slot(kind: str) -> Slot:
    if kind == "image":
        return Slot("image", height=SIDE, width=SIDE, role="response")
    return Slot(kind, role="response")


def _draw_spoken(rng: np.random.Generator) -> Crossing:
    (subject,) = _never_spoken(rng)
    sound = _spoken(subject.phrase, rng)
    document = Document((*_prompt(sound, Text("![]")), _slot("image")))
    wanted = Wanted(subject.phrase, (subject,))
    return Crossing(document, "draw what is said", subject.phrase, wanted, audio=sound)


def _say_picture(rng: np.random.Generator) -> Crossing:
    (subject,) = _never_spoken(rng)
    pixels = _picture(rng, subject)
    # Its phonemes come before the sound, as when it speaks a text.
    slot = Slot("any", SIDE, SIDE, 0, 1, role="response")
    document = Document((*_prompt(Image(pixels), Text(f"> ({DEFAULT_VOICE})")), slot))
    return Crossing(document, "say what is seen", subject.phrase, says=subject.name, pixels=pixels)


def _ask_spoken(rng: np.random.Generator) -> Crossing:
    there, absent = _never_spoken(rng, 2)
    expected = bool(rng.integers(2))
    question = f"Is there {(there if expected else absent).phrase}?"
    pixels, sound = _picture(rng, there), _spoken(question, rng)
    document = Document((*_prompt(Image(pixels), sound), _slot("text")))
    return Crossing(
        document, f"(spoken) {question}", "yes" if expected else "no", pixels=pixels, audio=sound,
        reads=lambda text: yes_or_no(text) is expected,
    )  # fmt: skip


def _edit(rng: np.random.Generator) -> Crossing:
    """A picture with one thing; its ground, its colour or itself is to change, or one to come."""
    subject, other = _any(rng, 2)
    (thing,) = scatter((subject,), rng, (40, 46))
    names = list(BACKGROUNDS)
    before, after = (names[int(i)] for i in rng.permutation(len(names))[:2])
    pixels = paint_things((thing,), BACKGROUNDS[before])
    kind = int(rng.integers(4))
    if kind == 0:
        wish, wanted = f"make the ground {after}", Wanted("", (subject,), ground=after)
    elif kind == 1:
        colour = list(COLOURS)[int(rng.integers(len(COLOURS)))]
        wish = f"make the {subject.name} {colour}"
        wanted = Wanted("", (subject,), colours=(colour,))
    elif kind == 2:
        wish, wanted = f"add {other.phrase}", Wanted("", (subject, other))
    else:
        wish = f"replace the {subject.name} with {other.phrase}"
        wanted = Wanted("", (other,))
    wanted = replace(wanted, caption=wish)
    document = edit_document(Image(pixels), f"Edit: {wish}", _slot("image"))
    return Crossing(document, f"edit {subject.phrase}: {wish}", wish, wanted, pixels=pixels)


def _names(rng: np.random.Generator) -> Crossing:
    """Two pictures with made-up names, and another picture of one of the two things."""
    first, second = _any(rng, 2)
    names = made_up_name(rng), made_up_name(rng)
    right = int(rng.integers(2))
    examples = [
        (Image(_picture(rng, subject)), name) for subject, name in zip((first, second), names)
    ]
    pixels = _picture(rng, (first, second)[right])
    document = names_document(examples, Image(pixels), _slot("text"))
    wrong = names[1 - right]
    return Crossing(
        document, f"which of {' and '.join(names)}?", f"a {names[right]}", pixels=pixels,
        reads=lambda text: names[right] in text.lower() and wrong not in text.lower(),
    )  # fmt: skip


def _describe_zh(rng: np.random.Generator) -> Crossing:
    (subject,) = _any(rng, 1)
    pixels = _picture(rng, subject)

    document = Document((*_prompt(Image(pixels), Text(DESCRIBE_ZH)), _slot("text")))
    name = chinese_names()[subject.name].name
    return Crossing(
        document, DESCRIBE_ZH, name, pixels=pixels,
        reads=lambda text: named_in_chinese(text) == {subject.name},
    )  # fmt: skip


CROSSINGS: dict[str, Callable[[np.random.Generator], Crossing]] = {
    "draw spoken": _draw_spoken,
    "say a picture": _say_picture,
    "ask spoken": _ask_spoken,
    "edit": _edit,
    "names": _names,
    "describe in Chinese": _describe_zh,
}
"""A request at random of every form of `unified.pocket.forms.FORMS`."""

"""Scenes of the pocket world: pictures with exact captions, questions and answers.

A scene is 96x96 pixels: one large thing, one small thing at a location, two things and how they
stand, or two to four of a kind, on one of six background colours. Small things fill a quarter of
the picture and stand on a grid of 24 pixels, so that what differs between two scenes is what their
captions say and nothing else (a trial with free positions and scales learnt ten times slower).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from unified_data.pocket.atlas import TILE, font_glyph, glyph
from unified_data.pocket.subjects import Subject, find_subject, load_subjects

__all__ = [
    "BACKGROUNDS",
    "COUNTS",
    "LOCATIONS",
    "RELATIONS",
    "SIDE",
    "Scene",
    "compose",
    "parse_caption",
    "questions",
    "render",
    "render_double",
    "split_of",
]

SIDE = 96
"""Side of every picture of the world, in pixels."""

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "yellow": (255, 236, 150),
    "green": (188, 230, 178),
    "blue": (178, 214, 246),
    "pink": (250, 204, 216),
    "grey": (204, 204, 204),
}
RELATIONS = ("to the left of", "to the right of", "above", "below")
LOCATIONS = ("in the middle", "at the top left", "at the top right", "at the bottom left",
          "at the bottom right")  # fmt: skip
COUNTS = {2: "two", 3: "three", 4: "four"}

_BOX = 48
_SMALL = 44
_LEFT, _MIDDLE, _RIGHT = 0, 24, 48
# Top-left corners (y, x) of the boxes of small things.
_LOCATION_BOXES = dict(
    zip(LOCATIONS, ((_MIDDLE, _MIDDLE), (0, 0), (0, _RIGHT), (_RIGHT, 0), (_RIGHT, _RIGHT)))
)
_PAIR_BOXES = {
    "to the left of": ((_MIDDLE, _LEFT), (_MIDDLE, _RIGHT)),
    "to the right of": ((_MIDDLE, _RIGHT), (_MIDDLE, _LEFT)),
    "above": ((_LEFT, _MIDDLE), (_RIGHT, _MIDDLE)),
    "below": ((_RIGHT, _MIDDLE), (_LEFT, _MIDDLE)),
}
_COUNT_BOXES = {
    2: ((_MIDDLE, _LEFT), (_MIDDLE, _RIGHT)),
    3: ((_LEFT, _LEFT), (_LEFT, _RIGHT), (_RIGHT, _MIDDLE)),
    4: ((_LEFT, _LEFT), (_LEFT, _RIGHT), (_RIGHT, _LEFT), (_RIGHT, _RIGHT)),
}

Kind = Literal["one", "placed", "two", "counted"]


@dataclass(frozen=True)
class Scene:
    """What a picture shows, exactly.

    `one`: a large subject. `placed`: a small subject at `location`. `two`: `subject`, `relation`,
    `other`. `counted`: `count` small subjects. Every kind has a `background`.
    """

    kind: Kind
    subject: Subject
    background: str = "white"
    location: str | None = None
    relation: str | None = None
    other: Subject | None = None
    count: int = 1

    def __post_init__(self) -> None:
        if self.background not in BACKGROUNDS:
            raise ValueError(
                f"unknown background {self.background!r}, expected one of {', '.join(BACKGROUNDS)}"
            )
        if (self.kind == "placed") != (self.location in LOCATIONS):
            raise ValueError(f"scene of kind {self.kind!r} has location {self.location!r}")
        if (self.kind == "two") != (self.relation in RELATIONS and self.other is not None):
            raise ValueError(f"scene of kind {self.kind!r} has relation {self.relation!r}")
        if (self.kind == "counted") != (self.count in COUNTS):
            raise ValueError(f"scene of kind {self.kind!r} has count {self.count}, expected 2 to 4")

    @property
    def caption(self) -> str:
        """`a cat to the left of an axe on a blue ground`; a white background goes unsaid."""
        if self.kind == "counted":
            what = f"{COUNTS[self.count]} {self.subject.plural}"
        elif self.kind == "two":
            assert self.other is not None
            what = f"{self.subject.phrase} {self.relation} {self.other.phrase}"
        elif self.kind == "placed":
            what = f"a small {self.subject.name} {self.location}"
        else:
            what = self.subject.phrase
        return what if self.background == "white" else f"{what} on a {self.background} ground"

    @property
    def key(self) -> str:
        """The combination that decides the split.

        A pair of subjects is one combination whatever their relation or background, so a held-out
        pair was never seen together at all.
        """
        if self.kind == "two":
            assert self.other is not None
            return "two|" + "|".join(sorted((self.subject.name, self.other.name)))
        if self.kind == "counted":
            return f"counted|{self.subject.name}|{self.count}"
        return f"{self.kind}|{self.subject.name}|{self.background}|{self.location}"

    @property
    def split(self) -> str:
        """`train` or `heldout`. The large subject on white is always in `train`."""
        if self.kind == "one" and self.background == "white":
            return "train"
        return split_of(self.key)

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """The distinct subjects shown."""
        return (self.subject,) if self.other is None else (self.subject, self.other)


def split_of(key: str) -> str:
    """`heldout` for one combination in twenty, by SHA-256 of its key; else `train`."""
    return "heldout" if hashlib.sha256(key.encode()).digest()[0] * 20 < 256 else "train"


def _boxes(scene: Scene) -> list[tuple[Subject, int, int, int]]:
    """(subject, y, x, side) of every glyph, in the order of painting."""
    if scene.kind == "one":
        margin = (SIDE - TILE) // 2
        return [(scene.subject, margin, margin, TILE)]
    inset = (_BOX - _SMALL) // 2
    if scene.kind == "placed":
        assert scene.location is not None
        corners = [(scene.subject, _LOCATION_BOXES[scene.location])]
    elif scene.kind == "two":
        assert scene.other is not None
        assert scene.relation is not None
        corners = list(zip((scene.subject, scene.other), _PAIR_BOXES[scene.relation]))
    else:
        corners = [(scene.subject, corner) for corner in _COUNT_BOXES[scene.count]]
    return [(subject, y + inset, x + inset, _SMALL) for subject, (y, x) in corners]


def render(scene: Scene) -> np.ndarray:
    """Paint a scene: (96, 96, 3) uint8. The same scene gives the same pixels everywhere."""
    return _paint(scene, 1, glyph)


def render_double(scene: Scene, font_path: Path) -> np.ndarray:
    """Paint a scene at twice the side, with glyphs from the font: (192, 192, 3) uint8.

    Raises ValueError as `atlas.font_glyph` does.
    """
    return _paint(scene, 2, lambda character, side: font_glyph(character, side, font_path))


def _paint(scene: Scene, scale: int, glyph_of: Callable[[str, int], np.ndarray]) -> np.ndarray:
    pixels = np.empty((scale * SIDE, scale * SIDE, 3), np.uint8)
    pixels[:] = BACKGROUNDS[scene.background]
    for subject, *box in _boxes(scene):
        y, x, side = (scale * number for number in box)
        tile = glyph_of(subject.glyph, side).astype(np.uint32)
        alpha = tile[..., 3:]
        under = pixels[y : y + side, x : x + side].astype(np.uint32)
        # Integer arithmetic: no rounding that could differ between machines.
        blend = (tile[..., :3] * alpha + under * (255 - alpha) + 127) // 255
        pixels[y : y + side, x : x + side] = blend.astype(np.uint8)
    return pixels


def compose(
    rng: np.random.Generator,
    kind: Kind,
    subject: Subject | None = None,
    other: Subject | None = None,
    background: str | None = None,
) -> Scene:
    """A random scene of a kind; arguments that are not None stay as they are.

    Backgrounds: white three times in eight, else one of the colours.
    """
    everything = load_subjects()
    if subject is None:
        subject = everything[int(rng.integers(len(everything)))]
    if background is None:
        names = list(BACKGROUNDS)
        background = names[max(0, int(rng.integers(-2, len(names))))]
    if kind == "one":
        return Scene("one", subject, background)
    if kind == "placed":
        return Scene(
            "placed", subject, background, location=LOCATIONS[int(rng.integers(len(LOCATIONS)))]
        )
    if kind == "counted":
        return Scene("counted", subject, background, count=int(rng.integers(2, 5)))
    while other is None or other == subject:
        other = everything[int(rng.integers(len(everything)))]
    relation = RELATIONS[int(rng.integers(len(RELATIONS)))]
    return Scene("two", subject, background, relation=relation, other=other)


def parse_caption(
    caption: str, find: Callable[[str], Subject | None] = find_subject
) -> Scene | None:
    """The scene that a caption describes, or None where it is not one of the world's captions.

    find: the subject of a name, plural or alias.
    """
    text = re.sub(r"\s+", " ", caption.strip().rstrip(".").lower())
    background = "white"
    if match := re.fullmatch(rf"(.+) on an? ({'|'.join(BACKGROUNDS)}) (?:back)?ground", text):
        text, background = match[1], match[2]
    for relation in RELATIONS:
        first, separator, second = text.partition(f" {relation} ")
        if separator:
            subject, other = _named(first, find), _named(second, find)
            if subject and other and subject != other:
                return Scene("two", subject, background, relation=relation, other=other)
    for location in LOCATIONS:
        if text.endswith(f" {location}"):
            name = re.sub(r"^(an? )small ", r"\1", text.removesuffix(f" {location}"))
            subject = _named(name, find)
            return Scene("placed", subject, background, location=location) if subject else None
    for count, word in COUNTS.items():
        if text.startswith(f"{word} "):
            subject = find(text.removeprefix(f"{word} "))
            return Scene("counted", subject, background, count=count) if subject else None
    subject = _named(text, find)
    return Scene("one", subject, background) if subject else None


def _named(phrase: str, find: Callable[[str], Subject | None]) -> Subject | None:
    return find(re.sub(r"^(?:an?|the) ", "", phrase.strip()))


def questions(scene: Scene, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Questions about a scene with their exact answers, in a fixed order.

    `rng` picks the thing that is not there, for the question of existence.
    """
    everything = load_subjects()
    absent = scene.subject
    while absent in scene.subjects:
        absent = everything[int(rng.integers(len(everything)))]
    asked: list[tuple[str, str]] = []
    if scene.kind == "two":
        assert scene.other is not None
        assert scene.relation is not None
        asked.append((f"What is {scene.relation} the {scene.other.name}?", scene.subject.phrase))
        asked.append((f"Where is the {scene.subject.name}?",
                      f"{scene.relation} the {scene.other.name}"))  # fmt: skip
    elif scene.kind == "counted":
        asked.append((f"How many {scene.subject.plural} are there?", COUNTS[scene.count]))
    else:
        asked.append(("What is this?", scene.subject.phrase))
        if scene.location is not None:
            asked.append((f"Where is the {scene.subject.name}?", scene.location))
    asked.append(("What colour is the ground?", scene.background))
    asked.append((f"Is there {scene.subject.phrase}?", "yes"))
    asked.append((f"Is there {absent.phrase}?", "no"))
    return asked

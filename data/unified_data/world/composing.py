"""Random free scenes: things put where they can be told apart, on grounds on which they show."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from unified_data.pocket.subjects import load_subjects
from unified_data.world.colours import COLOURS, RGB, TINTS, sample_colour
from unified_data.world.description import Placed, is_clear_pair, zone_of
from unified_data.world.free_scene import MAX_TURN, FreeScene, Lettering, Thing
from unified_data.world.glyphs import body_of, styles_of, visible_share
from unified_data.world.ground import PATTERNS, Ground, random_ground
from unified_data.world.lettering import MAX_LETTERS, writing_width
from unified_data.world.style_names import TRAIN_STYLES

__all__ = ["KINDS_OF_SCENE", "SceneKind", "compose_scene", "overlap", "random_ground_of", "shows"]

SceneKind = Literal["nothing", "single", "small", "two", "counted", "mixed", "writing"]
KINDS_OF_SCENE: tuple[SceneKind, ...] = (
    "nothing", "single", "small", "two", "counted", "mixed", "writing",
)  # fmt: skip

# Mirrored they would be something else: letters, digits, dials, strings in their order, the side
# on which a robe closes, the phase of the moon.
_HANDED = frozenset({
    "kimono", "radio", "abacus", "piano", "guitar", "violin", "banjo", "accordion", "saxophone",
    "school", "alarm clock", "compass", "moon", "ambulance", "taxi", "telephone", "television",
    "laptop", "battery", "racing car", "snail", "pair of scissors", "book", "camera",
})  # fmt: skip
_LEAST_VISIBLE = 0.6
_GAP = 0.07
"""Things that are listed from left to right are at least this far apart, as a share of the side."""
_TRIES = 40


def compose_scene(
    rng: np.random.Generator,
    kind: SceneKind,
    cast: Sequence[tuple[str, str]] = (),
    styles: Sequence[str] = TRAIN_STYLES,
) -> FreeScene:
    """A random scene of a kind.

    `nothing`; `single`: a thing of half the side or more; `small`: one of less, in one of nine
    places; `two`; `counted`: two to four of a kind; `mixed`: three or four things of two to four
    kinds; `writing`: a word or a number, with a thing or without.

    cast: (subject's name, style) of the first ones; the rest is drawn. styles: of those drawn.

    Raises ValueError for another kind.
    """
    if kind not in KINDS_OF_SCENE:
        raise ValueError(f"unknown kind of scene {kind!r}, expected one of {KINDS_OF_SCENE}")
    groups = _groups(rng, kind)
    members = _members(rng, cast, len(groups), styles)
    tints = [_tint(rng, *member) for member in members]
    who = [
        (*member, tint) for member, tint, count in zip(members, tints, groups) for _ in range(count)
    ]
    ground = random_ground_of(rng, who)
    while kind == "writing" and not _is_calm(ground):
        ground = random_ground_of(rng, who)
    shadow = 0.15 + 0.35 * rng.random() if who and rng.random() < 0.35 else 0.0
    writing = _writing(rng, ground, bool(who)) if kind == "writing" else None
    things = _placed(rng, kind, who)
    return FreeScene(things, ground, writing, shadow)


def _groups(rng: np.random.Generator, kind: SceneKind) -> list[int]:
    """How many of each subject."""
    if kind == "nothing":
        return []
    if kind == "writing":
        return [1] * int(rng.random() < 0.35)
    if kind in ("single", "small"):
        return [1]
    if kind == "two":
        return [1, 1]
    if kind == "counted":
        return [int(rng.integers(2, 5))]
    return [[1, 1, 1], [2, 1], [1, 2], [1, 1, 1], [1, 1, 1, 1], [2, 2], [3, 1]][
        int(rng.integers(7))
    ]


def _members(
    rng: np.random.Generator, cast: Sequence[tuple[str, str]], number: int, styles: Sequence[str]
) -> list[tuple[str, str]]:
    """Distinct subjects; mostly all in one style, as far as it has them."""
    subjects = load_subjects()
    members = list(cast[:number])
    mixed = rng.random() < 0.2
    style = members[0][1] if members else styles[int(rng.integers(len(styles)))]
    while len(members) < number:
        name = subjects[int(rng.integers(len(subjects)))].name
        drawn = [each for each in styles if each in styles_of(name)]
        if not drawn or any(name == other for other, _ in members):
            continue
        own = drawn[int(rng.integers(len(drawn)))]
        members.append((name, own if mixed or style not in drawn else style))
    return members


def _tint(rng: np.random.Generator, name: str, style: str) -> str | None:
    """A colour that a thing is not by itself, for one in three of those that can have one."""
    wish = rng.random()
    body = body_of(name, style)
    if body is None or wish > 0.35:
        return None
    # What is called orange may as well be called red or brown by somebody else.
    alike = {"orange": {"red", "brown", "yellow"}, "red": {"orange", "pink", "brown"},
             "brown": {"orange", "red"}, "yellow": {"orange"}, "pink": {"red", "purple"},
             "grey": {"white", "black"}, "white": {"grey"}, "black": {"grey"},
             "purple": {"pink", "blue"}, "blue": {"purple"}}  # fmt: skip
    own = {body.near} | alike.get(body.near, set())
    choices = [tint for tint in TINTS if tint not in own]
    return choices[int(rng.integers(len(choices)))]


def random_ground_of(
    rng: np.random.Generator, who: Sequence[tuple[str, str, str | None]]
) -> Ground:
    """A ground on which every (name, style, tint) of `who` shows.

    White one time in four, a colour without a name as often, a pattern one time in twelve.
    """
    ground = Ground()
    for _ in range(_TRIES):
        chance = rng.random()
        if chance < 0.22:
            name = "white"
        elif chance < 0.45:
            name = None
        elif chance < 0.53:
            name = PATTERNS[int(rng.integers(len(PATTERNS)))]
        else:
            name = COLOURS[int(rng.integers(1, len(COLOURS)))]
        ground = Ground() if name == "white" and chance < 0.18 else random_ground(rng, name)
        if all(shows(each, ground) for each in who):
            return ground
    return ground  # nothing shows a white thing and a black one beside a grey one on every ground


def shows(who: tuple[str, str, str | None], ground: Ground) -> bool:
    """Whether (name, style, tint) is seen on a ground."""
    return all(visible_share(*who, colour) >= _LEAST_VISIBLE for colour in ground.colours)


_SCALES = {"single": (0.5, 1.0), "small": (0.25, 0.48), "two": (0.28, 0.55),
           "counted": (0.25, 0.46), "mixed": (0.25, 0.42), "writing": (0.35, 0.55)}  # fmt: skip


def _placed(
    rng: np.random.Generator, kind: SceneKind, who: Sequence[tuple[str, str, str | None]]
) -> tuple[Thing, ...]:
    if not who:
        return ()
    low, high = _SCALES[kind]
    # Of one large thing the largest is asked for most; see also `random_ground_of`.
    size = low + (high - low) * (rng.random() ** 0.7)
    for attempt in itertools.count():
        shrink = 0.97 ** max(0, attempt - 10)
        spots = [
            _spot(rng, name, max(low, size * shrink), low, high, len(who) > 1) for name, _, _ in who
        ]
        if _well_placed(kind, spots):
            return tuple(_thing(rng, each, spot) for each, spot in zip(who, spots))
        if attempt > 400:
            raise AssertionError(f"no room for {who}: {spots}")
    raise AssertionError


class _Spot(NamedTuple):
    """Where a subject may stand."""

    name: str
    x: float
    y: float
    scale: float


def _spot(
    rng: np.random.Generator, name: str, scale: float, low: float, high: float, varied: bool
) -> _Spot:
    size, x, y = rng.random(3).tolist()
    if varied:
        scale = min(high, max(low, scale * (0.85 + 0.3 * size)))
    return _Spot(name, scale / 2 + (1 - scale) * x, scale / 2 + (1 - scale) * y, scale)


def _thing(rng: np.random.Generator, who: tuple[str, str, str | None], spot: _Spot) -> Thing:
    name, style, tint = who
    turn = float(rng.uniform(-MAX_TURN, MAX_TURN)) if rng.random() < 0.5 else 0.0
    mirrored = name not in _HANDED and bool(rng.random() < 0.4)
    return Thing(name, style, spot.x, spot.y, spot.scale, turn, mirrored, tint)


def _well_placed(kind: SceneKind, things: Sequence[_Spot]) -> bool:
    """Whether a caption can say where things are, and every one of them is seen."""
    if kind == "small":
        return zone_of(things[0], clear=True) is not None
    if kind == "writing":  # the writing is below
        return all(thing.y + thing.scale / 2 <= 0.62 for thing in things)
    if any(overlap(a, b) > 0.14 for a, b in itertools.combinations(things, 2)):
        return False
    if kind == "two":
        return is_clear_pair(things[0], things[1])
    lefts = sorted(
        min(thing.x for thing in things if thing.name == name)
        for name in {thing.name for thing in things}
    )
    return all(after - before >= _GAP for before, after in itertools.pairwise(lefts))


def overlap(first: Placed, second: Placed) -> float:
    """The share of the smaller one's square that both cover."""
    across, down = (
        max(0.0, (first.scale + second.scale) / 2 - abs(a - b))
        for a, b in ((first.x, second.x), (first.y, second.y))
    )
    smaller = min(first.scale, second.scale)
    return min(across, smaller) * min(down, smaller) / smaller**2


def _writing(rng: np.random.Generator, ground: Ground, below: bool) -> Lettering:
    """A number, or a short word: of a subject, or of letters that make none."""
    chance = rng.random()
    if chance < 0.45:
        digits = int(rng.integers(1, 5))
        text = str(int(rng.integers(10 ** (digits - 1) if digits > 1 else 0, 10**digits)))
    elif chance < 0.8:
        short = [s.name.upper() for s in load_subjects()
                 if s.name.isalpha() and len(s.name) <= MAX_LETTERS]  # fmt: skip
        text = short[int(rng.integers(len(short)))]
    else:
        vowels, consonants = "AEIOU", "BCDFGHKLMNPRSTVWZ"
        text = "".join(
            (vowels if i % 2 else consonants)[int(rng.integers(5 if i % 2 else 17))]
            for i in range(int(rng.integers(2, MAX_LETTERS + 1)))
        )
    most = min(0.3 if below else 0.5, 0.92 / writing_width(text))
    least = min(most, 0.12)
    height = least + (most - least) * rng.random()
    wide = height * writing_width(text)
    x = wide / 2 + 0.02 + (0.96 - wide) * rng.random()
    top = 0.66 if below else 0.02
    y = top + height / 2 + (0.98 - top - height) * rng.random()
    while True:
        colour = sample_colour(rng, [None, *COLOURS][int(rng.integers(len(COLOURS) + 1))])
        if all(abs(_luma(colour) - _luma(other)) >= 80 for other in ground.colours):
            return Lettering(text, float(x), float(y), float(height), colour)


def _is_calm(ground: Ground) -> bool:
    """Whether writing of one colour can be read all over a ground."""
    lumas = [_luma(colour) for colour in ground.colours]
    return ground.kind not in PATTERNS and max(lumas) - min(lumas) < 60


def _luma(colour: RGB) -> float:
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]

"""The world of motion: one thing moves over a plain ground, and which way it moves is known.

Videos of 48x48 pixels and nine frames at 8 a second, each with what is said of it, or asked:
"a cat moves left". In `heldout` every pair of a thing and a ground is one that `train` never has.
The same seed gives the same documents everywhere.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unified_data.building import Progress, WorldPlan, build_shards
from unified_data.document import Document, Text, Video
from unified_data.pocket.atlas import glyph
from unified_data.pocket.scenes import BACKGROUNDS
from unified_data.pocket.subjects import find_subject, load_subjects

__all__ = ["DIRECTIONS", "FRAMES", "KINDS", "QUESTION", "RATE", "SIDE", "Motion", "build_motion",
           "paint_motion", "plan_motion"]  # fmt: skip

SIDE, FRAMES, RATE = 48, 9, 8.0
DIRECTIONS: dict[str, tuple[int, int]] = {
    "left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0),
}  # fmt: skip
"""Where a thing moves, by its name: (rows, columns) a step."""
QUESTION = "Which way does it move?"
KINDS = {"describe": 4_000, "ask": 4_000, "draw": 4_000}
"""Kinds of documents, and how many there are at scale 1."""

_SPLITS = ("train", "heldout")
_VERSION = 1  # raise when the same seed would give other documents
_THING, _SPEED = 16, 3  # pixels: a side of the thing, and a step of it
_APART = 6  # one pair of a thing and a ground in so many is heldout


class Motion(NamedTuple):
    """What a video shows. subject, ground: names. row, column: pixels of the thing's top left
    corner in the first frame."""

    subject: str
    ground: str
    direction: str
    row: int
    column: int

    @property
    def caption(self) -> str:
        """Such as "a cat moves left"."""
        subject = find_subject(self.subject)
        assert subject is not None
        return f"{subject.phrase} moves {self.direction}"


def plan_motion(kind: str, split: str, seed: int, scale: float) -> Sequence[Motion]:
    """What the videos of a kind show. `heldout` is a tenth of `train`, 2 at least."""
    number = max(2, round(KINDS[kind] * scale / (1 if split == "train" else 10)))
    rng = np.random.default_rng([seed, *kind.encode(), _SPLITS.index(split)])
    pairs = [
        (subject.name, ground)
        for at, subject in enumerate(load_subjects())
        for nth, ground in enumerate(BACKGROUNDS)
        if ((at + nth) % _APART == 0) == (split == "heldout")
    ]
    return [_draw(*pairs[rng.integers(len(pairs))], rng) for _ in range(number)]


def _draw(subject: str, ground: str, rng: np.random.Generator) -> Motion:
    direction = list(DIRECTIONS)[rng.integers(len(DIRECTIONS))]
    way = (FRAMES - 1) * _SPEED
    starts = []
    for step in DIRECTIONS[direction]:
        # The thing stays in the picture for all its way.
        low = way if step < 0 else 0
        high = SIDE - _THING - (way if step > 0 else 0)
        starts.append(int(rng.integers(low, high + 1)))
    return Motion(subject, ground, direction, *starts)


def paint_motion(motion: Motion) -> Video:
    """The video of a motion: uint8 (9, 48, 48, 3) at 8 frames a second."""
    subject = find_subject(motion.subject)
    assert subject is not None
    tile = glyph(subject.glyph, _THING).astype(np.uint32)
    alpha = tile[..., 3:]
    frames = np.empty((FRAMES, SIDE, SIDE, 3), np.uint8)
    frames[:] = BACKGROUNDS[motion.ground]
    down, across = DIRECTIONS[motion.direction]
    for number, frame in enumerate(frames):
        y, x = motion.row + down * _SPEED * number, motion.column + across * _SPEED * number
        under = frame[y : y + _THING, x : x + _THING].astype(np.uint32)
        # Integer arithmetic: no rounding that could differ between machines.
        blend = (tile[..., :3] * alpha + under * (255 - alpha) + 127) // 255
        frame[y : y + _THING, x : x + _THING] = blend.astype(np.uint8)
    return Video.at_rate(frames, RATE)


def _make(kind: str, motion: Motion) -> Document:
    video = paint_motion(motion)
    if kind == "draw":
        prompt = Text(f"![{motion.caption}]", "prompt", 0.0)
        return Document((prompt, Video(video.frames, video.times, "response")))
    video = Video(video.frames, video.times, "prompt", 0.0)
    if kind == "describe":
        return Document((video, Text(motion.caption, "response")))
    return Document((video, Text(QUESTION, "prompt", 0.0), Text(motion.direction, "response")))


def build_motion(
    out_dir: str | Path,
    seed: int = 0,
    scale: float = 1.0,
    only: Sequence[str] | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the world's shards and their index.json into out_dir; returns the index.

    Arguments and errors are those of `building.build_shards`; kinds are those of `KINDS`.
    """
    world = WorldPlan("motion", tuple(KINDS), _SPLITS, plan_motion, _make)
    return build_shards(
        world, out_dir, seed, scale, only, workers, progress, {"world": f"motion-{_VERSION}"}
    )

"""Building the world: the table of its kinds of documents.

A kind joins by one entry of `KINDS`: how many documents there are at scale 1, what plans them and
what makes one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unified_data.building import Progress, WorldPlan, build_shards, files_digest
from unified_data.document import Document
from unified_data.pocket.build import world_version as pocket_version
from unified_data.world import article_kinds, ground_kinds, picture_kinds, speech_kinds, talk_kinds
from unified_data.world.free_scene import SPLITS
from unified_data.world.sound import has_recorded_voices

__all__ = ["HEARD_KINDS", "KINDS", "DocumentKind", "build_world", "has_recorded_voices",
           "plan_kind", "world_version"]  # fmt: skip

_WORLD = 1  # raise when the same seed would give other documents
_LEAST, _MOST = 2, 500  # documents of `steer` and of `heldout`, of each kind


class DocumentKind(NamedTuple):
    """One kind of document.

    number: of documents at scale 1. plan: of a split, a number and a generator, the payloads of
    that many documents. make: of a payload the document; both are functions of a module.
    """

    number: int
    plan: Callable[[str, int, np.random.Generator], Sequence[Any]]
    make: Callable[[Any], Document]


KINDS: dict[str, DocumentKind] = {
    "draw": DocumentKind(50_000, picture_kinds.plan_scenes, picture_kinds.draw),
    "describe": DocumentKind(34_000, picture_kinds.plan_scenes, picture_kinds.describe),
    "ask": DocumentKind(20_000, talk_kinds.plan_asked, talk_kinds.ask),
    "ground": DocumentKind(12_000, ground_kinds.plan_grounded, ground_kinds.ground),
    "region": DocumentKind(4_000, ground_kinds.plan_regions, ground_kinds.region),
    "edit": DocumentKind(6_000, talk_kinds.plan_edits, talk_kinds.edit),
    "names": DocumentKind(3_000, talk_kinds.plan_names, talk_kinds.names),
    "unknown": DocumentKind(4_000, talk_kinds.plan_unknown, talk_kinds.unknown),
    "speak": DocumentKind(8_000, speech_kinds.plan_spoken, speech_kinds.speak),
    "listen": DocumentKind(10_000, speech_kinds.plan_heard, speech_kinds.listen),
    "words": DocumentKind(12_000, speech_kinds.plan_words, speech_kinds.words),
    "salad": DocumentKind(2_000, speech_kinds.plan_salad, speech_kinds.words),
    "draw_spoken": DocumentKind(2_500, speech_kinds.plan_asked_aloud, speech_kinds.draw_spoken),
    "say_picture": DocumentKind(2_500, speech_kinds.plan_pairs, speech_kinds.say_picture),
    "ask_spoken": DocumentKind(2_000, speech_kinds.plan_asked_aloud, speech_kinds.ask_spoken),
    "article": DocumentKind(2_500, article_kinds.planner("en", True), article_kinds.article),
    "article_zh": DocumentKind(1_500, article_kinds.planner("zh", True), article_kinds.article),
    "text": DocumentKind(9_000, article_kinds.planner("en", False), article_kinds.article),
    "text_zh": DocumentKind(6_000, article_kinds.planner("zh", False), article_kinds.article),
    "facts": DocumentKind(8_000, article_kinds.plan_questions, article_kinds.facts),
}
"""Every kind of document, by name."""

HEARD_KINDS = ("listen", "words", "salad", "draw_spoken", "ask_spoken")
"""Kinds in which voices from recordings are heard where flite is installed."""


def plan_kind(kind: str, split: str, seed: int, scale: float) -> Sequence[Any]:
    """The payloads of a kind's documents of a split.

    `steer` and `heldout` are a twentieth each, from 2 to 500 documents; `train` is the rest.
    """
    number, plan, _ = KINDS[kind]
    rng = np.random.default_rng([seed, *kind.encode(), SPLITS.index(split)])
    aside = min(_MOST, max(_LEAST, round(number * scale / 20)))
    return plan(
        split, max(1, round(number * scale) - 2 * aside) if split == "train" else aside, rng
    )


def _make(kind: str, payload: Any) -> Document:
    return KINDS[kind].make(payload)


def world_version() -> str:
    """Identifies what the documents depend on: this code's version, facts, wordings and glyphs."""
    folder = resources.files("unified_data.world")
    names = [f"styles/{path.name}" for path in (folder / "styles").iterdir()]
    for data in ("wordings", "long"):
        if (folder / data).is_dir():
            names += [f"{data}/{path.name}" for path in (folder / data).iterdir()]
    names += ["outside.yaml"]
    own = files_digest(folder, (name for name in names if not name.endswith((".py", ".pyc"))))
    return f"{_WORLD}-{own}-{pocket_version()}"


def build_world(
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
    world = WorldPlan("world", tuple(KINDS), SPLITS, plan_kind, _make)
    built = {"world": world_version(), "recorded_voices": has_recorded_voices()}
    return build_shards(world, out_dir, seed, scale, only, workers, progress, built)

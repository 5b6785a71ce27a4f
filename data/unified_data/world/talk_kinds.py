"""Documents in which a picture is talked about: questions, edits, made-up names, the unknown."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unified_data.document import Document, Image, Text
from unified_data.world import tasks
from unified_data.world.captions_zh import can_say_zh
from unified_data.world.chinese import chinese_names
from unified_data.world.composing import SceneKind, compose_scene
from unified_data.world.edits import EDIT_KINDS, Edit, propose_edit, wish_en, wish_zh
from unified_data.world.free_scene import FreeScene, split_of_keys
from unified_data.world.made_up import made_up_name
from unified_data.world.painting import paint
from unified_data.world.picture_kinds import (
    CHINESE,
    ScenePayload,
    plan_scenes,
    scene_of,
    subjects_in_turn,
)
from unified_data.world.question_texts import (
    answer_en,
    answer_zh,
    names_in,
    question_en,
    question_zh,
)
from unified_data.world.questions import Question, questions_about, seen_in
from unified_data.world.unknowns import paint_unknown
from unified_data.world.wear import worn

__all__ = ["NamesPayload", "UnknownPayload", "ask", "edit", "names", "plan_asked", "plan_edits",
           "plan_names", "plan_unknown", "unknown"]  # fmt: skip

_ASKED: dict[SceneKind, float] = {"single": 0.2, "small": 0.12, "two": 0.27, "counted": 0.18,
                                  "mixed": 0.16, "writing": 0.04, "nothing": 0.03}  # fmt: skip
_EDITED: dict[SceneKind, float] = {"single": 0.15, "small": 0.3, "two": 0.35, "mixed": 0.2}
_MOST_QUESTIONS = 3
_PATIENCE = 40


def plan_asked(split: str, number: int, rng: np.random.Generator) -> list[ScenePayload]:
    return plan_scenes(split, number, rng, _ASKED)


def ask(payload: ScenePayload) -> Document:
    """A picture, perhaps worn, and one to three questions about it, in one language."""
    rng = np.random.default_rng(payload.seed)
    scene = scene_of(payload, rng)
    asked = questions_about(scene, rng)
    # The first few kinds are asked of every picture; what is special about one comes as often.
    order = rng.permutation(len(asked))[: int(rng.integers(1, _MOST_QUESTIONS + 1))]
    chosen = [asked[i] for i in order]
    seen = seen_in(scene)
    turns: list[tuple[str, str]]
    if rng.random() < CHINESE and can_say_zh(seen) and _has_names(chosen):
        turns = [(question_zh(each, rng), answer_zh(each, seen)) for each in chosen]
    else:
        turns = [(question_en(each, rng), answer_en(each, seen)) for each in chosen]
    return tasks.ask_document(Image(worn(paint(scene), rng)), turns)


def _has_names(asked: list[Question]) -> bool:
    return all(name in chinese_names() for each in asked for name in names_in(each))


def plan_edits(split: str, number: int, rng: np.random.Generator) -> list[ScenePayload]:
    return plan_scenes(split, number, rng, _EDITED)


def edit(payload: ScenePayload) -> Document:
    """A picture, a wish, and the picture when it has been granted."""
    rng = np.random.default_rng(payload.seed)
    before, change, after = _edited(payload, rng)
    chinese = rng.random() < CHINESE and all(name in chinese_names() for name in change.names)
    wish = wish_zh(change) if chinese else wish_en(change)
    return tasks.edit_document(Image(paint(before)), wish, Image(paint(after)))


def _edited(payload: ScenePayload, rng: np.random.Generator) -> tuple[FreeScene, Edit, FreeScene]:
    """An edit between two scenes whose combinations together are in the payload's split."""
    cast = payload.cast
    while True:
        for _ in range(_PATIENCE):
            kind = EDIT_KINDS[int(rng.integers(len(EDIT_KINDS)))]
            before = compose_scene(rng, payload.kind, cast)
            proposal = propose_edit(before, kind, rng)
            if proposal is None:
                continue
            change, after = proposal
            if split_of_keys((*before.keys, *after.keys)) == payload.split:
                return before, change, after
        cast = ()


class NamesPayload(NamedTuple):
    """cast: two subjects, (name, style) each."""

    split: str
    seed: int
    cast: tuple[tuple[str, str], ...]


def plan_names(split: str, number: int, rng: np.random.Generator) -> list[NamesPayload]:
    turn = subjects_in_turn(rng)
    payloads: list[NamesPayload] = []
    while len(payloads) < number:
        first, second = next(turn), next(turn)
        if first[0] != second[0]:
            payloads.append(NamesPayload(split, int(rng.integers(2**63)), (first, second)))
    return payloads


def names(payload: NamesPayload) -> Document:
    """Two things with made-up names, and another picture of one of them to be named by its own."""
    rng = np.random.default_rng(payload.seed)
    called: list[str] = []
    while len(called) < 2:
        name = made_up_name(rng, payload.split)
        if name not in called:
            called.append(name)
    pictures = [Image(paint(_alone(rng, member))) for member in payload.cast]
    which = int(rng.integers(2))
    again = Image(paint(_alone(rng, payload.cast[which])))
    return tasks.names_document(list(zip(pictures, called)), again, Text(f"a {called[which]}"))


def _alone(rng: np.random.Generator, member: tuple[str, str]) -> FreeScene:
    """One thing in its own colour, as training has them."""
    while True:
        kind: SceneKind = "single" if rng.random() < 0.7 else "small"
        scene = compose_scene(rng, kind, [member])
        if scene.split == "train" and scene.things[0].tint is None:
            return scene


class UnknownPayload(NamedTuple):
    split: str
    seed: int


def plan_unknown(split: str, number: int, rng: np.random.Generator) -> list[UnknownPayload]:
    return [UnknownPayload(split, int(rng.integers(2**63))) for _ in range(number)]


def unknown(payload: UnknownPayload) -> Document:
    """A picture of nothing that the world knows, shown alone or with a question, and that it is
    not known."""
    rng = np.random.default_rng(payload.seed)
    picture = Image(worn(paint_unknown(rng, payload.split), rng))
    asked = rng.random()
    if asked < 0.6:
        return tasks.describe_document(picture, Text(tasks.NOT_KNOWN))
    if asked < 0.8:
        return tasks.describe_zh_document(picture, Text(tasks.NOT_KNOWN_ZH))
    if asked < 0.9:
        return tasks.ask_document(picture, [("What is this?", tasks.NOT_KNOWN)])
    return tasks.ask_document(picture, [("这是什么？", tasks.NOT_KNOWN_ZH)])

"""Grounding: are the boxes that a model gives where the things are, and none where there are none.

Pictures are of combinations of the world that no training document has; true boxes are the
renderer's (`unified_data.world.thing_boxes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from unified.evaluation.box_match import BoxScore, match_boxes
from unified.evaluation.figures import MeasuredFigure, mean, share
from unified.evaluation.part import Bench, JudgedCase, Part, PartResult
from unified.models.grounding import NamedBox, draw_boxes
from unified_data.document import Box
from unified_data.world.captions_en import noun_phrase, subject_called
from unified_data.world.composing import SceneKind
from unified_data.world.description import Item
from unified_data.world.ground_kinds import EVERYTHING, boxes_of, reading_order
from unified_data.world.painting import paint
from unified_data.world.picture_kinds import plan_scenes, scene_of
from unified_data.world.questions import absent_name
from unified_data.world.thing_boxes import thing_boxes

__all__ = ["GROUNDING"]

_SCENES: dict[str, dict[SceneKind, float]] = {
    "large": {"single": 1.0},
    "small": {"small": 1.0},
    "of two": {"two": 1.0},
    "several alike": {"counted": 1.0},
    "everything": {"two": 0.5, "mixed": 0.5},
    "absent": {"single": 0.5, "two": 0.5},
}
_SPLIT = "heldout"


@dataclass(frozen=True, eq=False)
class _Case:
    condition: str
    text: str
    pixels: np.ndarray
    true: tuple[NamedBox, ...]


def _cases(bench: Bench, condition: str) -> list[_Case]:
    rng = bench.rng("grounding", condition)
    cases = []
    for payload in plan_scenes(_SPLIT, bench.cases, rng, _SCENES[condition]):
        scene = scene_of(payload, np.random.default_rng(payload.seed))
        true: tuple[NamedBox, ...]
        if condition == "absent":
            text, true = f"the {absent_name(rng, scene.names, True)}", ()
        elif condition == "everything":
            pairs = zip(scene.things, thing_boxes(scene))
            text = EVERYTHING
            true = tuple(
                NamedBox(noun_phrase(Item(thing.name, colour=thing.tint)), box)
                for thing, box in pairs
                if box is not None
            )
        else:
            name = scene.things[int(rng.integers(len(scene.things)))].name
            boxes = reading_order(boxes_of(scene, name))
            subject = subject_called(name)
            text = f"the {subject.name if len(boxes) == 1 else subject.plural}"
            true = tuple(NamedBox(text, box) for box in boxes)
        cases.append(_Case(condition, text, paint(scene), true))
    return cases


def _measure(bench: Bench) -> PartResult:
    cases = [case for condition in bench.conditions for case in _cases(bench, condition)]
    requests = [bench.request("ground", image=case.pixels, text=case.text) for case in cases]
    scores: list[BoxScore] = []
    samples = []
    for case, request, result in zip(cases, requests, bench.complete(requests)):
        if isinstance(request, str) or isinstance(result, str):
            scores.append(BoxScore(0.0, False))
            samples.append(JudgedCase(case.condition, case.text, _in_words(case.true), str(result),
                                      False, case.pixels))  # fmt: skip
            continue
        boxes, _ = request.boxes(result, case.pixels.shape[:2])
        score = match_boxes([each.box for each in boxes], [each.box for each in case.true])
        scores.append(score)
        samples.append(
            JudgedCase(case.condition, case.text, _in_words(case.true), _in_words(boxes),
                       score.right, draw_boxes(case.pixels, boxes))
        )  # fmt: skip
    figures: list[MeasuredFigure] = []
    for condition in bench.conditions:
        own = [score for case, score in zip(cases, scores) if case.condition == condition]
        if condition == "absent":
            figures.append(share("absent, no box", [score.right for score in own]))
            continue
        figures.append(mean(f"{condition}, IoU", [score.iou for score in own]))
        figures.append(share(f"{condition}, all at IoU .5", [score.right for score in own]))
    return PartResult(tuple(figures), _of_judge(cases), tuple(samples))


def _in_words(boxes: Sequence[NamedBox]) -> str:
    """`the fox 8 8 40 32; the fox 50 8 80 32`, or `nothing`."""
    lines = (f"{name} {' '.join(f'{value:.0f}' for value in box.at)}" for name, box in boxes)
    return "; ".join(lines) or "nothing"


def _of_judge(cases: Sequence[_Case]) -> tuple[MeasuredFigure, ...]:
    """What guessing gives: boxes in the middle half of the picture, as many as there are things."""
    some = [case for case in cases if case.true]
    if not some:
        return ()
    guesses = []
    for case in some:
        height, width = case.pixels.shape[:2]
        middle = Box(width / 4, height / 4, 3 * width / 4, 3 * height / 4, width, height)
        guesses.append(match_boxes([middle] * len(case.true), [each.box for each in case.true]))
    figure = mean("IoU of the middle half of the picture", [guess.iou for guess in guesses])
    return (replace(figure, better="lower"),)


GROUNDING = Part(
    "grounding",
    "Boxes of what is asked for, in pictures of combinations never trained on, against true ones.",
    ("ground",),
    tuple(_SCENES),
    _measure,
)

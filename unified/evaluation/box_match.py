"""How well boxes lie on true boxes: pairs by intersection over union, largest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from unified_data.document import Box

__all__ = ["HIT", "BoxScore", "match_boxes"]

HIT = 0.5
"""IoU from which a box is at its thing, as in PASCAL VOC and in RefCOCO's accuracy."""


class BoxScore(NamedTuple):
    """iou: the sum over pairs, over the larger number of the two; 1 where both are none. right:
    as many boxes as there are things, each at its own with `HIT` or more."""

    iou: float
    right: bool


def match_boxes(answered: Sequence[Box], true: Sequence[Box]) -> BoxScore:
    """The score of one answer. Pairs are made greedily, as COCO's evaluation does: no box and no
    thing is in two, and a box too many costs as a thing that was missed.

    For one thing and one box this is their IoU, and whether it is 0.5 or more.
    """
    pairs = sorted(
        ((a.iou(t), i, j) for i, a in enumerate(answered) for j, t in enumerate(true)),
        key=lambda pair: (-pair[0], pair[1], pair[2]),
    )
    boxes, things, overlaps = set(), set(), []
    for overlap, i, j in pairs:
        if i not in boxes and j not in things:
            boxes.add(i)
            things.add(j)
            overlaps.append(overlap)
    number = max(len(answered), len(true))
    right = len(answered) == len(true) and all(overlap >= HIT for overlap in overlaps)
    return BoxScore(sum(overlaps) / number if number else 1.0, right)

"""CHAIR: what descriptions name that is not there.

Rohrbach, Hendricks, Burns, Darrell, Saenko (2018), "Object Hallucination in Image Captioning":
CHAIR_i is the share of things named that are not in the picture, CHAIR_s the share of descriptions
that name any such thing. Both are low where a description names next to nothing, so that the share
of the things which are named stands beside them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from unified.evaluation.figures import MeasuredFigure, rate, share
from unified.evaluation.names import subjects_in_view

__all__ = ["chair"]


def chair(descriptions: Sequence[str], present: Sequence[Collection[str]]) -> list[MeasuredFigure]:
    """CHAIR_i, CHAIR_s and the share of things named. present: names of what each picture shows."""
    named = [subjects_in_view(text) for text in descriptions]
    invented = [len(each - set(true)) for each, true in zip(named, present)]
    hits = [len(each & set(true)) for each, true in zip(named, present)]
    return [
        rate("CHAIR_i, things named that are not there", invented, [len(n) for n in named],
             "share"),
        share("CHAIR_s, descriptions that name such a thing", [n > 0 for n in invented],
              better="lower"),
        rate("things of the picture that are named", hits, [len(set(t)) for t in present],
             "share", "higher"),
    ]  # fmt: skip

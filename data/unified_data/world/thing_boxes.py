"""Where the things of a scene are in its picture, from the renderer's own masks."""

from __future__ import annotations

import numpy as np

from unified_data.document import Box
from unified_data.world.free_scene import FreeScene
from unified_data.world.painting import SIDE, cover_of

__all__ = ["thing_boxes"]

_SEEN = 0.5
"""Of a pixel: at least so much of it shows the thing, through whatever lies over it."""


def thing_boxes(scene: FreeScene, side: int = SIDE) -> list[Box | None]:
    """The box of each thing of a scene in pixels of its picture, in the scene's order.

    It is the smallest one around the pixels that the thing covers by half or more and that no later
    thing hides; shadows are no part of a thing. None: nothing of it is seen.
    """
    boxes: list[Box | None] = []
    open_to_view = np.ones((side, side), np.float32)
    for thing in reversed(scene.things):  # the last is on top
        cover = cover_of(thing, side)
        seen = cover * open_to_view >= _SEEN
        open_to_view *= 1 - cover
        ys, xs = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        boxes.append(
            Box(int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1, side, side)
            if len(xs)
            else None
        )
    return boxes[::-1]

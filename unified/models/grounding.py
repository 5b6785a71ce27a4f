"""Places in a picture that was made to fit the model: boxes of its answer, in its own pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from unified.sequence.preprocess import fitted_area
from unified_data.document import Box, Image, Text

if TYPE_CHECKING:
    from unified.sequence.sequencer import Sequencer

__all__ = ["NamedBox", "boxes_in", "draw_boxes", "fit_box"]

_COLOURS = ("#e6194b", "#3c64f4", "#2e8b3a", "#f58231", "#911eb4", "#008080")


class NamedBox(NamedTuple):
    """A box in a picture's own pixels, and what it is of."""

    name: str
    box: Box

    def to_json(self) -> dict[str, Any]:
        """{"name": ..., "box": [x0, y0, x1, y1]}, in pixels rounded to a tenth."""
        return {"name": self.name, "box": [round(float(value), 1) for value in self.box.at]}


def fit_box(box: Box | None, before: np.ndarray, image: Image, sequencer: Sequencer) -> Box | None:
    """A box of a picture, uint8 (H, W, 3), in what `fit_image` made of it; None: there is none.

    Raises ValueError for a box of a picture of another size, and where the model's own processor
    changes the picture's size: what it cuts off only it knows.
    """
    height, width = before.shape[:2]
    tokenizer = sequencer.tokenizer("image")
    if hasattr(tokenizer, "preprocessed_size"):
        size = tokenizer.preprocessed_size(height, width)
        if tuple(size) != (height, width):
            raise ValueError(
                f"the picture of {width}x{height} pixels would be made {size[1]}x{size[0]} by the"
                " model's own processor, which may cut it, so that boxes would be of another"
                " picture; give one of that size"
            )
    if box is None:
        return None
    if (box.width, box.height) != (width, height):
        raise ValueError(
            f"the box is of a picture of {box.width}x{box.height} pixels, the picture has"
            f" {width}x{height}"
        )
    fitted_height, fitted_width = image.pixels.shape[:2]
    top, left, inner_height, inner_width = fitted_area(height, width, fitted_height, fitted_width)
    inner = box.on(inner_width, inner_height)
    return Box(
        inner.x0 + left, inner.y0 + top, inner.x1 + left, inner.y1 + top,
        fitted_width, fitted_height, box.role, box.loss,
    )  # fmt: skip


def boxes_in(
    answer: Sequence[object], text: str, fitted: Image, size: tuple[int, int]
) -> tuple[list[NamedBox], list[str]]:
    """The boxes that a model answered with, in the pixels of the picture that was given.

    A box is of the last words before it in the answer; where there are none, of what was asked for.

    Args:
        answer: segments.
        text: what was asked for.
        fitted: the picture as the model was given it.
        size: (height, width) of the picture before it was made to fit.

    Returns:
        The boxes in the answer's order, and notes: on boxes that reach into the margin that the
        picture was given to fit, which are cut at its edge, or left out where nothing remains.
    """
    fitted_height, fitted_width = fitted.pixels.shape[:2]
    height, width = size
    top, left, inner_height, inner_width = fitted_area(height, width, fitted_height, fitted_width)
    name = text
    boxes: list[NamedBox] = []
    num_cut = num_out = 0
    for segment in answer:
        if isinstance(segment, Text):
            name = segment.text.strip() or name
        if not isinstance(segment, Box):
            continue
        box = segment.on(fitted_width, fitted_height)
        corners = np.array(box.at, np.float64) - (left, top, left, top)
        inside = corners.clip(0, [inner_width, inner_height] * 2)
        if inside[0] >= inside[2] or inside[1] >= inside[3]:
            num_out += 1
            continue
        num_cut += bool((inside != corners).any())
        scaled = inside * ([width / inner_width, height / inner_height] * 2)
        # Rounding may lead out by the last bit.
        at = scaled.clip(0, [width, height] * 2).tolist()
        boxes.append(NamedBox(name, Box.of(at, (width, height))))
    notes = []
    if num_cut:
        notes.append(f"boxes that reached beyond the picture and were cut at its edge: {num_cut}")
    if num_out:
        notes.append(f"boxes in the margin around the picture, which are left out: {num_out}")
    return boxes, notes


def draw_boxes(pixels: np.ndarray, boxes: Sequence[NamedBox]) -> np.ndarray:
    """A picture, uint8 (H, W, 3), with the boxes' edges and names drawn into it by Pillow; a colour
    for each name in turn."""
    from PIL import Image as PillowImage
    from PIL import ImageDraw, ImageFont

    picture = PillowImage.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    side = max(pixels.shape[:2])
    thickness = max(1, round(side / 200))
    font = ImageFont.load_default(size=max(9, side / 40))
    names = list(dict.fromkeys(name for name, _ in boxes))
    for name, box in boxes:
        colour = _COLOURS[names.index(name) % len(_COLOURS)]
        x0, y0, x1, y1 = box.on(pixels.shape[1], pixels.shape[0]).at
        draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=thickness)
        left, top, right, bottom = draw.textbbox((0, 0), name, font=font)
        wide, high = right - left + 2, bottom - top + 2
        x = min(max(0, x0), max(0, pixels.shape[1] - wide))
        y = y0 - high if y0 >= high else y0
        draw.rectangle((x, y, x + wide, y + high), fill=colour)
        draw.text((x + 1 - left, y + 1 - top), name, fill="white", font=font)
    return np.asarray(picture)

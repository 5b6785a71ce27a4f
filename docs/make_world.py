"""Paint docs/world.png: random pictures of the world with their captions.

python docs/make_world.py
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from unified_data.world.build import plan_kind
from unified_data.world.captions_en import caption_en
from unified_data.world.description import describe_scene
from unified_data.world.painting import SIDE, paint
from unified_data.world.picture_kinds import scene_of

COLUMNS, ROWS, SEED = 8, 4, 4
_TEXT = 26  # pixels below a picture, for two lines


def sheet() -> Image.Image:
    """The pictures of the first drawings of a seed, in rows."""
    page = Image.new("RGB", (COLUMNS * (SIDE + 6), ROWS * (SIDE + _TEXT)), "white")
    drawing = ImageDraw.Draw(page)
    font = ImageFont.load_default(9)
    payloads = plan_kind("draw", "train", SEED, 0.01)
    for number, payload in enumerate(payloads[: COLUMNS * ROWS]):
        scene = scene_of(payload, np.random.default_rng(payload.seed))
        row, column = divmod(number, COLUMNS)
        x, y = column * (SIDE + 6), row * (SIDE + _TEXT)
        page.paste(Image.fromarray(paint(scene)), (x, y))
        lines = textwrap.wrap(caption_en(describe_scene(scene)), 22)
        text = "\n".join(lines[:2]) + ("..." if len(lines) > 2 else "")
        drawing.text((x, y + SIDE), text, "black", font, spacing=1)
    return page


if __name__ == "__main__":
    path = Path(__file__).with_name("world.png")
    sheet().quantize(256).save(path, optimize=True)
    print(path, path.stat().st_size, "bytes")

"""The glyph atlas: one picture per subject, rendered once from Noto Color Emoji (OFL 1.1).

The atlas is a sheet of square RGBA tiles kept in the package, so that building the world and
judging pictures needs no font. `python -m unified_data.pocket.atlas FONT.ttf` renders it again.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from unified_data.pocket.subjects import load_subjects

__all__ = ["TILE", "font_glyph", "glyph", "render_atlas"]

TILE = 84
"""Side of a tile in pixels."""

_COLUMNS = 16
# The font's only bitmap strike; Pillow refuses other sizes.
_STRIKE = 109


@cache
def _sheet() -> tuple[np.ndarray, dict[str, int]]:
    folder = resources.files(__package__)
    order = json.loads((folder / "atlas.json").read_text("utf-8"))
    with (folder / "atlas.png").open("rb") as file:
        sheet = np.asarray(Image.open(file, formats=["PNG"]).convert("RGBA"))
    return sheet, {character: index for index, character in enumerate(order)}


@cache
def glyph(character: str, side: int = TILE) -> np.ndarray:
    """The picture of a glyph.

    Args:
        character: the glyph as a subject names it.
        side: side of the square in pixels, at most `TILE`.

    Returns:
        (side, side, 4) uint8, straight (not premultiplied) alpha. Shared: do not write to it.

    Raises:
        ValueError: the atlas has no such glyph, or `side` is out of range.
    """
    sheet, order = _sheet()
    if character not in order:
        raise ValueError(
            f"the atlas has no glyph {character!r}; it has {len(order)}: render it again"
        )
    if not 1 <= side <= TILE:
        raise ValueError(f"glyph side {side} is out of range, expected 1 to {TILE} pixels")
    row, column = divmod(order[character], _COLUMNS)
    tile = sheet[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
    if side != TILE:
        # Scale premultiplied colours, or the transparent surround bleeds into the edge.
        scaled = Image.fromarray(tile).convert("RGBa").resize((side, side), Image.Resampling.BOX)
        tile = np.asarray(scaled.convert("RGBA"))
    tile = np.ascontiguousarray(tile)
    tile.setflags(write=False)
    return tile


@cache
def font_glyph(character: str, side: int, font_path: Path) -> np.ndarray:
    """The picture of a glyph, from Noto Color Emoji itself: finer than the atlas has it.

    Args:
        side: side of the square in pixels; beyond 128 it is scaled up.
        font_path: the font, NotoColorEmoji.ttf with its bitmaps.

    Returns:
        As `glyph` does.

    Raises:
        ValueError: no font with such bitmaps there, or the font has no such glyph.
    """
    tile = np.asarray(_render(character, _open_font(font_path), side))
    tile.setflags(write=False)
    return tile


@cache
def _open_font(path: Path) -> ImageFont.FreeTypeFont:
    try:
        return ImageFont.truetype(str(path), _STRIKE)
    except OSError as error:
        raise ValueError(
            f"cannot read Noto Color Emoji in {path}: {error}; install it with"
            " `apt-get install fonts-noto-color-emoji` and name its NotoColorEmoji.ttf"
        ) from None


def _render(character: str, font: ImageFont.FreeTypeFont, side: int) -> Image.Image:
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((10, 10), character, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f"the font has no glyph for {character!r}")
    cut = canvas.crop(box)
    longest = max(cut.size)
    square = Image.new("RGBA", (longest, longest))
    square.paste(cut, ((longest - cut.width) // 2, (longest - cut.height) // 2))
    return square.convert("RGBa").resize((side, side), Image.Resampling.LANCZOS).convert("RGBA")


def render_atlas(font_path: Path, folder: Path) -> int:
    """Render every subject's glyph into `folder` as atlas.png and atlas.json; returns how many."""
    font = _open_font(font_path)
    characters = [subject.glyph for subject in load_subjects()]
    rows = -(-len(characters) // _COLUMNS)
    sheet = Image.new("RGBA", (_COLUMNS * TILE, rows * TILE))
    for index, character in enumerate(characters):
        row, column = divmod(index, _COLUMNS)
        sheet.paste(_render(character, font, TILE), (column * TILE, row * TILE))
    sheet.save(folder / "atlas.png", optimize=True)
    (folder / "atlas.json").write_text(json.dumps(characters, ensure_ascii=False), "utf-8")
    return len(characters)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m unified_data.pocket.atlas FONT.ttf")
    print(render_atlas(Path(sys.argv[1]), Path(__file__).parent), "glyphs rendered")

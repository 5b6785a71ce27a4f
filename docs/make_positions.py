"""Draw docs/positions.png: one second of speech in a row, together, delayed, and in two streams.

python docs/make_positions.py            writes the picture that docs/formats.md shows

Every cell is an id that a grammar laid out, at its position and depth: 25 frames of three levels,
the pocket's speech.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from unified.formats.columns import example_vocabulary
from unified.formats.grammar import Grammar
from unified.formats.parser import parse_format

PAGE = Path(__file__).with_name("positions.png")
FRAMES = 25
CELL, GAP, HEAD, SCALE = 11, 1, 76, 2  # pixels of a cell, between two, of the words before a row
LEFT, BETWEEN = 8, 16
INK, PAPER, MARKER, FILL, WORDS = "#222222", "#ffffff", "#b9b9b9", "#e7e7e7", "#8fbc6b"
SPEAKER = ("#1f5fa8", "#5b93cf", "#a9c8ea")  # by level
LISTENER = ("#a8541f", "#cf8b5b", "#eac3a9")

FORMAT = """
name: speech
markers: [<pad>, <bos>, <eos>, <audio>, </audio>, <fill>]
padding: <pad>
document: {{begin: <bos>, end: <eos>}}
roles: {{}}
text: {{separator: null}}
spans:
  audio:
    streams: {streams}
    items:
    - marker: <audio>
    - {item}
    - marker: </audio>
"""


@dataclass(frozen=True)
class Panel:
    """title, streams and item: of a format. heads: the words before each row."""

    title: str
    item: str
    heads: tuple[str, ...]
    streams: str = "{voice: 3}"


PANELS = (
    Panel("In a row: codes: audio", "{repeat: open, of: [{codes: audio}]}", ("all levels",)),
    Panel(
        "Together: codes: audio, together: true",
        "{repeat: open, of: [{codes: audio, together: true}]}",
        ("level 0", "level 1", "level 2"),
    ),
    Panel(
        "Delayed: by: [0, 1, 2], together: true",
        "{delayed: audio, by: [0, 1, 2], fill: <fill>, together: true}",
        ("level 0", "level 1", "level 2"),
    ),
    Panel(
        "Two voices and a text: streams, by: [0, 0, 1, 1, 0, 1, 1], together: true",
        "{delayed: audio, by: [0, 0, 1, 1, 0, 1, 1], fill: <fill>, together: true}",
        ("text", "speaker 0", "speaker 1", "speaker 2", "listener 0", "listener 1", "listener 2"),
        "{text: text, speaker: 3, listener: 3}",
    ),
)


def cells(panel: Panel) -> tuple[list[tuple[int, int, str]], str]:
    """(position, depth, colour) of each id of a second of speech, and what it costs in words."""
    format = parse_format(FORMAT.format(item=panel.item, streams=panel.streams))
    span = Grammar(format, example_vocabulary(format)).span_grammars["audio"]
    ids, levels, depths = span.expand((FRAMES,))
    fill = span.vocabulary.marker("<fill>")
    colours = {-1: MARKER}
    for name, own in span.streams.items():
        shades = {"text": (WORDS,), "listener": LISTENER}.get(name, SPEAKER)
        colours.update(zip(own, shades))
    positions = np.cumsum(depths == 0) - 1
    drawn = [
        (position, depth, FILL if id == fill else colours[level])
        for id, level, position, depth in zip(ids.tolist(), levels.tolist(), positions, depths)
    ]
    text = FRAMES if "text" in span.level_modalities else 0
    codes = f"{int((levels >= 0).sum()) - text} codes" + (
        f" and {text} ids of text" if text else ""
    )
    return drawn, f"{codes} in {positions[-1] + 1} positions, two of them markers"


def draw() -> Image.Image:
    """All panels, one above the other."""
    step = CELL + GAP
    laid = [cells(panel) for panel in PANELS]
    columns = 1 + max(position for drawn, _ in laid for position, _, _ in drawn)
    heights = [34 + step * len(panel.heads) for panel in PANELS]
    size = (2 * LEFT + HEAD + step * columns, sum(heights) + BETWEEN * len(PANELS))
    image = Image.new("RGB", (size[0] * SCALE, size[1] * SCALE), PAPER)
    pen = ImageDraw.Draw(image)
    small, large = (ImageFont.load_default(points * SCALE) for points in (10, 12))
    top = BETWEEN // 2
    for panel, (drawn, cost), height in zip(PANELS, laid, heights):
        pen.text((LEFT * SCALE, top * SCALE), panel.title, INK, large)
        pen.text((LEFT * SCALE, (top + 16) * SCALE), cost, INK, small)
        first = top + 34
        for row, head in enumerate(panel.heads):
            pen.text((LEFT * SCALE, (first + step * row - 1) * SCALE), head, INK, small)
        for position, depth, colour in drawn:
            x, y = LEFT + HEAD + step * position, first + step * int(depth)
            box = (x * SCALE, y * SCALE, (x + CELL) * SCALE - 1, (y + CELL) * SCALE - 1)
            pen.rectangle(box, colour)
        top += height + BETWEEN
    return image


if __name__ == "__main__":
    draw().quantize(32).save(PAGE, optimize=True)

"""Drawing charts with Pillow: bars, lines, pies and tables, with letters of five by seven squares.

The letters are those of the world (`world.lettering`), so that a chart is the same on every machine
and can be read at 96 pixels a side. Heights and angles are exact to half a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from unified_data.charts.chart import MOST_VALUE, Chart
from unified_data.world.lettering import writing_mask

__all__ = ["SIDE", "ChartStyle", "bar_boxes", "draw_chart"]

SIDE = 96
"""Side in pixels of the least chart; larger ones are multiples of it."""
_COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (255, 127, 14), (148, 103, 189),
            (140, 86, 75))  # fmt: skip
_INK, _PAPER, _GRID = (0, 0, 0), (255, 255, 255), (200, 200, 200)
# Of 96 pixels: the plot's left, top, right and bottom edge, and the height of MOST_VALUE.
_PLOT = (16, 12, 94, 84)
_HIGH = 68
_TICKS = (0, 30, 60, 90)
_CENTRE, _RADIUS = (30, 54), 26


@dataclass(frozen=True)
class ChartStyle:
    """colours: which of the six stand first, 0 to 5. written: the values stand beside their bars,
    points and names; else they are to be read off. grid: lines at 30, 60 and 90."""

    colours: int = 0
    written: bool = False
    grid: bool = True


def draw_chart(chart: Chart, style: ChartStyle | None = None, side: int = SIDE) -> np.ndarray:
    """A picture of a chart, uint8 (side, side, 3).

    Raises ValueError for a side that is no multiple of 96, 96 to 960.
    """
    if side % SIDE or not SIDE <= side <= 10 * SIDE:
        raise ValueError(f"side is {side}, expected a multiple of {SIDE}, {SIDE} to {10 * SIDE}")
    pen = _Pen(side // SIDE)
    style = style or ChartStyle()
    {"bar": _bars, "line": _lines, "pie": _pie, "table": _table}[chart.kind](pen, chart, style)
    return np.asarray(pen.picture)


class _Pen:
    """Draws in units of a 96th of the picture."""

    def __init__(self, unit: int):
        self.unit = unit
        self.picture = Image.new("RGB", (SIDE * unit, SIDE * unit), _PAPER)
        self._draw = ImageDraw.Draw(self.picture)

    def rectangle(
        self, box: tuple[float, float, float, float], colour: tuple[int, int, int]
    ) -> None:
        """Filled; edges lie between pixels."""
        x0, y0, x1, y1 = (round(value * self.unit) for value in box)
        if x0 < x1 and y0 < y1:
            self._draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=colour)

    def line(self, points: list[tuple[float, float]], colour: tuple[int, int, int]) -> None:
        scaled = [(round(x * self.unit), round(y * self.unit)) for x, y in points]
        self._draw.line(scaled, fill=colour, width=2 * self.unit)

    def slice(self, start: float, stop: float, colour: tuple[int, int, int]) -> None:
        """Of the pie, from one share of the turn to another, clockwise from the top."""
        (x, y), r = _CENTRE, _RADIUS
        box = [(value * self.unit) for value in (x - r, y - r, x + r, y + r)]
        self._draw.pieslice(box, 360 * start - 90, 360 * stop - 90, fill=colour, outline=_PAPER)

    def write(
        self, text: str, x: float, y: float, colour: tuple[int, int, int] = _INK, anchor: float = 0
    ) -> None:
        """A text seven units high, its top at y; anchor: the share of its width left of x."""
        mask = writing_mask(text)
        mask = mask.resize((mask.width * self.unit, mask.height * self.unit), 0)
        left = round(x * self.unit - anchor * mask.width)
        self.picture.paste(colour, (left, round(y * self.unit)), mask)


def _colour(style: ChartStyle, number: int) -> tuple[int, int, int]:
    return _COLOURS[(style.colours + number) % len(_COLOURS)]


def _height(value: int) -> float:
    return value * _HIGH / MOST_VALUE


def _axes(pen: _Pen, chart: Chart, style: ChartStyle) -> None:
    """Title, names of the series in their colours, ticks with their numbers, and labels below."""
    left, _, right, bottom = _PLOT
    pen.write(chart.title, 1, 1)
    for number, name in enumerate(reversed(chart.series), 1):
        colour = _colour(style, len(chart.series) - number)
        pen.write(name, 114 - 19 * number, 1, colour, anchor=1)
    for tick in _TICKS:
        y = bottom - _height(tick)
        if style.grid and tick:
            pen.rectangle((left, y, right, y + 1), _GRID)
        pen.write(str(tick), left - 2, min(y - 3, bottom - 6), anchor=1)
    pen.rectangle((left - 1, bottom - _HIGH, left, bottom + 1), _INK)
    pen.rectangle((left - 1, bottom, right, bottom + 1), _INK)
    for at, label in enumerate(chart.labels):
        pen.write(label, _middle(chart, at), bottom + 4, anchor=0.5)


def _middle(chart: Chart, at: int) -> float:
    left, _, right, _ = _PLOT
    return left + (at + 0.5) * (right - left) / len(chart.labels)


def bar_boxes(chart: Chart) -> list[list[tuple[float, float, float, float]]]:
    """Where the bars are: of each label and series (x0, y0, x1, y1) in 96ths of the side."""
    left, _, right, bottom = _PLOT
    wide = 0.7 * (right - left) / len(chart.labels) / len(chart.series)
    boxes: list[list[tuple[float, float, float, float]]] = []
    for at, row in enumerate(chart.values):
        first = round(_middle(chart, at) - wide * len(row) / 2)
        boxes.append(
            [(first + round(n * wide), bottom - _height(value), first + round((n + 1) * wide),
              float(bottom)) for n, value in enumerate(row)]
        )  # fmt: skip
    return boxes


def _bars(pen: _Pen, chart: Chart, style: ChartStyle) -> None:
    _axes(pen, chart, style)
    for row, boxes in zip(chart.values, bar_boxes(chart)):
        for number, (value, box) in enumerate(zip(row, boxes)):
            pen.rectangle(box, _colour(style, number))
            if style.written and len(row) == 1:
                _write_value(pen, value, (box[0] + box[2]) / 2, box[1])


def _lines(pen: _Pen, chart: Chart, style: ChartStyle) -> None:
    _axes(pen, chart, style)
    bottom = _PLOT[3]
    for number in range(len(chart.series)):
        points = [(_middle(chart, at), bottom - _height(row[number]))
                  for at, row in enumerate(chart.values)]  # fmt: skip
        pen.line(points, _colour(style, number))
        for (x, y), row in zip(points, chart.values):
            pen.rectangle((x - 2, y - 2, x + 2, y + 2), _colour(style, number))
            if style.written and len(row) == 1:
                _write_value(pen, row[0], x, y - 2)


def _write_value(pen: _Pen, value: int, x: float, y: float) -> None:
    pen.write(str(value), x, max(y - 8, 9), anchor=0.5)


def _pie(pen: _Pen, chart: Chart, style: ChartStyle) -> None:
    """Slices in the order of the labels, from the top, clockwise."""
    pen.write(chart.title, 1, 1)
    pen.write(chart.series[0], 95, 1, anchor=1)
    total = sum(row[0] for row in chart.values)
    so_far = 0
    for at, (label, (value,)) in enumerate(zip(chart.labels, chart.values)):
        pen.slice(so_far / total, (so_far + value) / total, _colour(style, at))
        so_far += value
        y = 16 + 19 * at
        pen.rectangle((61, y, 67, y + 7), _colour(style, at))
        pen.write(label, 70, y)
    if style.written:
        for at, (value,) in enumerate(chart.values):
            pen.write(str(value), 70, 24 + 19 * at)


def _table(pen: _Pen, chart: Chart, style: ChartStyle) -> None:
    """The text of a table in columns, a line below its head."""
    rows = [(chart.title, *chart.series)]
    rows += [(label, *map(str, row)) for label, row in zip(chart.labels, chart.values)]
    pen.rectangle((1, 15, 95, 16), _colour(style, 0))
    for down, row in enumerate(rows):
        for across, cell in enumerate(row):
            pen.write(cell, 3 if not across else 38 + 28 * across, 5 + 16 * down,
                      anchor=0 if not across else 1)  # fmt: skip

"""What goes into what: a report as a matrix from what is given to what comes, for its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unified.evaluation.figures import MeasuredFigure
from unified.evaluation.report import Report, figure_text

__all__ = ["COLUMNS", "ROWS", "MatrixCell", "matrix", "plot"]

ROWS = ("text", "picture", "sound", "picture and text", "picture and sound")
COLUMNS = ("text", "picture", "sound", "article")
_LISTENED = ("connected", "facts", "unseen voices", "word by word")
_CELLS: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("text", "picture"): ("drawing", ("one", "two", "count", "three")),
    ("text", "sound"): ("speaking", ("names", "captions", "facts", "sentences")),
    ("text", "article"): (
        "articles",
        ("plain, facts of the subject", "sections, as asked", "wishes, honoured or named"),
    ),
    ("picture", "text"): ("seeing", ("plain", "together", "two", "style")),
    ("picture", "sound"): ("crossing", ("say a picture",)),
    ("sound", "text"): ("listening", tuple(f"{name}, word error rate" for name in _LISTENED)),
    ("sound", "picture"): ("crossing", ("draw spoken",)),
    ("picture and text", "text"): ("asking", ("random", "adversarial", "count", "relation")),
    ("picture and text", "picture"): ("crossing", ("edit",)),
    ("picture and sound", "text"): ("crossing", ("ask spoken",)),
}
"""From what is given to what comes: the part that measures it, and its figures."""
STEPS = 10
_SHORTER = {
    ", word error rate": "", "plain, facts of the subject": "facts", ", as asked": "",
    "wishes, honoured or named": "wishes",
}  # fmt: skip


@dataclass(frozen=True)
class MatrixCell:
    """One way. state: "measured", "cannot" (the model has no task for it) or "none" (no part asks).

    goodness: mean of its figures in [0, 1], of error rates what is left of 1. level: goodness in
    tenths. lines: (figure, value) as text.
    """

    state: str
    goodness: float = 0.0
    lines: tuple[tuple[str, str], ...] = ()
    about: str = ""

    @property
    def level(self) -> int:
        return round(STEPS * self.goodness)


def matrix(report: Report) -> list[list[MatrixCell]]:
    """The cells of a report, by row of `ROWS` and column of `COLUMNS`."""
    return [[_cell(report, (source, comes)) for comes in COLUMNS] for source in ROWS]


def _cell(report: Report, way: tuple[str, str]) -> MatrixCell:
    entry = _CELLS.get(way)
    part = None if entry is None else report.parts.get(entry[0])
    if entry is None or part is None:
        return MatrixCell("none")
    name, wanted = entry
    figures = [figure for each in wanted for figure in part.figures if figure.name == each]
    if figures:
        goodness = sum(map(_goodness, figures)) / len(figures)
        lines = tuple((_short(f.name), _value(f)) for f in figures)
        return MatrixCell("measured", goodness, lines, f"{name}: {part.about}")
    reason = part.cannot or next(
        (part.missing[each] for each in wanted if each in part.missing), ""
    )
    return MatrixCell("cannot", about=reason) if reason else MatrixCell("none")


def _goodness(figure: MeasuredFigure) -> float:
    value = figure.value if figure.better == "higher" else 1 - figure.value
    return min(1.0, max(0.0, value))


def _value(figure: MeasuredFigure) -> str:
    text = figure_text(figure.value, figure.unit)
    return f"WER {text}" if figure.unit == "error rate" else text


def _short(name: str) -> str:
    """A figure's name in a cell: `facts, word error rate` is `facts`."""
    for long, short in _SHORTER.items():
        name = name.replace(long, short)
    return name


# The plot: pixels of an SVG, laid out here so that the template only prints them.

_LEFT, _TOP, _WIDTH, _HEIGHT, _GAP = 142, 34, 194, 104, 6


def plot(report: Report) -> dict[str, object]:
    """What the page's template prints as SVG: a size, labels and cells with their places."""
    cells = []
    for row, several in enumerate(matrix(report)):
        for column, cell in enumerate(several):
            x, y = _LEFT + column * (_WIDTH + _GAP), _TOP + row * (_HEIGHT + _GAP)
            cells.append({"x": x, "y": y, "cell": cell, "lines": _placed(cell.lines, y)})
    return {
        "width": _LEFT + len(COLUMNS) * (_WIDTH + _GAP),
        "height": _TOP + len(ROWS) * (_HEIGHT + _GAP),
        "cell_width": _WIDTH,
        "cell_height": _HEIGHT,
        "columns": [(name, _LEFT + i * (_WIDTH + _GAP)) for i, name in enumerate(COLUMNS)],
        "rows": [(name, _TOP + i * (_HEIGHT + _GAP)) for i, name in enumerate(ROWS)],
        "cells": cells,
    }


def _placed(lines: Sequence[tuple[str, str]], top: int) -> list[tuple[int, str, str]]:
    first = top + 24 + (4 - len(lines)) * 10
    return [(first + 20 * i, name, value) for i, (name, value) in enumerate(lines)]

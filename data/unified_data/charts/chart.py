"""Charts as data: what a chart shows, exactly, as text and back, and how an answer is scored.

The text of a table is one line for each row, cells with ` | ` between, as DePlot writes it
(arXiv:2212.10505); an answer is right by ChartQA's relaxed accuracy (arXiv:2203.10244): a number to
within 5% of the true one, a text where it is the same.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal, get_args

from unified_base.text import quoted

__all__ = [
    "CHART_KINDS", "MOST_ROWS", "MOST_VALUE", "TOLERANCE", "Chart", "ChartKind", "chart_from_text",
    "relaxed_match", "table_f1",
]  # fmt: skip

ChartKind = Literal["bar", "line", "pie", "table"]
CHART_KINDS: tuple[ChartKind, ...] = get_args(ChartKind)
MOST_ROWS = 4
MOST_VALUE = 90
TOLERANCE = 0.05
"""How far a number may be from the true one, as a share of it."""
_BETWEEN = " | "
_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Chart:
    """What a chart shows: a number for each label and series.

    title, series, labels: of capital letters and digits, distinct. values: whole numbers 1 to 90, a
    row for each label with a value for each series.
    """

    kind: ChartKind
    title: str
    series: tuple[str, ...]
    labels: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if self.kind not in CHART_KINDS:
            raise ValueError(
                f"kind is {quoted(self.kind)}, expected one of {', '.join(CHART_KINDS)}"
            )
        if not 2 <= len(self.labels) <= MOST_ROWS or len(self.values) != len(self.labels):
            raise ValueError(
                f"a chart has {len(self.labels)} labels and {len(self.values)} rows, expected 2 to"
                f" {MOST_ROWS}, and a row for each label"
            )
        if not 1 <= len(self.series) <= (1 if self.kind == "pie" else 2):
            raise ValueError(f"a {self.kind} has {len(self.series)} series, expected one, or two of"
                             " a chart that is no pie")  # fmt: skip
        for names in (self.labels, self.series):
            if len(set(names)) != len(names):
                raise ValueError(f"{quoted(list(names))} holds a name twice")
        for row in self.values:
            if len(row) != len(self.series) or not all(
                type(value) is int and 1 <= value <= MOST_VALUE for value in row
            ):
                raise ValueError(
                    f"a row has {quoted(list(row))}, expected {len(self.series)} whole numbers, 1"
                    f" to {MOST_VALUE}"
                )

    def value(self, label: str, series: str | None = None) -> int:
        """Of a label, and a series (the only one where None)."""
        column = 0 if series is None else self.series.index(series)
        return self.values[self.labels.index(label)][column]

    def column(self, series: str) -> dict[str, int]:
        """The values of a series by label."""
        return {label: self.value(label, series) for label in self.labels}

    @property
    def text(self) -> str:
        """As a table: the title and the series, then a line for each label."""
        rows = [(self.title, *self.series)]
        rows += [(label, *map(str, row)) for label, row in zip(self.labels, self.values)]
        return "\n".join(_BETWEEN.join(row) for row in rows)


def chart_from_text(text: str, kind: ChartKind = "table") -> Chart:
    """The chart of a table's text, as `Chart.text` writes it.

    Raises ValueError for rows of unequal length, what is no number, and as `Chart`.
    """
    rows = [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]
    if not rows or any(len(row) != len(rows[0]) or not all(row) for row in rows):
        raise ValueError(f"the table {quoted(text)} has rows of unequal length, or empty cells")
    try:
        values = tuple(tuple(map(int, row[1:])) for row in rows[1:])
    except ValueError:
        raise ValueError(f"the table {quoted(text)} holds what is no whole number") from None
    return Chart(kind, rows[0][0], tuple(rows[0][1:]), tuple(row[0] for row in rows[1:]), values)


def _as_number(text: str) -> float | None:
    """The number that a text is; None where it is another text. `1,200` and `12%` are numbers."""
    plain = text.strip().rstrip(".%").replace(",", "")
    try:
        number = float(plain)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def relaxed_match(answer: str, truth: str, tolerance: float = TOLERANCE) -> bool:
    """ChartQA's relaxed accuracy of one answer: a number within `tolerance` of a true number (of 0:
    0 itself), a text equal to a true text but for case and a full stop.

    An answer of several words to a question with a number for an answer is read by the one number
    in it; where it holds several it is wrong.
    """
    wanted = _as_number(truth)
    if wanted is None:
        return answer.strip().rstrip(".").casefold() == truth.strip().rstrip(".").casefold()
    actual = _as_number(answer)
    if actual is None:
        numbers = _NUMBER.findall(answer)
        actual = _as_number(numbers[0]) if len(numbers) == 1 else None
    return actual is not None and abs(actual - wanted) <= tolerance * abs(wanted)


def table_f1(answer: str, truth: str, tolerance: float = TOLERANCE) -> float:
    """F1 over the values of a table, 0 to 1: one counts where its label and its series are the true
    ones and `relaxed_match` takes the number. Text that is no table has none.

    After the relative mapping similarity of DePlot (arXiv:2212.10505, 3.2), with exact names.
    """
    actual, wanted = _entries(answer), _entries(truth)
    right = sum(
        key in actual and relaxed_match(actual[key], value, tolerance)
        for key, value in wanted.items()
    )
    return 2 * right / max(1, len(actual) + len(wanted))


def _entries(text: str) -> dict[tuple[str, str, int], str]:
    """The cells of a table by (label, series) in capitals and which of those alike it is."""
    rows = [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]
    entries: dict[tuple[str, str, int], str] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for row in rows[1:]:
        for at, cell in enumerate(row[1:], 1):
            name = row[0].upper(), rows[0][at].upper() if at < len(rows[0]) else f"@{at}"
            entries[*name, seen[name]] = cell
            seen[name] += 1
    return entries

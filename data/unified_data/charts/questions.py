"""Questions about charts with their exact answers, as ChartQA and its synthetic kin ask them."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from unified_data.charts.chart import Chart

__all__ = ["QUESTION_KINDS", "TABLE_QUESTION", "ChartQuestion", "question_about"]

QuestionKind = Literal["value", "largest", "smallest", "sum", "difference", "comparison"]
QUESTION_KINDS: tuple[QuestionKind, ...] = (
    "value", "largest", "smallest", "sum", "difference", "comparison"
)  # fmt: skip
TABLE_QUESTION = "Write the table."
"""What is asked for a chart as text."""


class ChartQuestion(NamedTuple):
    """A question and its answer: a number in digits, a label, or yes or no."""

    kind: QuestionKind
    text: str
    answer: str


def question_about(chart: Chart, kind: QuestionKind, rng: np.random.Generator) -> ChartQuestion:
    """A question of a kind about a chart, of one series where it has two.

    Where it has no single answer, as a largest value that two labels have, another kind is asked:
    the sum.
    """
    series = chart.series[int(rng.integers(len(chart.series)))]
    of = f" of {series}" if len(chart.series) > 1 else ""
    column = chart.column(series)
    first, second = (chart.labels[i] for i in rng.permutation(len(chart.labels))[:2])
    values = list(column.values())
    if kind in ("largest", "smallest"):
        extreme = max(values) if kind == "largest" else min(values)
        if values.count(extreme) == 1:
            label = next(label for label, value in column.items() if value == extreme)
            return ChartQuestion(kind, f"Which is the {kind}{of}?", label)
        kind = "sum"
    if kind == "value":
        return ChartQuestion(kind, f"What is {first}{of}?", str(column[first]))
    if kind == "difference":
        low, high = sorted((first, second), key=lambda label: column[label])
        away = str(column[high] - column[low])
        return ChartQuestion(kind, f"How much more is {high} than {low}{of}?", away)
    if kind == "comparison":
        more = "yes" if column[first] > column[second] else "no"
        return ChartQuestion(kind, f"Is {first} more than {second}{of}?", more)
    return ChartQuestion(kind, f"What is the sum{of}?", str(sum(values)))

"""Charts: is what a chart says read off it, as an answer and as a whole table.

Charts are of the chart world's held-out split; answers are right by ChartQA's relaxed accuracy
(arXiv:2203.10244), tables by the F1 of their values (`unified_data.charts.chart`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unified.evaluation.figures import MeasuredFigure, mean, share
from unified.evaluation.part import Bench, JudgedCase, Part, PartResult
from unified_data.charts.build import chart_of
from unified_data.charts.chart import Chart, relaxed_match, table_f1
from unified_data.charts.drawing import draw_chart
from unified_data.charts.questions import QUESTION_KINDS, TABLE_QUESTION, question_about

__all__ = ["CHARTS"]

_TABLE = "table"
_CHANCE = {"largest": 1 / 3, "smallest": 1 / 3, "comparison": 0.5}
"""Of labels there are two to four."""
_KINDS = {str(kind): kind for kind in QUESTION_KINDS}


@dataclass(frozen=True, eq=False)
class _Case:
    condition: str
    question: str
    answer: str
    pixels: np.ndarray
    chart: Chart


def _cases(bench: Bench, condition: str) -> list[_Case]:
    rng = bench.rng("charts", condition)
    cases: list[_Case] = []
    while len(cases) < bench.cases:
        chart, style = chart_of("heldout", rng)
        if condition == _TABLE:
            question, answer = TABLE_QUESTION, chart.text
        else:
            asked = question_about(chart, _KINDS[condition], rng)
            if asked.kind != condition:  # it has no such answer
                continue
            question, answer = asked.text, asked.answer
        cases.append(_Case(condition, question, answer, draw_chart(chart, style), chart))
    return cases


def _measure(bench: Bench) -> PartResult:
    cases = [case for condition in bench.conditions for case in _cases(bench, condition)]
    requests = [bench.request("ask", image=case.pixels, question=case.question) for case in cases]
    answers = bench.texts(requests)
    tables = [
        table_f1(answer, case.answer) if case.condition == _TABLE else 0.0
        for case, answer in zip(cases, answers)
    ]
    right = [
        score == 1 if case.condition == _TABLE else relaxed_match(answer, case.answer)
        for case, answer, score in zip(cases, answers, tables)
    ]
    figures: list[MeasuredFigure] = []
    for condition in bench.conditions:
        rows = [i for i, case in enumerate(cases) if case.condition == condition]
        if condition == _TABLE:
            figures.append(mean("table, F1 of its values", [tables[i] for i in rows]))
            figures.append(share("table, all of it", [right[i] for i in rows]))
        else:
            chance = _CHANCE.get(condition)
            figures.append(share(condition, [right[i] for i in rows], chance))
    samples = tuple(
        JudgedCase(case.condition, case.question, case.answer, answer, ok, case.pixels)
        for case, answer, ok in zip(cases, answers, right)
    )
    return PartResult(tuple(figures), _of_judge(cases), samples)


def _of_judge(cases: Sequence[_Case]) -> tuple[MeasuredFigure, ...]:
    """True answers judged wrong, in digits or the label alone and as a sentence."""
    wrong: list[bool] = []
    for case in cases:
        if case.condition == _TABLE:
            wrong.append(table_f1(case.answer, case.answer) != 1)
        else:
            wrong.append(not relaxed_match(case.answer, case.answer))
            told = f"It is {case.answer}." if case.answer.isdigit() else f"{case.answer}."
            wrong.append(not relaxed_match(told, case.answer))
    return (share("true answers judged wrong", wrong, better="lower"),)


CHARTS = Part(
    "charts",
    "Tables and answers read off small charts: values, extremes, sums, differences, comparisons.",
    ("ask",),
    (_TABLE, *QUESTION_KINDS),
    _measure,
)

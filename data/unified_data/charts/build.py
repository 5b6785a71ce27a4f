"""Building the chart world: charts to tables, tables to charts, and questions about them.

A kind joins by one entry of `KINDS`. Charts are held out by what they are about: kind, title and
labels together are in one split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unified_data.building import Progress, WorldPlan, build_shards
from unified_data.charts.chart import CHART_KINDS, MOST_ROWS, MOST_VALUE, Chart
from unified_data.charts.drawing import ChartStyle, draw_chart
from unified_data.charts.questions import QUESTION_KINDS, TABLE_QUESTION, question_about
from unified_data.document import Document, Image
from unified_data.world.free_scene import SPLITS, split_of_keys
from unified_data.world.tasks import ask_document, draw_document

__all__ = ["KINDS", "ChartPayload", "build_charts", "chart_of", "plot_caption", "random_chart"]

_VERSION = 1  # raise when the same seed would give other documents
_LEAST, _MOST = 2, 500  # documents of `steer` and of `heldout`, of each kind
_TITLES = ("SALES", "RAIN", "VOTES", "GOALS", "BOOKS", "TREES", "STEPS", "COSTS")
_LABELS = (
    ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG"), ("ANN", "BOB", "EVE", "IAN", "TOM"),
    ("FIG", "NUT", "OAT", "PEA", "RYE"), ("RED", "TAN", "SKY", "INK"), ("MON", "TUE", "WED", "FRI"),
)  # fmt: skip
_SERIES = ("A", "B", "C")
_QUESTIONS = 3
_STEP = 5  # of values that are to be read off


class ChartPayload(NamedTuple):
    """What a document is made from."""

    split: str
    seed: int


class ChartDocuments(NamedTuple):
    """One kind of documents. number: at scale 1. make: of a payload the document."""

    number: int
    make: Callable[[ChartPayload], Document]


def random_chart(rng: np.random.Generator) -> tuple[Chart, ChartStyle]:
    """Any chart of the world, and how it is drawn.

    Where its values are not written beside what shows them they are multiples of 5, which can be
    read off an axis exactly; a pie's are always written.
    """
    kind = CHART_KINDS[int(rng.integers(len(CHART_KINDS)))]
    names = _LABELS[int(rng.integers(len(_LABELS)))]
    number = int(rng.integers(2, min(MOST_ROWS, len(names)) + 1))
    first = int(rng.integers(len(names) - number + 1))
    labels = names[first : first + number]
    num_series = 2 if kind != "pie" and rng.random() < 0.3 else 1
    series = _SERIES[:num_series] if num_series > 1 else (_SERIES[int(rng.integers(3))],)
    written = kind in ("pie", "table") or (num_series == 1 and bool(rng.random() < 0.5))
    step = 1 if written else _STEP
    values = rng.integers(1, MOST_VALUE // step + 1, (number, num_series)) * step
    chart = Chart(
        kind, _TITLES[int(rng.integers(len(_TITLES)))], series, labels,
        tuple(tuple(map(int, row)) for row in values),
    )  # fmt: skip
    return chart, ChartStyle(int(rng.integers(6)), written, bool(rng.random() < 0.7))


def chart_of(split: str, rng: np.random.Generator) -> tuple[Chart, ChartStyle]:
    """A chart whose kind, title and labels are in a split."""
    while True:
        chart, style = random_chart(rng)
        key = "|".join(("chart", chart.kind, chart.title, *chart.labels))
        if split_of_keys((key,)) == split:
            return chart, style


def _read(payload: ChartPayload) -> Document:
    """A chart and its table as text."""
    chart, style = chart_of(payload.split, np.random.default_rng(payload.seed))
    return ask_document(Image(draw_chart(chart, style)), [(TABLE_QUESTION, chart.text)])


def plot_caption(chart: Chart) -> str:
    """What asks for a chart: its kind, then its table."""
    return f"{chart.kind}\n{chart.text}"


def _plot(payload: ChartPayload) -> Document:
    """A kind and a table, and the chart in the one style that draws everything: values written
    where there is room, a grid, the first colours."""
    chart, _ = chart_of(payload.split, np.random.default_rng(payload.seed))
    return draw_document(plot_caption(chart), Image(draw_chart(chart, ChartStyle(written=True))))


def _ask(payload: ChartPayload) -> Document:
    """A chart and one to three questions about it."""
    rng = np.random.default_rng(payload.seed)
    chart, style = chart_of(payload.split, rng)
    order = rng.permutation(len(QUESTION_KINDS))[: int(rng.integers(1, _QUESTIONS + 1))]
    asked = [question_about(chart, QUESTION_KINDS[i], rng) for i in order]
    turns = list(dict.fromkeys((each.text, each.answer) for each in asked))
    return ask_document(Image(draw_chart(chart, style)), turns)


KINDS: dict[str, ChartDocuments] = {
    "chart_read": ChartDocuments(8_000, _read),
    "chart_plot": ChartDocuments(6_000, _plot),
    "chart_ask": ChartDocuments(12_000, _ask),
}
"""Every kind of document, by name."""


def _plan(kind: str, split: str, seed: int, scale: float) -> Sequence[ChartPayload]:
    """As `world.build.plan_kind`: `steer` and `heldout` are a twentieth each, 2 to 500."""
    number = round(KINDS[kind].number * scale)
    rng = np.random.default_rng([seed, *kind.encode(), SPLITS.index(split)])
    aside = min(_MOST, max(_LEAST, round(number / 20)))
    wanted = max(1, number - 2 * aside) if split == "train" else aside
    return [ChartPayload(split, int(rng.integers(2**63))) for _ in range(wanted)]


def _make(kind: str, payload: ChartPayload) -> Document:
    return KINDS[kind].make(payload)


def build_charts(
    out_dir: str | Path,
    seed: int = 0,
    scale: float = 1.0,
    only: Sequence[str] | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the chart world's shards and their index.json into out_dir; returns the index.

    Arguments and errors are those of `building.build_shards`; kinds are those of `KINDS`.
    """
    world = WorldPlan("charts", tuple(KINDS), SPLITS, _plan, _make)
    return build_shards(world, out_dir, seed, scale, only, workers, progress, {"charts": _VERSION})

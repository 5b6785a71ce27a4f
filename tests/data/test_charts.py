"""The chart world: charts against their pixels, tables as text, questions, and exact scorers."""

import numpy as np
import pytest

from unified_data.charts.build import KINDS, ChartPayload, build_charts, chart_of, random_chart
from unified_data.charts.chart import (
    CHART_KINDS,
    Chart,
    chart_from_text,
    relaxed_match,
    table_f1,
)
from unified_data.charts.drawing import ChartStyle, bar_boxes, draw_chart
from unified_data.charts.questions import QUESTION_KINDS, TABLE_QUESTION, question_about
from unified_data.document import Image
from unified_data.shards import read_shards

CHART = Chart("bar", "RAIN", ("A", "B"), ("JAN", "FEB", "MAR"), ((10, 45), (90, 5), (30, 60)))
TEXT = "RAIN | A | B\nJAN | 10 | 45\nFEB | 90 | 5\nMAR | 30 | 60"


def test_a_table_is_text_and_back():
    assert CHART.text == TEXT
    assert chart_from_text(TEXT, "bar") == CHART
    rng = np.random.default_rng(0)
    kinds = set()
    for _ in range(60):
        chart, style = random_chart(rng)
        kinds.add(chart.kind)
        assert chart_from_text(chart.text, chart.kind) == chart
        if not style.written:
            assert all(value % 5 == 0 for row in chart.values for value in row)
    assert kinds == set(CHART_KINDS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RAIN | A\nJAN | 10 | 4", "rows of unequal length"),
        ("RAIN | A\nJAN | \nFEB | 3", "empty cells"),
        ("RAIN | A\nJAN | x\nFEB | 3", "no whole number"),
        ("RAIN | A\nJAN | 3\nJAN | 3", "holds a name twice"),
        ("RAIN | A\nJAN | 3", "1 labels and 1 rows, expected 2 to 4"),
        ("RAIN | A\nJAN | 3\nFEB | 91", "expected 1 whole numbers, 1 to 90"),
    ],
)
def test_what_is_no_table_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        chart_from_text(text)


@pytest.mark.parametrize("side", [96, 192])
def test_bars_are_as_high_as_their_values(side):
    """Read off the pixels: 68 of 96 are 90."""
    pixels = draw_chart(CHART, ChartStyle(grid=False), side)
    unit = side // 96
    for row, boxes in zip(CHART.values, bar_boxes(CHART)):
        for value, (x0, _, x1, y1) in zip(row, boxes):
            column = pixels[: round(y1 * unit), round((x0 + x1) / 2 * unit)]
            colour = pixels[round(y1 * unit) - 1, round((x0 + x1) / 2 * unit)]
            assert not (colour == 255).all()
            high = int((column == colour).all(-1).sum())
            assert abs(high / unit * 90 / 68 - value) <= 0.5 / unit * 90 / 68 + 1e-6


def test_slices_of_a_pie_are_shares():
    chart = Chart("pie", "VOTES", ("A",), ("ANN", "BOB", "EVE"), ((30,), (15,), (15,)))
    pixels = draw_chart(chart, side=480)[:, :300]
    # The legend of small squares lies right of the pie.
    areas = [
        (pixels == pixels[y, x]).all(-1).sum() for y, x in ((270, 200), (330, 100), (210, 100))
    ]
    assert np.allclose(np.divide(areas, sum(areas)), [0.5, 0.25, 0.25], atol=0.01)


def test_all_charts_show_what_they_hold_and_nothing_is_cut_off():
    rng = np.random.default_rng(1)
    for _ in range(20):
        chart, style = random_chart(rng)
        pixels = draw_chart(chart, style)
        assert pixels.shape == (96, 96, 3)
        assert np.array_equal(pixels, draw_chart(chart, style))
        assert (pixels[-1] == 255).all()
    with pytest.raises(ValueError, match="side is 100, expected a multiple of 96"):
        draw_chart(CHART, side=100)


def test_questions_have_the_answers_of_the_table():
    rng = np.random.default_rng(2)
    asked = {}
    for _ in range(40):
        for kind in QUESTION_KINDS:
            question = question_about(CHART, kind, rng)
            assert question.kind == kind
            asked[question.text] = question.answer
    for text, answer in {
        "Which is the largest of A?": "FEB", "Which is the smallest of B?": "FEB",
        "What is the sum of B?": "110", "What is MAR of A?": "30",
        "How much more is FEB than MAR of A?": "60", "Is JAN more than FEB of B?": "yes",
        "Is JAN more than FEB of A?": "no",
    }.items():  # fmt: skip
        assert asked[text] == answer
    level = Chart("bar", "RAIN", ("A",), ("JAN", "FEB"), ((7,), (7,)))
    assert question_about(level, "largest", rng).text == "What is the sum?"


@pytest.mark.parametrize(
    ("answer", "truth", "right"),
    [
        ("100", "100", True), ("105", "100", True), ("95", "100", True), ("106", "100", False),
        ("94.9", "100", False), ("0", "0", True), ("1", "0", False), ("1,050", "1000", True),
        ("12%", "12", True), ("The sum is 52.", "50", True), ("5 or 50", "50", False),
        ("none", "50", False), ("jan.", "JAN", True), ("FEB", "JAN", False), ("Yes", "yes", True),
        ("nan", "5", False), ("-5", "5", False),
    ],
)  # fmt: skip
def test_relaxed_accuracy(answer, truth, right):
    assert relaxed_match(answer, truth) is right


def test_f1_of_tables():
    assert table_f1(TEXT, TEXT) == 1
    assert table_f1(TEXT.lower(), TEXT) == 1
    assert table_f1(TEXT.replace("90", "94"), TEXT) == 1
    assert table_f1(TEXT.replace("90", "60"), TEXT) == pytest.approx(5 / 6)
    assert table_f1("\n".join(TEXT.splitlines()[:3]), TEXT) == pytest.approx(2 * 4 / (4 + 6))
    assert table_f1(TEXT + "\nMAR | 30 | 60", TEXT) == pytest.approx(2 * 6 / (8 + 6))
    assert table_f1("a dog", TEXT) == 0
    assert table_f1("", TEXT) == 0


def test_it_builds_the_same_from_the_same_seed_and_splits_by_what_charts_are_about(tmp_path):
    index = build_charts(tmp_path / "a", seed=5, scale=0.001, workers=1)
    build_charts(tmp_path / "b", seed=5, scale=0.001, workers=1)
    files = [{p.name: p.read_bytes() for p in (tmp_path / f).iterdir()} for f in "ab"]
    assert files[0] == files[1]
    assert index["world"] == "charts"
    read = dict(read_shards(tmp_path / "a", "train", ["chart_read"]))
    for document in read.values():
        picture, question, answer = document
        assert isinstance(picture, Image)
        assert question.text == TABLE_QUESTION
        chart_from_text(answer.text)
    keys = {
        split: {(c.kind, c.title, c.labels) for c, _ in (chart_of(split, rng) for _ in range(40))}
        for split, rng in ((s, np.random.default_rng(1)) for s in ("train", "heldout"))
    }
    assert not keys["train"] & keys["heldout"]
    plot = KINDS["chart_plot"].make(ChartPayload("train", 1))
    kind, _, table = plot.segments[0].text.removeprefix("![").removesuffix("]").partition("\n")
    drawn = draw_chart(chart_from_text(table, kind), ChartStyle(written=True))
    assert np.array_equal(plot.segments[1].pixels, drawn)

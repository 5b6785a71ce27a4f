"""The matrix of a report: what is measured, what cannot be, and how full each cell is."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from unified.evaluation.any_to_any import COLUMNS, ROWS, matrix, plot
from unified.evaluation.figures import MeasuredFigure, rate, share
from unified.evaluation.report import PartReport, Report
from unified.evaluation.report_page import render_report
from unified.evaluation.suite import PARTS


def report(**parts):
    figures = {
        name: PartReport("About.", 4, tuple(each) if not isinstance(each, str) else (), (), (),
                         each if isinstance(each, str) else None)
        for name, each in parts.items()
    }  # fmt: skip
    return Report("m", "0" * 64, "quick", 0, 1.0, {}, "a machine", figures)


def cell(measured, source, comes):
    return matrix(measured)[ROWS.index(source)][COLUMNS.index(comes)]


def test_a_cell_is_as_full_as_its_figures_are_good():
    measured = report(
        drawing=[share("one", [True] * 4), share("two", [False] * 4), share("other", [False])],
        listening=[rate("facts, word error rate", [3, 3], [10, 10])],
        crossing="the model has no task for edit",
    )
    drawn = cell(measured, "text", "picture")
    assert (drawn.state, drawn.goodness, drawn.level) == ("measured", 0.5, 5)
    assert drawn.lines == (("one", "100.0%"), ("two", "0.0%"))
    assert round(cell(measured, "sound", "text").goodness, 3) == 0.7
    assert cell(measured, "picture and text", "picture").state == "cannot"
    assert cell(measured, "text", "text").state == "none"
    assert cell(measured, "text", "sound").state == "none"  # not in this suite


def test_error_rates_beyond_one_leave_an_empty_cell():
    figure = MeasuredFigure("connected, word error rate", 1.4, 1.2, 1.6, 5, better="lower")
    assert cell(report(listening=[figure]), "sound", "text").level == 0


def test_every_figure_of_the_matrix_is_one_that_its_part_has():
    from unified.evaluation.any_to_any import _CELLS

    for part, figures in _CELLS.values():
        for name in figures:
            assert any(name.startswith(each) for each in PARTS[part].conditions), name


def test_the_page_holds_the_plot_as_svg():
    measured = report(drawing=[share("one", [True, False])], crossing="no task <for> it")
    page = render_report(measured, {})
    start, stop = page.index("<svg"), page.index("</svg>") + 6
    svg = ElementTree.fromstring(page[start:stop])
    texts = [node.text for node in svg.iter() if node.tag == "text"]
    assert {*ROWS, *COLUMNS, "50.0%", "cannot"} <= set(texts)
    laid = plot(measured)
    for node in svg.iter("rect"):
        assert float(node.get("x")) + float(node.get("width")) <= laid["width"]
        assert float(node.get("y")) + float(node.get("height")) <= laid["height"]

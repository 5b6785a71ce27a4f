"""`unified evaluate`: suites, figures, reports, and every part on a model that knows nothing."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from small_model import DECODER, TEXT

from unified.evaluation.figures import MeasuredFigure, difference, mean, share, wilson
from unified.evaluation.part import REFUSED, Bench
from unified.evaluation.report import compare, read_report
from unified.evaluation.suite import PARTS, open_suite, shipped_suites
from unified.models.model import UnifiedModel
from unified_base.images import load_image

PLAIN = "parts:\n  seeing: {cases: 2, conditions: [plain, together]}\n"
REST = """
parts:
  drawing: {cases: 1, conditions: [one, count, position, diversity]}
  asking: {cases: 1, conditions: [adversarial, count]}
  consistency: {cases: 1, conditions: [one]}
  unknown: {cases: 1, conditions: [noise, "write, made-up names", wishes]}
  listening: {cases: 1, conditions: [splice, nothing]}
  speaking: {cases: 1, conditions: [captions]}
  crossing: {cases: 1}
  articles: {cases: 1, conditions: [plain, Chinese]}
"""


@pytest.fixture
def suite(tmp_path):
    """Write a suite: its file."""

    def write(text=PLAIN):
        path = tmp_path / "suite.yaml"
        path.write_text(text)
        return path

    return write


# Figures.


def test_wilsons_interval_is_that_of_the_textbook():
    # Newcombe (1998), table I, method 3.
    for right, cases, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605),
                                    (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)):  # fmt: skip
        assert wilson(right, cases) == pytest.approx((low, high), abs=1e-4)
    assert wilson(7, 7)[1] == 1


def test_a_difference_has_newcombes_interval():
    # Newcombe (1998), differences, table II, method 10.
    first, second = share("a", [True] * 56 + [False] * 14), share("a", [True] * 48 + [False] * 32)
    gain = difference(first, second)
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)
    assert gain.sure
    assert not difference(first, first).sure


def test_a_mean_has_a_bootstrapped_interval_that_covers_it():
    values = np.random.default_rng(1).normal(0.3, 0.1, 400)
    figure = mean("m", values.tolist())
    assert figure.low < figure.value < figure.high
    # The normal approximation of the same interval.
    assert figure.high - figure.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert mean("m", values.tolist()) == figure


# The command.


def test_a_report_as_table_json_and_page(unified, cli_model, suite, tmp_path):
    page = tmp_path / "report.html"
    code, out, err = unified(
        "evaluate", cli_model, "--suite", suite(), "-o", page, "--json", on=None
    )
    assert code == 0, err
    report = json.loads(out)
    assert report["seed"] == 0
    assert {"unified", "torch", "numpy", "pillow", "python", "espeak-ng", "flite", "pocketsphinx",
            "scikit-image"} == set(report["versions"])  # fmt: skip
    (part,) = report["parts"].values()
    assert [(f["name"], f["cases"]) for f in part["figures"]] == [("plain", 2), ("together", 2)]
    assert all(f["low"] <= f["value"] <= f["high"] for f in part["figures"] + part["judge"])
    assert part["judge"][0]["value"] == 0
    assert part["failures"][0]["expected"]
    text = page.read_text()
    assert text.count("<img ") == 4
    assert "failures first" in text
    # Again: the same but for the time, and compared with the first.
    first = tmp_path / "first.json"
    first.write_text(out)
    line = ("evaluate", cli_model, "--suite", suite(), "--against", first)
    code, out, err = unified(*line, "--json", on=None)
    assert code == 0, err
    again = json.loads(out)
    told = again.pop("against")
    assert {**again, "seconds": 0} == {**report, "seconds": 0}
    assert [each["verdict"] for each in told["seeing"]] == ["no sure difference"] * 2
    first.write_text(out)  # a report with its comparison is read as well
    code, out, err = unified(*line, on=None)
    assert code == 0, err
    assert "judge: true names judged wrong" in out
    assert "no sure difference" in out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parts: {singing: {cases: 2}}", "there is no part 'singing', expected one of seeing"),
        ("parts: {seeing: {cases: 0}}", "parts.seeing.cases is 0"),
        ("parts: {seeing: {cases: 2, conditions: [upside]}}", "no condition 'upside'"),
        ("parts: {seeing: {cases: 2, conditions: [plain, plain]}}", "names a condition twice"),
        ("parts: {}", "it has no parts"),
        ("parts: {seeing: {number: 2}}", "number"),
    ],
)
def test_a_suite_that_is_none_is_refused_in_one_line(
    unified, cli_model, suite, refused, text, message
):
    refused(unified("evaluate", cli_model, "--suite", suite(text), on=None), message)


def test_an_unknown_suite_and_a_report_that_is_none_are_refused(
    unified, cli_model, suite, refused, tmp_path
):
    outcome = unified("evaluate", cli_model, "--suite", "long", on=None)
    refused(outcome, "there is no suite 'long', expected pocket, quick or a FILE.yaml")
    other = tmp_path / "other.json"
    other.write_text('{"model": 3}')
    outcome = unified("evaluate", cli_model, "--suite", suite(), "--against", other, on=None)
    refused(outcome, str(other))
    outcome = unified("evaluate", cli_model, "--suite", suite(), "-o", "report.pdf", on=None)
    refused(outcome, "report.pdf")


def test_what_a_model_cannot_do_is_reported_with_its_reason(unified, suite, tmp_path):
    UnifiedModel.create(DECODER, text_tokenizer=TEXT).save_pretrained(tmp_path / "text")
    code, out, err = unified("evaluate", tmp_path / "text", "--suite", suite(), "--json", on=None)
    assert code == 0, err
    part = json.loads(out)["parts"]["seeing"]
    assert part["figures"] == []
    assert part["cannot"].startswith("describe: ")


def test_shipped_suites_name_every_part_that_needs_nothing_on_disk():
    assert shipped_suites() == ["pocket", "quick"]
    for name in shipped_suites():
        assert list(open_suite(name).parts) == [n for n, part in PARTS.items() if not part.paths]


def test_compared_reports_say_what_is_better_and_what_was_not_measured(
    unified, cli_model, suite, tmp_path
):
    code, out, _ = unified("evaluate", cli_model, "--suite", suite(), "--json", on=None)
    assert code == 0
    (tmp_path / "r.json").write_text(out)
    report = read_report(tmp_path / "r.json")
    part = report.parts["seeing"]

    def with_figures(*figures):
        return replace(report, parts={"seeing": replace(part, figures=figures)})

    high, low = (share("plain", [True] * n + [False] * (50 - n)) for n in (45, 5))
    rate = MeasuredFigure("rate", 0.1, 0.05, 0.15, 50, better="lower")
    worse = replace(rate, value=0.9, low=0.8, high=1.0)
    now, before = with_figures(high, worse), with_figures(low, rate, replace(low, name="old"))
    verdicts = {(each.now or each.before).name: each.verdict
                for each in compare(now, before)["seeing"]}  # fmt: skip
    assert verdicts == {"plain": "better", "rate": "worse", "old": "not measured now"}


def test_every_part_measures_a_model_that_knows_nothing(unified, cli_model, suite, tmp_path):
    page = tmp_path / "report.html"
    measured = open_suite(str(suite(REST)))
    line = ("evaluate", cli_model, "--suite", suite(REST), "-o", page, "--json")
    code, out, err = unified(*line, on=None)
    assert code == 0, err
    for name, part in json.loads(out)["parts"].items():
        if part["cannot"] is not None:
            # Not on every machine; and what is spoken is too long for this model.
            assert re.search("espeak-ng|ids stand before|no task for", part["cannot"])
            continue
        assert part["judge"]
        names = [figure["name"] for figure in part["figures"]]
        assert len(set(names)) == len(names)
        # Whatever it answers, in every condition something was counted.
        asked = measured.parts[name].conditions or PARTS[name].conditions
        told = {*part["missing"], *names}
        assert all(any(text.startswith(each) for text in told) for each in asked)
        assert all(f["low"] <= f["value"] <= f["high"] for f in part["figures"])
    assert "wrong; " in page.read_text()


def test_what_is_refused_is_wrong_with_its_reason_and_the_rest_is_asked(cli_model, picture):
    bench = Bench(UnifiedModel.from_pretrained(cli_model), 1, (), seed=0)
    pixels = load_image(picture)
    requests = [
        bench.request("ask", image=pixels, question=question)
        for question in ("Is there a cat?", "", "Is there " + "a big cat, " * 200 + "?")
    ]
    assert isinstance(requests[1], str)
    answers = bench.texts(requests)
    assert [answer.startswith(REFUSED) for answer in answers] == [False, True, True]
    assert "260" in answers[2]
    assert answers[0] == bench.texts(requests[:1])[0]

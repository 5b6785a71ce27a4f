"""Hints for libraries of extras that are not installed."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

from unified_base.extras import missing_extra
from unified_base.training.metric_logger import MetricLogger

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
FOLDERS = ("unified", "tokenizers", "data", "base")


def _calls():
    """(purpose, package, extra) of every call: None for what is no literal."""
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "missing_extra":
                    yield [getattr(argument, "value", None) for argument in node.args]


def test_a_hint_works_with_and_without_a_checkout():
    assert str(missing_extra("a plot", "matplotlib", "measure")) == (
        "a plot needs matplotlib, which is not installed:"
        " pip install 'unified-tokens[measure]', or '.[measure]' in a checkout"
    )
    assert PROJECT["name"] == "unified-tokens"


def test_every_hint_names_an_extra_that_has_the_package():
    extras = PROJECT["optional-dependencies"]
    calls = list(_calls())
    assert {extra for *_, extra in calls} == {"export", "measure", "parquet", "quantized",
                                            "ray", "search", "serve", "video", "wandb"}  # fmt: skip
    for _, package, extra in calls:
        names = {re.match(r"[\w-]+", line)[0] for line in extras[extra]}
        assert package in names or not isinstance(package, str), f"{package}: {extra}"


def test_no_hint_is_written_by_hand():
    pattern = re.compile(r"pip install[^\n]*\[")
    texts = {
        path.name: path.read_text("utf-8")
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "extras.py"
    }
    assert [name for name, text in texts.items() if pattern.search(text)] == []


def test_weights_and_biases_that_are_not_there_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"'cats' needs wandb, .* 'unified-tokens\[wandb\]'"):
        MetricLogger(tmp_path, "", 0, 1, True, wandb_project="cats")

"""Names that say nothing are bound nowhere, and no source file is longer than one can hold.

A variable says what it holds.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("unified", "tokenizers", "data", "base", "benchmarks", "tests", "docs")
NAMES = {"found", "made", "taken", "given", "one", "place", "kept", "shown", "said", "how"}
MOST_LINES = 400

_NAMED = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler, ast.MatchAs,
    ast.MatchStar,
)  # fmt: skip


def _sources() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def _bound(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(name, line) of everything that a module binds: variables, arguments, attributes, handlers,
    captures of patterns, imports, functions and classes."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield (node.id if isinstance(node, ast.Name) else node.attr), line
        elif isinstance(node, ast.arg):
            yield node.arg, line
        elif isinstance(node, _NAMED) and node.name:
            yield node.name, line
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname, line


@pytest.mark.parametrize(
    "text",
    ["found = 1", "for one in x: pass", "def f(how): pass", "self.kept = 1", "def shown(): pass",
     "[said for said in x]", "(place := 2)", "import numpy as made", "with x as (a, taken): pass",
     "match x:\n  case [given]: pass", "try: pass\nexcept E as found: pass", "one: int = 1",
     "lambda how: 1", "async def found(): pass"],
)  # fmt: skip
def test_a_binding_is_seen_whatever_binds_it(text):
    assert any(name in NAMES for name, _ in _bound(ast.parse(text)))


def test_no_name_is_bound_that_says_nothing():
    bad = [
        f"{path.relative_to(ROOT).as_posix()}:{line} {name}"
        for path in _sources()
        for name, line in _bound(ast.parse(path.read_text("utf-8")))
        if name in NAMES
    ]
    assert not bad, "say what the variable holds"


def test_no_source_file_is_longer_than_one_can_hold():
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines())
        for path in _sources()
    }
    longer = {name: number for name, number in lengths.items() if number > MOST_LINES}
    assert not longer, "split it"

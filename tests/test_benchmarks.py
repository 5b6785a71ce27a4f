"""Every benchmark answers --help at once, and needs only what an installation that it names has."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if not path.name.startswith("_"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
INSTALLED_AS = {
    "PIL": "pillow",
    "yaml": "pyyaml",
    "fontTools": "fonttools",
    "xdist": "pytest-xdist",
    "markdown_it": "markdown-it-py",
    "llama_cpp": "llama-cpp-python",
}
OURS = {"unified", "unified_base", "unified_data", "unified_tokenizers"}
# Of an extra; `_path.needs` says so before anything else.
CHECKED = {
    "pocket.py": ({"jiwer"}, "measure"),
    "tokenizers.py": ({"pesq"}, "measure"),
    "serving.py": ({"fastapi", "uvicorn", "python_multipart"}, "serve"),
    "peers.py": ({"llama_cpp", "ctranslate2", "gguf"}, "bench"),
}


def _names(requirements):
    return {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in requirements}


def _imports(path):
    """Top-level names of all modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_answers_before_anything_heavy_is_loaded(script):
    """With -X importtime, which lists what was imported on stderr."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", FOLDER / script, "--help"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("usage:")
    assert "--quick" in done.stdout
    loaded = set(re.findall(r"\|\s+(\w+)$", done.stderr, re.M))
    assert "argparse" in loaded
    assert not loaded & {"torch", "transformers", "numba", "diffusers", "unified_tokenizers"}


@pytest.mark.parametrize("path", [*FOLDER.glob("*.py"), *(ROOT / "docs").glob("*.py")], ids=str)
def test_what_a_script_imports_is_in_the_dev_installation(path):
    """But for what engines of others need, which `benchmarks/peers.py` asks for beforehand."""
    extras = PROJECT["optional-dependencies"]
    declared = _names(PROJECT["dependencies"]) | _names(extras["dev"]) | _names(extras["bench"])
    beside = {other.stem for other in path.parent.glob("*.py")}
    for name in set(_imports(path)) - OURS - set(sys.stdlib_module_names) - beside:
        assert INSTALLED_AS.get(name, name).lower().replace("_", "-") in declared, name


def test_what_the_tests_import_is_in_the_dev_installation():
    extras = PROJECT["optional-dependencies"]
    declared = _names(PROJECT["dependencies"]) | _names(extras["dev"])
    local = {path.stem for path in (ROOT / "tests").rglob("*.py")} | {"conftest", "tests"}
    for path in (ROOT / "tests").rglob("*.py"):
        for name in set(_imports(path)) - OURS - set(sys.stdlib_module_names) - local:
            package = INSTALLED_AS.get(name, name).lower().replace("_", "-")
            # lmms-eval pins other versions of what we use: what needs it is skipped without it.
            known = package in declared or package == "lmms-eval"
            assert known or (FOLDER / f"{name}.py").exists(), f"{path}: {name}"


@pytest.mark.parametrize(("script", "packages", "extra"), [(s, *x) for s, x in CHECKED.items()])
def test_a_missing_extra_is_named_before_anything_is_computed(script, packages, extra, tmp_path):
    path = [str(tmp_path), *(str(ROOT / name) for name in ("", "tokenizers", "data", "base"))]
    hidden = (
        "import importlib.machinery as m\nfind = m.PathFinder.find_spec\n"
        "def find_spec(name, *rest, **named):\n"
        f"    return None if name in {packages!r} else find(name, *rest, **named)\n"
        "m.PathFinder.find_spec = find_spec\n"
    )
    (tmp_path / "sitecustomize.py").write_text(hidden)
    done = subprocess.run(
        [sys.executable, FOLDER / script, "--quick"], check=False, capture_output=True, text=True,
        env={"PYTHONPATH": ":".join(path), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert all(package in line for package in packages)
    assert f'pip install -c constraints.txt -e ".[dev,{extra}]"' in line

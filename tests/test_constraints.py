"""The files of pins: they cover and satisfy pyproject.toml, and are what is installed here.

UNIFIED_CONSTRAINTS names the file that this installation was made with; `make test`, `make
test-oldest` and `make test-newest` set it. Empty: the newest of everything, which is in the ranges.
"""

from __future__ import annotations

import os
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
FILES = ["constraints.txt", "constraints-oldest.txt"]
USED = os.environ.get("UNIFIED_CONSTRAINTS", "constraints.txt")


def _pins(name):
    lines = (ROOT / name).read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return {package: Version(version) for package, version in pins.items()}


def _direct():
    """Every requirement of pyproject.toml, extras included."""
    lines = [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
    return [Requirement(line) for line in lines]


def _installed():
    """{package: version} of all that the project with its extra `dev` needs here, direct or not."""
    seen = {}
    _add_installed([*PROJECT["dependencies"], *EXTRAS["dev"]], ("",), seen)
    return seen


def _add_installed(requirements, extras, seen):
    for line in requirements:
        need = Requirement(line)
        package = canonicalize_name(need.name)
        if need.marker and not any(need.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        if package not in seen:
            seen[package] = Version(metadata.version(package))
            _add_installed(metadata.requires(package) or (), ("", *need.extras), seen)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_pins_covers_the_ranges_and_names_no_host(name):
    text = (ROOT / name).read_text("utf-8")
    assert re.fullmatch(r"# .*\n([a-z0-9-]+==[0-9][0-9a-z.]*\n)+", text), "pins and nothing else"
    pins = _pins(name)
    for need in _direct():
        assert need.specifier.contains(pins[canonicalize_name(need.name)]), f"{need}: {name}"


def test_every_range_has_two_ends_and_the_oldest_file_has_the_lower():
    pins = _pins("constraints-oldest.txt")
    newest = _pins("constraints.txt")
    for need in _direct():
        package = canonicalize_name(need.name)
        ends = {part.operator: Version(part.version) for part in need.specifier}
        assert set(ends) == {">=", "<"}, f"{need} has no two ends"
        assert ends[">="].release[:2] == pins[package].release[: len(ends[">="].release)][:2], need
        assert newest[package] < ends["<"]


def test_what_is_installed_is_what_was_tested():
    """Of a local build (torch of one CUDA, or of none) the public version counts."""
    mend = {
        "constraints.txt": "pip install -c constraints.txt -e '.[dev]', or, to move to what is"
        " installed: make constraints, make test-newest, and commit constraints.txt",
        "constraints-oldest.txt": "rm -r .venv-oldest and make test-oldest",
        "": "rm -r .venv-newest and make test-newest",
    }[USED]
    installed = _installed()
    assert {"torch", "torchaudio", "transformers", "numpy", "pytest", "markupsafe"} <= set(
        installed
    )
    wrong = []
    if USED:
        pins = _pins(USED)
        wrong = [
            f"{package} {version} is installed, {USED} has {pins.get(package, 'none')}"
            for package, version in installed.items()
            if package not in pins or Version(version.public) != pins[package]
        ]
    for need in _direct():
        version = installed.get(canonicalize_name(need.name))
        if version is not None and not need.specifier.contains(version.public):
            wrong.append(f"{need.name} {version} is installed, pyproject.toml has {need.specifier}")
    assert not wrong, f"{'; '.join(wrong)}. What to do: {mend}"

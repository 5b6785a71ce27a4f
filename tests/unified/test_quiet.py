"""Libraries do not speak to the user: no warning, no logger, no bar of theirs on a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from unified_base.quiet import our_warnings_alone

ROOT = Path(__file__).parents[2]
OURS = "def warn(text, category=UserWarning):\n    warnings.warn(text, category, stacklevel=2)\n"


def _module(name):
    """A function that warns, in a module of that name, whatever line its warning points at."""
    scope = {"__name__": name, "warnings": warnings}
    exec(compile(OURS, f"{name}.py", "exec"), scope)
    return scope["warn"]


def test_what_we_warn_of_is_told_and_what_libraries_warn_of_is_not():
    told = []
    with our_warnings_alone(told.append):
        ours, theirs = _module("unified.models.model"), _module("somebody.deprecations")
        ours("the sound was resampled")
        ours("the sound was resampled")
        theirs("a name will change")
        theirs("a name will change", FutureWarning)
        ours("casting (Triggered internally at x.cpp:3)")  # C++ points at whoever called it
        ours("an API of a library", FutureWarning)
    assert told == ["the sound was resampled"] * 2


def test_warnings_are_as_before_afterwards():
    with our_warnings_alone(print):
        pass
    with pytest.warns(FutureWarning, match="a name will change"):
        _module("somebody.deprecations")("a name will change", FutureWarning)


# What libraries do while a command runs: it is put before the command's own code.
NOISE = """
import logging, sys, warnings
from unified.__main__ import main
def noisy():
    warnings.warn("a name will change", FutureWarning)
    warnings.warn("no kernel for this processor")
    logging.getLogger("transformers").warning("unexpected weights")
    logging.getLogger("a.library.without.handlers").warning("hello")
import unified.pocket.known_subjects as subjects
load = subjects.KnownSubjects.load
def with_noise(*words):
    noisy()
    return load(*words)
subjects.KnownSubjects.load = with_noise
sys.argv = ["unified", *sys.argv[1:]]
main()
"""
# The same before several commands, of which the last one ends the process.
VERBS = (
    NOISE.rpartition("sys.argv =")[0]
    + """
from unified.__main__ import run
*before, last = {lines!r}
for words in before:
    if code := run(words):
        sys.exit(code)
sys.argv = ["unified", *last]
main()
"""
)


def _unified(*words):
    return _process(NOISE, *map(str, words))


def _process(program, *words):
    path = os.pathsep.join(str(ROOT / name) for name in ("", "tokenizers", "data", "base"))
    env = {k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"}
    return subprocess.run(
        [sys.executable, "-c", program, *words], check=False, capture_output=True, text=True,
        env={**env, "PYTHONPATH": path},
    )  # fmt: skip


def test_a_command_says_only_its_own(cli_model):
    done = _unified("subjects", "--model", cli_model)
    assert done.returncode == 0
    assert done.stderr == ""


def test_debug_shows_what_libraries_say(cli_model):
    done = _unified("subjects", "--model", cli_model, "--debug")
    assert "a name will change" in done.stderr
    assert "hello" in done.stderr


def test_the_verbs_say_only_their_own(cli_model, tmp_path):
    """On the true libraries, one after another in one process: every line of stderr is ours."""
    drawn, spoken = tmp_path / "x.png", tmp_path / "x.wav"
    lines = [
        ["write", "The cat", "-o", tmp_path / "x.html"],
        ["draw", "a cat", "-o", drawn],
        ["describe", drawn],
        ["speak", "A cat.", "-o", spoken],
        ["listen", spoken],
        ["draw", "a cat", "-o", drawn, "--decoder", "diffusion"],
    ]
    words = [[*map(str, line), "--model", str(cli_model)] for line in lines]
    done = _process(VERBS.format(lines=words))
    assert done.returncode == 0, done.stderr
    for sign in ("Warning", "warning", "it/s]", "deprecated", "a name will change"):
        assert sign not in done.stderr

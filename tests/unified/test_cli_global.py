"""What holds for every command: --version, --quiet, completion, and `-` for a prompt on stdin."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import unified as library
from unified.__main__ import run
from unified.cli.terminal import prompt_from
from unified_base import terminal
from unified_base.arguments import MAX_PROMPT

ROOT = Path(__file__).parents[2]


class _Stdin:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


def test_the_version_is_one_number_wherever_it_is_asked_for(capsys):
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]
    (number,) = re.findall(
        r'^__version__ = "([0-9.]+)"$', (ROOT / hatch["version"]["path"]).read_text("utf-8"), re.M
    )
    assert library.__version__ == number
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"unified {number}\n"


def test_dir_lists_the_public_names_and_each_of_them_loads():
    assert set(library.__all__) <= set(dir(library))
    public = [name for name in dir(library) if not name.startswith("__")]
    assert sorted(public) == sorted(set(library.__all__) - {"__version__"})
    for name in public:
        assert getattr(library, name).__module__.split(".")[0] == "unified"
    with pytest.raises(AttributeError, match="no attribute 'Unified'"):
        _ = library.Unified


@pytest.mark.parametrize(
    "package", ["unified", "unified_tokenizers", "unified_data", "unified_base"]
)
def test_a_package_says_that_it_is_typed(package):
    folder = import_module(package).__path__[0]
    assert (Path(folder) / "py.typed").is_file()


def test_quiet_keeps_notes_and_progress_off_and_results_stay(unified, tmp_path):
    code, out, err = unified("draw", "a red apple", "-n", "2", "-o", tmp_path / "a.png")
    assert code == 0
    assert "note: 2 pictures" in err
    assert "[picture" in err
    loud = out
    code, out, err = unified("draw", "a red apple", "-n", "2", "-o", tmp_path / "a.png", "--quiet")
    assert (code, out, err) == (0, loud, "")
    assert not terminal.is_quiet()


def test_quiet_lets_errors_through(unified, refused, tmp_path):
    refused(unified("--quiet", "draw", " ", "-o", tmp_path / "a.png"), "text is empty")
    code, _, err = unified("draw", "--quiet", "--no-such-option")
    assert code == 2
    assert "--no-such-option" in err


def test_quiet_is_a_word_after_two_dashes(unified, tmp_path):
    code, _, err = unified("draw", "-o", tmp_path / "a.png", "--", "--quiet", on=None)
    assert code == 2
    assert "--quiet" in err


def test_a_quiet_console_draws_nothing(capsys):
    with terminal.quiet():
        terminal.console(stderr=True).print("progress")
        terminal.console().print("a result")
        terminal.tell("a note")
        terminal.tell("an error", error=True)
    captured = capsys.readouterr()
    assert captured.err == "an error\n"
    assert captured.out == "a result\n"


@pytest.mark.parametrize(
    ("variables", "answer"),
    [
        ({"_UNIFIED_COMPLETE": "complete_bash", "COMP_WORDS": "unified tok", "COMP_CWORD": "1"},
         "tokenizer\n"),
        ({"_UNIFIED_COMPLETE": "complete_bash", "COMP_WORDS": "unified data im", "COMP_CWORD": "2"},
         "import\n"),
    ],
)  # fmt: skip
def test_a_shell_completes_commands(variables, answer):
    path = os.pathsep.join(str(ROOT / name) for name in ("", "tokenizers", "data", "base"))
    done = subprocess.run(
        [sys.executable, "-m", "unified"], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": path, **variables},
    )  # fmt: skip
    assert done.stdout == answer


@pytest.mark.parametrize(
    ("data", "prompt"),
    [
        (b"The giant panda\n", "The giant panda"),
        (b"\xef\xbb\xbfa caf\xc3\xa9\r\n", "a café"),
        (b"two\nlines\n\n", "two\nlines\n"),
        (b"", ""),
        ("𝄞".encode() * MAX_PROMPT, "𝄞" * MAX_PROMPT),
    ],
)
def test_a_prompt_is_read_from_stdin(data, prompt, monkeypatch):
    monkeypatch.setattr(sys, "stdin", _Stdin(data))
    assert prompt_from("-") == prompt


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"caf\xe9\n", r"not UTF-8 text \(byte 3\)"),
        (b"a" * (MAX_PROMPT + 1), "more than 16,000 characters"),
        ("𝄞".encode() * (MAX_PROMPT + 1), "more than 16,000 characters"),
    ],
)
def test_a_prompt_on_stdin_that_cannot_be_one_is_refused(data, message, monkeypatch):
    monkeypatch.setattr(sys, "stdin", _Stdin(data))
    with pytest.raises(ValueError, match=message):
        prompt_from("-")


def test_stdin_may_be_closed_and_other_prompts_are_themselves(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert prompt_from("a - b") == "a - b"
    with pytest.raises(ValueError, match="stdin is closed"):
        prompt_from("-")

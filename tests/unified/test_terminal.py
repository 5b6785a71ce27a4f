"""What strangers name things reaches the terminal as text: nothing in it acts, and all is there."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys

import pytest

from unified.__main__ import run
from unified_base.terminal import as_json, console, one_place

EVIL = "\x1b[2J\u202e\x9b31m\u200b[/x][red]:cat:\r"
UNSAFE = set("\x1b\u202e\x9b\u200b\r\x07")


def harmless(text: str) -> bool:
    return not UNSAFE & set(text)


def run_program(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "unified", *map(str, arguments)], timeout=300, **options
    )


@pytest.fixture
def strange(cli_model, tmp_path):
    """A model folder of an odd name, whose subjects, markers and sampling are odd, too."""
    folder = tmp_path / "[/x]\x1b[31m\u202e"
    shutil.copytree(cli_model, folder)
    subjects = json.loads((folder / "subjects.json").read_text())
    subjects[0]["name"] = subjects[0]["kind"] = EVIL
    (folder / "subjects.json").write_text(json.dumps(subjects))
    return folder


def test_every_command_shows_odd_names_as_text(strange, capsys, tmp_path, picture):
    missing = tmp_path / EVIL.replace("/", "")
    commands = [
        ["subjects"], ["subjects", "--json"], ["info"], ["info", "--json"],
        ["describe", str(picture)], ["describe", str(missing)], ["listen", str(missing)],
        ["draw", EVIL, "-o", str(tmp_path / "x.png")], ["draw", "a cat", "-o", str(missing)],
        ["write", EVIL, "-o", str(tmp_path / "x.html")], ["inspect", str(missing)],
        ["speak", "hello", "-o", str(tmp_path / "x.wav"), "--voice", EVIL],
        ["grammar", "check", "pocket", str(missing)],
    ]  # fmt: skip
    for command in commands:
        code = run([*command, "--model", str(strange)])
        captured = capsys.readouterr()
        assert code in (0, 2), (command, captured.err)
        assert harmless(captured.out), command
        assert harmless(captured.err), command
    for command in (
        [EVIL], ["draw", EVIL], ["data", EVIL], ["draw", "a", "b" + EVIL],
        ["draw", "a", f"--{EVIL}"],
        ["grammar", "show", EVIL], ["train", EVIL], ["tokenizer", "train", EVIL], ["plan", EVIL],
        ["data", "check", EVIL], ["data", "show", EVIL, "-o", "x.html"], ["info", "--model", EVIL],
        ["tokenizer", "evaluate", EVIL, EVIL], ["extend", EVIL, "-o", str(tmp_path / "e")],
        ["data", "import", EVIL, EVIL, "-o", str(tmp_path / "e")],
    ):  # fmt: skip
        code = run(command)
        captured = capsys.readouterr()
        assert code == 2, (command, captured.err)
        assert captured.err.strip()
        assert harmless(captured.out + captured.err), command


def test_names_are_whole_in_a_table(strange, capsys):
    assert run(["info", "--model", str(strange)]) == 0
    assert "[/x]\\x1b[31m\\u202e" in "".join(capsys.readouterr().out.split())
    assert run(["subjects", "--model", str(strange)]) == 0
    assert "[/x][red]:cat:" in capsys.readouterr().out


def test_a_console_takes_texts_as_they_are(capsys):
    plain = console()
    plain.print(EVIL)
    out = capsys.readouterr().out
    assert harmless(out)
    assert "[/x][red]:cat:" in out


def test_json_is_the_same_value_and_does_not_act():
    value = {"name": EVIL, "other": "\u00e9\u4e16 \U0001f43c"}
    text = as_json(value)
    assert json.loads(text) == value
    assert text.isprintable()


def test_an_answer_appears_once_where_both_streams_are_one(cli_model, picture):
    command = ["describe", picture, "--model", cli_model, "--seed", "1"]
    apart = run_program(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert apart.returncode == 0, apart.stderr
    answer = apart.stdout
    together = run_program(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert together.stdout.count(answer.strip()) == 1
    assert together.stdout.endswith(answer)


def test_what_an_encoding_does_not_have_is_escaped(strange):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for options in ([], ["--json"]):
        done = run_program(
            "subjects", *options, "--model", strange, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        text = done.stdout.decode("ascii")
        assert "\\U0001f" in text or "\\ud83" in text
        if options:
            assert len(json.loads(text)) > 100
    failed = run_program(
        "draw", "\u4e16\u754c", "-o", "x.png", "--model", strange, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert failed.returncode == 2
    assert b"\\u4e16" in failed.stderr


def test_streams_are_one_place_where_both_are_one_file(monkeypatch, tmp_path):
    def streams(out, err) -> bool:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        return one_place()

    with (
        (tmp_path / "a").open("w") as first,
        (tmp_path / "a").open("a") as again,
        (tmp_path / "b").open("w") as other,
    ):
        assert streams(first, first)
        assert streams(first, again)
        assert not streams(first, other)
        for no_file in (io.StringIO(), None):
            assert not streams(no_file, first)
            assert not streams(no_file, no_file)
    assert not streams(first, first)  # closed

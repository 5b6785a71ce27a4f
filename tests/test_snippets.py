"""Every shell and Python snippet of README and docs runs as printed, without the checkout.

The packages are laid out as a wheel lays them out (pyproject.toml says how), and each page runs
from top to bottom in a fresh folder of `unified demo`. A comment before a snippet tells what
becomes of it instead, and why:

    <!-- not run: REASON -->    it cannot be run here; its commands are parsed, its Python compiled
    <!-- slow: REASON -->       run by `make snippets` (UNIFIED_SLOW_SNIPPETS=1)
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SLOW = os.environ.get("UNIFIED_SLOW_SNIPPETS") == "1"
SHELL = ("bash", "console")
_BLOCK = re.compile(
    r"(?:^<!-- (not run|slow): ([^\n]+?) -->\n+)?^```(\w*)([^\n]*)\n(.*?)^```$", re.S | re.M
)


@dataclass(frozen=True)
class Snippet:
    """A fenced block: its language, the page's line before its text, and what is told of it."""

    language: str
    line: int
    text: str
    mark: str
    reason: str

    @property
    def runs(self) -> bool:
        return self.mark == "" or (self.mark == "slow" and SLOW)


def snippets(page: Path) -> list[Snippet]:
    """The shell and Python snippets of a page, and files (blocks with a title); of `console` the
    lines after `$ `."""
    text = page.read_text("utf-8")
    blocks = []
    for match in _BLOCK.finditer(text):
        mark, reason, language, body = match[1] or "", match[2] or "", match[3], match[5]
        line = text[: match.start(5)].count("\n")
        if title := re.search(r'title="([^"]+)"', match[4]):
            blocks.append(Snippet(f"file {title[1]}", line, body, mark, reason))
        elif language in (*SHELL, "python"):
            if language == "console":
                body = "".join(f"{line[2:]}\n" for line in body.splitlines() if line[:2] == "$ ")
            blocks.append(Snippet(language, line, body, mark, reason))
    return blocks


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


WITH_SNIPPETS = [page for page in PAGES if snippets(page)]
RUN = [page for page in WITH_SNIPPETS if any(snippet.runs for snippet in snippets(page))]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A folder with the packages as a wheel has them, beside nothing else of the checkout."""
    folder = tmp_path_factory.mktemp("site")
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"][
        "targets"
    ]["wheel"]
    for package in wheel["packages"]:
        # Compiled loops come along, so that they are not compiled anew.
        shutil.copytree(ROOT / package, folder / Path(package).name)
    for source, target in wheel["force-include"].items():
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, folder / target)
    return folder


@pytest.fixture(scope="session")
def environment(site):
    """The variables of a process in which the command `unified` is the one in `site`."""
    commands = site / "bin"
    commands.mkdir()
    for name, words in (("unified", "-m unified"), ("torchrun", "-m torch.distributed.run")):
        script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n'
        (commands / name).write_text(script)
        (commands / name).chmod(0o755)
    (commands / "python").symlink_to(sys.executable)
    path = os.pathsep.join([str(commands), os.environ["PATH"]])
    variables = {**os.environ, "PATH": path, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}
    return {**variables, "PYTHONSAFEPATH": "1", "COLUMNS": "100"}


@pytest.fixture(scope="session")
def materials(environment, tmp_path_factory):
    """The folder of `unified demo`."""
    folder = tmp_path_factory.mktemp("materials") / "demo"
    subprocess.run(
        ["unified", "demo", str(folder)], env=environment, check=True, cwd=folder.parent,
        capture_output=True,
    )  # fmt: skip
    return folder


@pytest.mark.parametrize("page", RUN, ids=_name)
def test_a_page_runs_as_printed(page, site, environment, materials, tmp_path):
    blocks = [[s.language, s.line, s.text] for s in snippets(page) if s.runs]
    folder = shutil.copytree(materials, tmp_path / "demo")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "_snippets.py"), str(site)],
        input=json.dumps(blocks), text=True, cwd=folder, env=environment, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{_name(page)}\n{done.stdout[-4000:]}"


@pytest.mark.parametrize("page", WITH_SNIPPETS, ids=_name)
def test_what_is_not_run_is_told_with_its_reason_and_is_right_as_far_as_can_be_seen(page):
    for snippet in snippets(page):
        assert not snippet.mark or len(snippet.reason) > 10, f"{_name(page)}:{snippet.line}"
        if snippet.language == "python":
            ast.parse(snippet.text)
        elif snippet.language.startswith("file "):
            example = ROOT / snippet.language.removeprefix("file ")
            # A file of the checkout that a page shows is shown as it is.
            assert not example.exists() or example.read_text("utf-8") == snippet.text
        else:
            for command in _commands(snippet.text):
                _parse(command)


# Commands that stand in the text: `unified draw`, `unified train F.yaml --resume`.
INLINE = [
    (_name(page), code)
    for page in PAGES
    for code in re.findall(r"`(unified [^`\n]+)`", page.read_text("utf-8"))
]


@pytest.mark.parametrize(("page", "code"), sorted(set(INLINE)), ids=lambda value: str(value))
def test_a_command_in_the_text_has_the_options_that_it_names(page, code):
    words = re.sub(r"[\[\]{}]|\.\.\.|…", " ", code.replace("|", " ")).split()[1:]
    command, rest = _command(words)
    options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    options |= {"-h", "--help", "--debug", "--quiet", "--version"}
    named = {word.split("=")[0].rstrip(",;") for word in rest if re.match(r"--?[a-z]", word)}
    assert named <= options, f"{page}: {sorted(named - options)}"


def _commands(text: str) -> list[list[str]]:
    """The words of every `unified` command of a block, behind pipes and torchrun as well."""
    commands = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        starts = [
            number + 1
            for number, word in enumerate(words)
            if word == "unified" and (number == 0 or words[number - 1] in ("|", "&&", ";", "-m"))
        ]
        for start in starts:
            ends = [
                n for n, word in enumerate(words) if n > start and word in ("|", ">", "&&", ";")
            ]
            commands.append(words[start : min(ends, default=len(words))])
    return commands


def _command(words: list[str]):
    """(the command that words name, the words after its name)."""
    import typer

    from unified.cli.main import app

    command = typer.main.get_command(app)
    rest = list(words)
    while rest and hasattr(command, "commands") and rest[0].islower() and rest[0][0] != "-":
        inner = command.commands.get(rest[0])
        assert inner is not None, f"there is no command {' '.join(words)!r}"
        command, rest = inner, rest[1:]
    return command, rest


def _parse(words: list[str]) -> None:
    """As the command's own parser does: an unknown option, or too few arguments, fail."""
    import typer

    command, rest = _command(words)
    rest = [word for word in rest if word not in ("--quiet", "--debug")]
    try:
        command.make_context("unified", rest)
    except typer.Exit:
        assert {"--help", "-h", "--version"} & set(words)

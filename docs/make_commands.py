"""Write docs/commands.md: every command with its help, as the command line prints it.

python docs/make_commands.py            writes the page
python docs/make_commands.py --check    exits with 1 where it is not up to date
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from unified.cli.main import app

PAGE = Path(__file__).parent / "commands.md"
HEAD = """# Commands

Every command with its arguments and options, as `--help` tells them. Results go to stdout, notes
and progress to stderr. Three options may stand anywhere: `--debug` shows the traceback of an error,
`--quiet` keeps notes and progress off, `--version` says which version this is. A prompt may be `-`:
it is then read from stdin. Exit codes: 0 done, 2 a mistake in what was asked, 1 a fault of ours,
130 interrupted. `unified --install-completion` lets your shell complete commands and options.
"""
_ANYWHERE = ("help",)


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """(name, command) of all commands that do something, in the order of --help."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for inner, each in command.commands.items():
        yield from commands(each, f"{name} {inner}")


def page() -> str:
    """The page as it should be."""
    parts = [HEAD]
    for name, command in commands(typer.main.get_command(app), "unified"):
        text = (command.help or "").split("\f")[0].strip()
        parts += [f"## {name}\n", f"{text}\n"]
        rows = [_row(parameter) for parameter in command.params if parameter.name not in _ANYWHERE]
        parts += ["| argument or option | meaning |\n|---|---|", *rows, ""]
    return "\n".join(parts)


def _row(parameter: Any) -> str:
    """A line of the table: how it is written, what it means, and what it is if left out."""
    if parameter.param_type_name == "argument":
        name = (parameter.metavar or parameter.name).strip("[]{}.=").split("]")[0].upper()
        written = f"`{name}`" if parameter.nargs == 1 else f"`{name} ...`"
    else:
        value = "" if parameter.is_flag else f" {parameter.metavar or _kind(parameter)}"
        written = ", ".join(f"`{name}{value}`" for name in parameter.opts)
    words = [str(parameter.help or "").strip()]
    if parameter.required:
        words.append("Required.")
    elif not getattr(parameter, "is_flag", False) and parameter.default not in (None, "", ()):
        words.append(f"Default: `{parameter.default}`.")
    return f"| {written} | {' '.join(filter(None, words)).replace('|', chr(92) + '|')} |"


def _kind(parameter: Any) -> str:
    """What stands for a value whose option names nothing."""
    # typer has parameters of its own since 0.25, before that click's.
    kind = parameter.bare_type() if hasattr(parameter, "bare_type") else parameter.type.name
    number = str(kind).startswith(("int", "float"))
    return "N" if number else parameter.name.upper()


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(PAGE.read_text("utf-8") != page())
    PAGE.write_text(page(), "utf-8")

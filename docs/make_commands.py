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

What `unified COMMAND --help` prints, of every command (`python docs/make_commands.py` writes this
page). Results go to stdout, notes and progress to stderr. Three options may stand anywhere:
`--debug` shows the traceback of an error, `--quiet` keeps notes and progress off, `--version` says
which version this is. A prompt may be `-`: it is then read from stdin. Exit codes: 0 done, 2 a
mistake in what was asked, 1 a fault of ours, 130 interrupted.

`unified --install-completion` lets your shell complete commands and options.
"""
_WIDTH = 96


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
        context = command.make_context(name, [], resilient_parsing=True, terminal_width=_WIDTH)
        parts.append(f"## {name}\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(PAGE.read_text("utf-8") != page())
    PAGE.write_text(page(), "utf-8")

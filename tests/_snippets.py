"""Runs the snippets of one page in order, as a reader would: a process of its own.

python _snippets.py SITE < BLOCKS, where SITE is the folder of the installed packages and BLOCKS a
JSON list of [language, line, text]. A plain `unified ...` line runs in this process, which spares
loading torch anew for each; every other shell line goes to bash. A language "file NAME" is a block
with a title, which a reader would save under that name.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

# What only a shell can do: pipes, several commands, variables, patterns of files.
_SHELL = re.compile(r"[|<>&;$*?`~]|^[A-Z_]+=")


def _lines(text: str) -> list[str]:
    """The commands of a block: comments and empty lines left out, continued lines joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def _run(line: str) -> int:
    words = shlex.split(line, comments=True)
    if words[0] == "cd":
        os.chdir(words[1])
        return 0
    bare = re.sub(r"\s#.*|'[^']*'|\"[^\"$`]*\"", "", line)
    if words[0] == "unified" and not _SHELL.search(bare):
        from unified.__main__ import run

        return run(words[1:])
    return subprocess.run(["bash", "-euc", line], check=False).returncode


def main() -> int:
    site = Path(sys.argv[1]).resolve()
    import unified

    assert Path(unified.__file__).is_relative_to(site), unified.__file__
    namespace: dict[str, object] = {"__name__": "__main__"}
    for language, number, text in json.load(sys.stdin):
        print(f"--- line {number}", flush=True)
        if language.startswith("file "):
            path = Path(language.removeprefix("file "))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            continue
        if language == "python":
            exec(compile("\n" * number + text, "page", "exec"), namespace)
            continue
        for line in _lines(text):
            print(f"$ {line}", flush=True)
            code = _run(line)
            if code:
                print(f"line {number}: exit code {code}: {line}")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

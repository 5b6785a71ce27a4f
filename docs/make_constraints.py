"""Write constraints.txt and constraints-oldest.txt anew: `make constraints`, or with uv's path.

constraints.txt has every package, direct or not, of all extras, on every system and version of
Python, at its newest version; constraints-oldest.txt has the direct ones at the lowest version of
their range in pyproject.toml, and of the others the newest that goes with them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = [
    "dev", "measure", "parquet", "video", "ray", "wandb", "serve", "search", "export", "docs",
    "bench",
]  # fmt: skip
# pip, what it builds this project's wheel with, and what it builds pesq's with.
TOOLS = ["pip", "hatchling", "editables", "setuptools", "cython"]
FILES = {
    "constraints.txt": (
        "# Every package that may be installed, at its tested version (`make constraints`).",
        ["--universal", "--fork-strategy", "fewest"],
        TOOLS,
    ),
    "constraints-oldest.txt": (
        "# The lower ends of pyproject.toml's ranges, for `make test-oldest` (`make constraints`).",
        ["--resolution", "lowest-direct", "--python-platform", "linux"],
        [],
    ),
}


def pins(uv: str, options: list[str], tools: list[str]) -> list[str]:
    """`name==version` of every package, sorted; pyproject.toml's ranges and extras are resolved."""
    extras = [word for name in EXTRAS for word in ("--extra", name)]
    command = [
        uv, "pip", "compile", "pyproject.toml", "-", "--quiet", "--no-header", "--no-annotate",
        "--python-version", "3.11", *extras, *options,
    ]  # fmt: skip
    resolved = subprocess.run(
        command, cwd=ROOT, input="\n".join(tools), text=True, check=True, capture_output=True
    )
    # A constraint binds only what is installed, so what holds for one system needs no mark.
    return sorted({line.split(";")[0].strip() for line in resolved.stdout.splitlines()})


def main() -> None:
    uv = sys.argv[1] if len(sys.argv) > 1 else "uv"
    for name, (title, options, tools) in FILES.items():
        lines = pins(uv, options, tools)
        (ROOT / name).write_text("\n".join([title, *lines, ""]), "utf-8")
        print(f"{name}: {len(lines)} packages")


if __name__ == "__main__":
    main()

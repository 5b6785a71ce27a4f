"""Write docs/architecture.md: a line for every file, the first line of its docstring.

python docs/make_map.py            writes the page
python docs/make_map.py --check    exits with 1 where it is not up to date
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
FOLDERS = ("benchmarks", "base/unified_base", "data/unified_data", "tokenizers/unified_tokenizers",
           "unified")  # fmt: skip
HEAD = """# Architecture

A line for every file, by folder: the first line of its docstring, of recipes the first line of
their comment. `python docs/make_map.py` writes this page; packages import only downwards, which
`tests/test_imports.py` checks.
"""


def summary(path: Path) -> str:
    """The first line of a module's docstring, or of a recipe's comment."""
    text = path.read_text("utf-8")
    if path.suffix == ".yaml":
        return text.splitlines()[0].removeprefix("#").strip()
    return (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]


def page() -> str:
    """The page as it should be."""
    files = [p for folder in FOLDERS for p in sorted((ROOT / folder).rglob("*.py"))]
    files += sorted((ROOT / "configs").rglob("*.yaml"))
    lines, folder = [HEAD], None
    for path in sorted(files, key=lambda p: (p.parent.relative_to(ROOT).as_posix(), p.name)):
        if path.parent != folder:
            folder = path.parent
            lines += ["", f"## {folder.relative_to(ROOT)}/", "", "| file | holds |", "|---|---|"]
        lines.append(f"| `{path.name}` | {summary(path)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(PAGE.read_text("utf-8") != page())
    PAGE.write_text(page(), "utf-8")

"""Write the map in docs/architecture.md: rooms and files, by the first lines of their docstrings.

python docs/make_map.py            writes what follows the page's last hand-written line
python docs/make_map.py --check    exits with 1 where that is not up to date

The page begins with what is written by hand; everything behind `MARK` is made here.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
MARK = "<!-- What follows is written by docs/make_map.py. -->"
# In the order in which they may import each other, and what is beside them.
FOLDERS = ("base/unified_base", "tokenizers/unified_tokenizers", "data/unified_data", "unified",
           "benchmarks", "docs")  # fmt: skip
HEAD = """## Map

A line for every file, by folder: the first line of its docstring, of recipes the first line of
their comment. Folders stand in the order of their packages, those of `unified` in the order in
which they may import each other.
"""


def rooms() -> list[str]:
    """The folders of `unified`, lowest first, as tests/test_imports.py has them."""
    tree = ast.parse((ROOT / "tests" / "test_imports.py").read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ROOMS":
            return list(ast.literal_eval(node.value))
    raise ValueError("tests/test_imports.py has no ROOMS")


def summary(path: Path) -> str:
    """The first line of a module's docstring, or of a recipe's comment."""
    text = path.read_text("utf-8")
    if path.suffix == ".yaml":
        return text.splitlines()[0].removeprefix("#").strip()
    return (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]


def folders() -> Iterator[tuple[str, list[Path]]]:
    """(folder, its files) in the order of the map."""
    order = rooms()
    for name in FOLDERS:
        inner = sorted({path.parent for path in (ROOT / name).rglob("*.py")})
        if name == "unified":
            # What stands in no room comes first, rooms not yet in the list last.
            ranks = {room: number for number, room in enumerate(order, 1)}
            inner.sort(key=lambda folder: ranks.get(_room(folder), 0))
        for folder in inner:
            yield folder.relative_to(ROOT).as_posix(), sorted(folder.glob("*.py"))
    for folder in sorted({path.parent for path in (ROOT / "configs").rglob("*.yaml")}):
        yield folder.relative_to(ROOT).as_posix(), sorted(folder.glob("*.yaml"))


def _room(folder: Path) -> str:
    return (folder.relative_to(ROOT / "unified").parts or ("",))[0]


def map_of_files() -> str:
    """The made part of the page."""
    lines = [HEAD]
    for name, files in folders():
        packages = [path for path in files if path.name == "__init__.py"]
        lines += [f"### {name}/", ""]
        lines += [f"{summary(path)}\n" for path in packages if summary(path)]
        lines += ["| file | holds |", "|---|---|"]
        lines += [f"| `{p.name}` | {summary(p)} |" for p in files if p not in packages]
        lines.append("")
    return "\n".join(lines)


def page() -> str:
    """The page as it should be: what is written by hand stays as it is."""
    head, mark, _ = PAGE.read_text("utf-8").partition(MARK)
    if not mark:
        raise ValueError(f"{PAGE} has no line {MARK}")
    return f"{head}{MARK}\n\n{map_of_files()}"


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(PAGE.read_text("utf-8") != page())
    PAGE.write_text(page(), "utf-8")

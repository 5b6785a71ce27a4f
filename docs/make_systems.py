"""Write the table of docs/systems.md: a row for every recipe of configs/systems."""

import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
PAGE = DOCS / "systems.md"
RECIPES = DOCS.parent / "configs" / "systems"
HEAD = "<!-- What follows is written by docs/make_systems.py. -->"


def introduction(text: str) -> str:
    """What a recipe's comment says before its commands, in one line."""
    lines = re.findall(r"^# (\S.*)", text, re.M)
    return " ".join(line for line in lines if not line.startswith("shards/"))


def linked(text: str) -> str:
    """Papers as links."""
    text = re.sub(r"\((https://[^\s()]+)\)", r"([page](\1))", text)
    return re.sub(r"arXiv:(\d{4}\.\d{5})", r"[\1](https://arxiv.org/abs/\1)", text)


def row(path: Path) -> str:
    """A recipe's row. Raises ValueError for a comment that does not begin as they all do."""
    words = introduction(path.read_text("utf-8"))
    name, _, rest = words.partition("): ")
    here, _, lacks = rest.partition(" Not here: ")
    if not lacks or "(" not in name:
        expected = "NAME (PAPER): ... Not here: ..."
        raise ValueError(f"{path} begins with {words[:80]!r}, expected {expected}")
    lacks = lacks[0].upper() + lacks[1:]
    return f"| {linked(name + ')')} | `{path.name}` | {here} | {lacks} |"


def page() -> str:
    """The page as it should be: what is written by hand stays as it is."""
    before = PAGE.read_text("utf-8").partition(HEAD)[0]
    rows = [row(path) for path in sorted(RECIPES.glob("*.yaml"))]
    head = ["| system | file | what it is here | what is not here |", "|---|---|---|---|"]
    return before + "\n".join([HEAD, "", *head, *rows, ""])


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(PAGE.read_text("utf-8") != page())
    PAGE.write_text(page(), "utf-8")

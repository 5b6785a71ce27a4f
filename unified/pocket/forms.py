"""Forms of documents that no verb has: what a model of the world was also taught to do.

A model says so in `forms.json` of its folder, a list of names of `FORMS`; without the file it has
none of them. Its recipe writes the file when it trains on such documents.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from unified_base.structured import read_json
from unified_base.text import quoted

__all__ = ["FORMS", "FORMS_FILE", "load_forms", "save_forms"]

FORMS_FILE = "forms.json"
FORMS: dict[str, str] = {
    "draw spoken": "a spoken caption, then `![]`: its picture",
    "say a picture": "a picture, then `> (voice)`: its caption, spoken",
    "ask spoken": "a picture and a spoken question: the answer in text",
    "edit": "a picture and `Edit: ...`: the picture changed so",
    "names": "pictures with made-up names, and one to be named: its name",
    "describe in Chinese": "a picture and `描述`: its caption in Chinese",
}
"""Names of forms, and what a prompt holds and what comes."""


def load_forms(directory: Path | None) -> frozenset[str]:
    """The forms that a model was taught; none where it does not say.

    Raises ValueError for a file that is damaged or names another form.
    """
    if directory is None or not (directory / FORMS_FILE).exists():
        return frozenset()
    path = directory / FORMS_FILE
    entries = read_json(path)
    names = entries.get("forms") if isinstance(entries, dict) else None
    if not isinstance(names, list):
        raise ValueError(f'{path} holds no list "forms"')
    _check(names, str(path))
    return frozenset(names)


def save_forms(directory: Path, forms: Iterable[str]) -> None:
    """Write the forms that a model was taught. Raises ValueError for a name that is none."""
    names = sorted(set(forms))
    _check(names, "the forms")
    text = json.dumps({"forms": names}, indent=1)
    (directory / FORMS_FILE).write_text(text + "\n", "utf-8")


def _check(names: Iterable[object], where: str) -> None:
    for name in names:
        if name not in FORMS:
            raise ValueError(f"{where}: unknown form {quoted(name)}, expected {', '.join(FORMS)}")

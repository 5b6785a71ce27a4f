"""What subjects are called in Chinese, from the files in `wordings/`."""

from __future__ import annotations

from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

import yaml

from unified_data.pocket.subjects import find_subject

__all__ = ["ChineseName", "chinese_name", "chinese_names", "find_chinese", "read_names"]


class ChineseName(NamedTuple):
    """name: 狐狸; measure: the measure word that counts it, 只; aliases: other names."""

    name: str
    measure: str
    aliases: tuple[str, ...]


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def chinese_names() -> dict[str, ChineseName]:
    """The Chinese names of those subjects that have one, by English name.

    Raises ValueError as `read_names` does.
    """
    folder = resources.files(__package__) / "wordings"
    return read_names(folder) if folder.is_dir() else {}


def read_names(folder: Traversable) -> dict[str, ChineseName]:
    """As `chinese_names`, of the YAML files of a folder.

    Raises ValueError for a name of no subject, and where two subjects share a Chinese name.
    """
    names: dict[str, ChineseName] = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if not path.name.endswith(".yaml"):
            continue
        for entry in yaml.load(path.read_text("utf-8"), Loader=_Loader):
            if find_subject(entry["name"]) is None:
                raise ValueError(f"{path.name} has {entry['name']!r}, which is no subject's name")
            names[entry["name"]] = ChineseName(
                entry["zh"], entry["zh_measure"], tuple(entry["zh_aliases"])
            )
    owners: dict[str, str] = {}
    for name, chinese in names.items():
        if owners.setdefault(chinese.name, name) != name:
            raise ValueError(
                f"{owners[chinese.name]!r} and {name!r} are both called {chinese.name!r} in"
                f" {folder}; captions could not tell them apart"
            )
    return names


def chinese_name(name: str) -> ChineseName:
    """A subject's Chinese name. Raises ValueError where it has none."""
    if name not in chinese_names():
        raise ValueError(f"{name!r} has no Chinese name; wordings/*.yaml has none for it")
    return chinese_names()[name]


@cache
def _by_chinese() -> dict[str, str]:
    names = chinese_names()
    table: dict[str, str] = {}
    for name, chinese in names.items():
        for alias in chinese.aliases:
            table.setdefault(alias, name)
    return table | {chinese.name: name for name, chinese in names.items()}


def find_chinese(name: str) -> str | None:
    """The English name of the subject that is called so in Chinese, or None."""
    return _by_chinese().get(name)

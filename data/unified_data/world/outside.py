"""Things that the world does not know, and the nearest one that it does."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import NamedTuple

import yaml

from unified_data.pocket.subjects import find_subject
from unified_data.world.chinese import find_chinese
from unified_data.world.free_scene import split_of_keys
from unified_data.world.wordings import Language, name_in, subject_named

__all__ = ["Stranger", "not_known", "strangers"]


class Stranger(NamedTuple):
    """A thing outside the world. nearest: a subject's name. counted: whether it takes `a`."""

    en: str
    zh: str
    nearest: str
    counted: bool

    @property
    def split(self) -> str:
        return split_of_keys((f"outside|{self.en}",))

    def name(self, language: Language) -> str:
        return self.en if language == "en" else self.zh


@cache
def strangers() -> tuple[Stranger, ...]:
    """Every one of `outside.yaml`.

    Raises ValueError for one that the world does know, and for an unknown nearest one.
    """
    path = resources.files(__package__) / "outside.yaml"
    groups = yaml.safe_load(path.read_text("utf-8"))
    outside = []
    for group, counted in (("things", True), ("substances", False)):
        for en, zh, nearest in groups[group]:
            if find_subject(en) or find_chinese(zh):
                raise ValueError(f"{en!r} ({zh}) is no stranger: the world has it")
            outside.append(Stranger(en, zh, subject_named(nearest).name, counted))
    return tuple(outside)


def not_known(name: str, language: Language, nearest: str | None = None) -> str:
    """What is said of what the world does not know. nearest: a subject's name."""
    if language == "zh":
        near = (
            ""
            if nearest is None
            else f"我知道的最接近的是{name_in(subject_named(nearest), 'zh')}。"
        )
        return f"我不知道{name}。{near}"
    near = "" if nearest is None else f" The nearest thing that I know is the {nearest}."
    return f"I do not know the {name}.{near}"

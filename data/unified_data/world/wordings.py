"""What is known of each subject, each fact in three English and three Chinese wordings.

The first English wording is the sentence in `pocket/subjects`; the others are in `wordings/*.yaml`.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple

import yaml

from unified_data.pocket.subjects import Subject, find_subject, load_subjects

__all__ = [
    "HEADINGS_ZH", "KIND_NAMES", "LANGUAGES", "Fact", "Language", "facts_of_subject", "heading_in",
    "kind_name", "name_in", "subject_named",
]  # fmt: skip

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

HEADINGS_ZH = {
    "Appearance": "外形", "History": "历史", "Uses": "用途", "Home": "家园", "Food": "食物",
    "Working": "原理", "Making": "制作", "Threats": "威胁", "Serving": "吃法", "People": "与人",
    "Growing": "种植", "Culture": "文化", "Building": "建造", "Cause": "成因", "Effects": "影响",
    "Playing": "演奏", "Sound": "声音", "Rules": "规则",
}  # fmt: skip
"""The headings of sections, in Chinese."""

KIND_NAMES: dict[str, tuple[str, str, str]] = {
    "bird": ("a bird", "birds", "鸟"),
    "clothing": ("a piece of clothing", "pieces of clothing", "衣物"),
    "drink": ("a drink", "drinks", "饮料"),
    "food": ("a food", "foods", "食品"),
    "fruit": ("a fruit", "fruits", "水果"),
    "household": ("an everyday thing", "everyday things", "日常用品"),
    "insect": ("a small crawler or flyer", "small crawlers and flyers", "小虫"),
    "instrument": ("a thing for music and sound", "things for music and sound", "音响器具"),
    "mammal": ("a mammal", "mammals", "哺乳动物"),
    "place": ("a building or place", "buildings and places", "建筑或地方"),
    "plant": ("a plant or fungus", "plants and fungi", "植物或真菌"),
    "reptile": ("a reptile or amphibian", "reptiles and amphibians", "爬行或两栖动物"),
    "sea animal": ("a sea animal", "sea animals", "海洋动物"),
    "sport": ("a thing for sport and play", "things for sport and play", "运动和游戏用品"),
    "technology": ("a device", "devices", "器械"),
    "tool": ("a tool", "tools", "工具"),
    "vegetable": ("a vegetable", "vegetables", "蔬菜"),
    "vehicle": ("a vehicle", "vehicles", "交通工具"),
    "weather": ("a thing of the sky and nature", "things of the sky and nature", "自然景象"),
}
"""Of each kind of subject: one of it, several, and its Chinese name."""


class Fact(NamedTuple):
    """One thing that is true of a subject.

    heading: of the section that it belongs to, empty of the lead. en, zh: its wordings.
    """

    heading: str
    en: tuple[str, ...]
    zh: tuple[str, ...]

    def wordings(self, language: Language) -> tuple[str, ...]:
        return self.en if language == "en" else self.zh


# libyaml reads the 19 files in 0.35 s.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def _facts_of_kind(kind: str) -> dict[str, tuple[Fact, ...]]:
    """The facts of every subject of a kind, by name."""
    path = resources.files(__package__) / "wordings" / f"{kind.replace(' ', '_')}.yaml"
    entries = yaml.load(path.read_text("utf-8"), Loader=_Loader)
    subjects = [subject for subject in load_subjects() if subject.kind == kind]
    names = [entry["name"] for entry in entries]
    if names != [subject.name for subject in subjects]:
        raise ValueError(f"{path.name} is of {names}, expected the subjects of {kind} in order")
    return {subject.name: _facts(subject, entry) for subject, entry in zip(subjects, entries)}


def _facts(subject: Subject, entry: dict[str, Any]) -> tuple[Fact, ...]:
    headings = [s.heading for s in subject.sections for _ in s.sentences]
    rows = [entry["lead"], *entry["facts"]]
    if len(rows) != len(subject.sentences):
        raise ValueError(
            f"the wordings of {subject.name} are of {len(rows)} facts, expected"
            f" {len(subject.sentences)}"
        )
    return tuple(
        Fact(heading, (sentence, *row["en"]), tuple(row["zh"]))
        for heading, sentence, row in zip(["", *headings], subject.sentences, rows)
    )


def facts_of_subject(subject: Subject) -> tuple[Fact, ...]:
    """The lead, then the facts of every section, in order."""
    return _facts_of_kind(subject.kind)[subject.name]


def subject_named(name: str) -> Subject:
    """The subject of a name. Raises ValueError where there is none."""
    subject = find_subject(name)
    if subject is None:
        raise ValueError(f"the world has no subject {name!r}")
    return subject


def name_in(subject: Subject, language: Language) -> str:
    """`giant panda`, `大熊猫`."""
    from unified_data.world.chinese import chinese_name  # whose names take a pass over all files

    return subject.name if language == "en" else chinese_name(subject.name).name


def heading_in(heading: str, language: Language) -> str:
    """`Food`, `食物`."""
    return heading if language == "en" else HEADINGS_ZH[heading]


def kind_name(subject: Subject, language: Language) -> str:
    """`a bird`, `鸟`."""
    english, _, chinese = KIND_NAMES[subject.kind]
    return english if language == "en" else chinese

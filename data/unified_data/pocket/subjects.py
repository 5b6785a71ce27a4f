"""The subjects of the pocket world: names, glyphs and facts, read from `subjects/*.yaml`.

Each file holds one kind; each subject a lead sentence and sections of sentences under headings,
written for this project one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

__all__ = ["Section", "Subject", "find_subject", "load_subjects"]


@dataclass(frozen=True)
class Section:
    """Sentences under one heading of an article."""

    heading: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Subject:
    """One thing the pocket world knows: how it is called, how it looks, what is true of it."""

    name: str
    plural: str
    article: str
    kind: str
    glyph: str
    aliases: tuple[str, ...]
    lead: str
    sections: tuple[Section, ...]

    @property
    def phrase(self) -> str:
        """The name with its indefinite article: `an axe`."""
        return f"{self.article} {self.name}"

    @property
    def sentences(self) -> tuple[str, ...]:
        """The lead and every sentence of every section, in order."""
        return (self.lead, *(s for section in self.sections for s in section.sentences))


def _subject(entry: dict, kind: str) -> Subject:
    return Subject(
        name=entry["name"],
        plural=entry["plural"],
        article=entry["article"],
        kind=kind,
        glyph=entry["glyph"],
        aliases=tuple(entry["aliases"]),
        lead=entry["lead"],
        sections=tuple(
            Section(section["heading"], tuple(section["sentences"]))
            for section in entry["sections"]
        ),
    )


@cache
def load_subjects() -> tuple[Subject, ...]:
    """Every subject, in alphabetical order of kind, then in the order of the kind's file.

    Raises:
        ValueError: two subjects share a name or a glyph.
    """
    folder = resources.files(__package__) / "subjects"
    subjects: list[Subject] = []
    for path in sorted(folder.iterdir(), key=lambda p: p.name):
        if path.name.endswith(".yaml"):
            kind = path.name.removesuffix(".yaml").replace("_", " ")
            entries = yaml.load(path.read_text("utf-8"), Loader=_Loader)
            subjects.extend(_subject(entry, kind) for entry in entries)
    for what in ("name", "glyph"):
        seen: dict[str, str] = {}
        for subject in subjects:
            value = getattr(subject, what)
            if value in seen:
                raise ValueError(
                    f"two subjects share the {what} {value!r}: {seen[value]!r} and {subject.name!r}"
                )
            seen[value] = subject.name
    return tuple(subjects)


# libyaml reads the 19 files in 0.1 s, PyYAML's own parser in 1.1 s.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def _by_name() -> dict[str, Subject]:
    table: dict[str, Subject] = {}
    subjects = load_subjects()
    for subject in subjects:
        for alias in subject.aliases:
            table.setdefault(alias.lower(), subject)
    for subject in subjects:
        table[subject.plural.lower()] = subject
    for subject in subjects:
        table[subject.name.lower()] = subject
    return table


def find_subject(name: str) -> Subject | None:
    """The subject called `name` (its name, plural or an alias, any case), or None."""
    return _by_name().get(name.strip().lower())

"""What a model knows: the subjects it was trained on, from `subjects.json` in its folder.

The file is a list of {name, plural, article, kind, glyph, aliases, sections: [heading, ...]}. It
is written when a model is trained and is all that prompts are read against: the world's facts
stay out of it, so a model answers for itself.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from unified.pocket.name_matching import is_kind_adjective, misspelt
from unified.pocket.prompt_words import FILLERS
from unified_base.atomic import atomic_write
from unified_base.structured import read_json
from unified_base.text import quoted
from unified_data.pocket.subjects import Section, Subject

__all__ = [
    "FILE_NAME", "KnownSubjects", "Mention", "UnknownSubjectError", "describe", "read_subject",
]  # fmt: skip

FILE_NAME = "subjects.json"
_MOST_BYTES = 8 << 20
_MOST_WORDS = 8
_TEXTS = ("name", "plural", "article", "kind", "glyph")
_LISTS = ("aliases", "sections")


class UnknownSubjectError(ValueError):
    """A subject that the model does not know; the message names the nearest it does know."""


@dataclass(frozen=True)
class Mention:
    """A subject named in a text, at characters [start, stop). plural: by a name for several."""

    start: int
    stop: int
    subject: Subject
    plural: bool = False


@dataclass(frozen=True)
class KnownSubjects:
    """The subjects of a model. Their sections hold headings, their sentences are left empty."""

    subjects: tuple[Subject, ...]

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> KnownSubjects | None:
        """Those of the model in `folder`; None where it has no subjects.json.

        Raises ValueError, naming the entry, for a file of another form.
        """
        path = Path(folder) / FILE_NAME
        if not os.path.lexists(path):
            return None
        try:
            status = path.stat()
        except OSError:
            return _read(path)  # which says what is wrong
        return _read_once(path, status.st_mtime_ns, status.st_size, status.st_ino)

    @classmethod
    def of(cls, subjects: Iterable[Subject]) -> KnownSubjects:
        """The names and headings of a world's subjects, without its facts."""
        known = []
        for s in subjects:
            headings = tuple(Section(section.heading, ()) for section in s.sections)
            known.append(
                Subject(s.name, s.plural, s.article, s.kind, s.glyph, s.aliases, "", headings)
            )
        return cls(tuple(known))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write subjects.json into a model's folder."""
        entries = [describe(subject) for subject in self.subjects]
        text = json.dumps(entries, ensure_ascii=False, indent=1) + "\n"
        atomic_write(Path(folder) / FILE_NAME, text.encode("utf-8"))

    @cached_property
    def _by_name(self) -> dict[str, Subject]:
        """Lower-case names; a name goes before another's plural, a plural before an alias."""
        table: dict[str, Subject] = {}
        for subject in self.subjects:
            table[subject.glyph] = subject
            for alias in subject.aliases:
                for name in (alias.lower(), alias.lower() + "s"):
                    if name not in FILLERS:  # "does" are also female deer
                        table.setdefault(name, subject)
        for subject in self.subjects:
            table[subject.plural.lower()] = subject
        for subject in self.subjects:
            table[subject.name.lower()] = subject
        return table

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        names = sorted(self._by_name, key=len, reverse=True)
        # A hyphen joins words: "yo-yo-like" names no yo-yo.
        return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, names))})(?![\w-])")

    def find(self, name: str) -> Subject | None:
        """The subject of that name, plural or alias (any case, with or without an article)."""
        name = re.sub(r"^(?:an?|the) ", "", " ".join(name.lower().split()))
        return self._by_name.get(name)

    def called(self, name: str) -> Subject | None:
        """The subject of exactly this name, plural or alias (any case): as the captions of its
        world have them."""
        name = name.strip().lower()
        subject = self._by_name.get(name)
        if subject is None:
            return None
        names = (subject.name, subject.plural, *subject.aliases)
        return subject if name in (n.lower() for n in names) else None

    def mentions(self, text: str) -> list[Mention]:
        """The subjects that a text names, longest names first, in the order of the text."""
        matches = self._pattern.finditer(_lower(text))
        return [
            Mention(m.start(), m.end(), self._by_name[m[0]], _is_plural(m[0], self._by_name[m[0]]))
            for m in matches
        ]

    def meant(self, text: str) -> Subject | None:
        """The one subject that a misspelt or narrower name surely means: see `name_matching`.

        "saxaphone" is the saxophone, "bald eagle" the eagle. None where no or several names fit;
        an alias is not narrowed down: a red panda is no giant panda.
        """
        name = re.sub(r"^(?:an?|the) ", "", " ".join(text.lower().split()))
        return self._narrower(name) or self._misspelt(name)

    def _narrower(self, name: str) -> Subject | None:
        words = name.split()
        for at in range(1, min(len(words), _MOST_WORDS)):
            if not is_kind_adjective(words[at - 1]):
                break
            rest = " ".join(words[at:])
            subject = self._by_name.get(rest)
            if subject and rest in (subject.name.lower(), subject.plural.lower()):
                return subject
        return None

    def _misspelt(self, name: str) -> Subject | None:
        subjects = {self._by_name[near].name for near in misspelt(name, self._by_name)}
        return self._by_name[subjects.pop().lower()] if len(subjects) == 1 else None

    def nearest(self, text: str, number: int = 3) -> tuple[Subject, ...]:
        """The subjects whose names look most like a text, or share words with it; best first."""
        text = " ".join(text.lower().split())
        words = set(text.split())
        matcher = SequenceMatcher(b=text, autojunk=False)
        scores: dict[str, float] = {}
        for name, subject in self._by_name.items():
            matcher.set_seq1(name)
            score = matcher.ratio() if matcher.quick_ratio() > 0.4 else 0.0
            parts = set(name.split())
            shared = {p for p in parts if len(p) > 2 and any(_same_stem(p, w) for w in words)}
            if shared:
                score = max(score, 0.6 + 0.3 * len(shared) / max(len(words), len(parts)))
                # A red panda is more of a panda than a red wine.
                score += 0.1 * (text.split()[-1] == name.split()[-1])
            scores[subject.name] = max(score, scores.get(subject.name, 0.0))
        best = sorted(self.subjects, key=lambda subject: -scores[subject.name])
        return tuple(best[:number])

    def unknown(self, text: str) -> UnknownSubjectError:
        """The error for a text that names no known subject."""
        names = ", ".join(subject.name for subject in self.nearest(text))
        return UnknownSubjectError(
            f"the model does not know {quoted(text, 60)}; the nearest of the {len(self.subjects)}"
            f" subjects it knows: {names} (`unified subjects` lists them all)"
        )


def _is_plural(name: str, subject: Subject) -> bool:
    """Whether a lower-case name of a subject stands for several of it."""
    if name == subject.name.lower() or name == subject.glyph:
        return False
    aliases = [alias.lower() for alias in subject.aliases]
    return name == subject.plural.lower() or (name not in aliases and name[:-1] in aliases)


def _same_stem(part: str, word: str) -> bool:
    return word == part or (len(part) > 3 and word.startswith(part))


def _lower(text: str) -> str:
    """Lower case, character for character: positions stay those of the text."""
    lower = text.lower()
    if len(lower) != len(text):
        lower = "".join(c if len(c.lower()) > 1 else c.lower() for c in text)
    return lower


def describe(subject: Subject) -> dict[str, Any]:
    """A subject as subjects.json and `unified subjects --json` give it."""
    return {
        **{key: getattr(subject, key) for key in _TEXTS},
        "aliases": list(subject.aliases),
        "sections": [section.heading for section in subject.sections],
    }


def read_subject(entry: Any, where: str) -> Subject:
    """The subject of an entry of subjects.json. Raises ValueError for one of another form."""
    if not isinstance(entry, dict) or set(entry) != {*_TEXTS, *_LISTS}:
        raise ValueError(f"{where}: expected an object with {', '.join((*_TEXTS, *_LISTS))}")
    for key in _TEXTS:
        if not isinstance(entry[key], str) or not entry[key]:
            raise ValueError(f"{where}: {key} is {quoted(entry[key])}, expected text")
    for key in _LISTS:
        value = entry[key]
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            raise ValueError(f"{where}: {key} is {quoted(value)}, expected a list of texts")
    if not entry["sections"]:
        raise ValueError(f"{where}: {quoted(entry['name'])} has no sections")
    return Subject(
        **{key: entry[key] for key in _TEXTS},
        aliases=tuple(entry["aliases"]),
        lead="",
        sections=tuple(Section(heading, ()) for heading in entry["sections"]),
    )


def _read(path: Path) -> KnownSubjects:
    try:
        entries = read_json(path, _MOST_BYTES, list)
    except ValueError as error:
        raise ValueError(f"{error}; is the model whole?") from None
    if not entries:
        raise ValueError(f"{path} holds no list of subjects; is the model whole?")
    return KnownSubjects(
        tuple(read_subject(entry, f"{path}, entry {i}") for i, entry in enumerate(entries))
    )


@lru_cache(maxsize=4)
def _read_once(path: Path, *stamp: int) -> KnownSubjects:
    """What a file holds, as long as it is the same one: a server reads prompts all the time."""
    return _read(path)

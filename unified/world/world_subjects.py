"""What a model of the world knows: subjects with their Chinese names, from `subjects.json`.

The file is that of `pocket.known_subjects` with three entries more for each subject: `zh`, its
Chinese name, `zh_measure`, the word that counts it, and `zh_aliases`. A word that names no subject
is looked up in `meanings.yaml`: what comes nearest in meaning, not in spelling.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from unified.pocket.known_subjects import (
    FILE_NAME,
    KnownSubjects,
    Mention,
    UnknownSubjectError,
    describe,
    read_subject,
)
from unified_base.atomic import atomic_write
from unified_base.structured import read_json
from unified_base.text import quoted
from unified_data.pocket.subjects import Subject, load_subjects
from unified_data.world.chinese import ChineseName, chinese_names

__all__ = ["WorldSubjects", "meanings"]

_MOST_BYTES = 8 << 20
_CHINESE_KEYS = ("zh", "zh_measure", "zh_aliases")


@cache
def meanings() -> dict[str, str]:
    """Words that name no subject, in lower case, and the subject nearest in meaning."""
    text = (resources.files(__package__) / "meanings.yaml").read_text("utf-8")
    table: dict[str, list[str]] = yaml.safe_load(text)
    return {str(word).lower(): name for name, words in table.items() for word in words}


@dataclass(frozen=True)
class WorldSubjects:
    """The subjects of a model, and the Chinese names of those that have one."""

    known: KnownSubjects
    chinese: dict[str, ChineseName]

    @classmethod
    def of_world(cls) -> WorldSubjects:
        """All subjects of the world."""
        return cls(KnownSubjects.of(load_subjects()), dict(chinese_names()))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> WorldSubjects | None:
        """Those of the model in `folder`; None where it has no subjects.json.

        Raises ValueError, naming the entry, for a file of another form.
        """
        path = Path(folder) / FILE_NAME
        if not os.path.lexists(path):
            return None
        entries = read_json(path, _MOST_BYTES, list)
        if not entries:
            raise ValueError(f"{path} holds no list of subjects; is the model whole?")
        subjects, chinese = [], {}
        for number, entry in enumerate(entries):
            where = f"{path}, entry {number}"
            if not isinstance(entry, dict) or not set(_CHINESE_KEYS) <= set(entry):
                raise ValueError(f"{where}: expected an object with {', '.join(_CHINESE_KEYS)}")
            plain = {key: value for key, value in entry.items() if key not in _CHINESE_KEYS}
            subject = read_subject(plain, where)
            subjects.append(subject)
            if entry["zh"] is not None:
                chinese[subject.name] = _chinese(entry, where)
        return cls(KnownSubjects(tuple(subjects)), chinese)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write subjects.json into a model's folder."""
        text = json.dumps(self.describe(), ensure_ascii=False, indent=1) + "\n"
        atomic_write(Path(folder) / FILE_NAME, text.encode("utf-8"))

    def describe(self) -> list[dict[str, Any]]:
        """The subjects as subjects.json and `unified subjects --json` give them."""
        rows = []
        for subject in self.known.subjects:
            name = self.chinese.get(subject.name)
            of_name: dict[str, Any] = dict.fromkeys(_CHINESE_KEYS[:2]) | {"zh_aliases": []}
            if name is not None:
                of_name = dict(zip(_CHINESE_KEYS, (name.name, name.measure, [*name.aliases])))
            rows.append(describe(subject) | of_name)
        return rows

    def find(self, name: str) -> Subject | None:
        """The subject of an English or Chinese name, plural or alias."""
        return self.known.find(name) or self._by_chinese.get(name.strip())

    @cached_property
    def _by_chinese(self) -> dict[str, Subject]:
        by_name = {subject.name: subject for subject in self.known.subjects}
        table: dict[str, Subject] = {}
        for english, chinese in self.chinese.items():
            for alias in chinese.aliases:
                table.setdefault(alias, by_name[english])
        return table | {each.name: by_name[english] for english, each in self.chinese.items()}

    @cached_property
    def _chinese_pattern(self) -> re.Pattern[str]:
        words = [word for word in meanings() if not word.isascii()]
        names = sorted({*self._by_chinese, *words}, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names)))

    @cached_property
    def _meaning_pattern(self) -> re.Pattern[str]:
        words = [word for word in meanings() if word.isascii()]
        forms = sorted({form for word in words for form in _forms(word)}, key=len, reverse=True)
        return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, forms))})(?![\w-])")

    def mentions(self, text: str) -> list[Mention]:
        """The subjects that an English text in lower case names, in order; none inside a word of
        `meanings`: a fire inside a fire station."""
        strange = [match.span() for match in self._meaning_pattern.finditer(text)]
        return [
            mention
            for mention in self.known.mentions(text)
            if not any(
                start <= mention.start
                and mention.stop <= stop
                and (start, stop) != (mention.start, mention.stop)
                for start, stop in strange
            )
        ]

    def strangers(self, text: str) -> list[str]:
        """The words of `meanings` in an English text in lower case, in order."""
        named = self.mentions(text)
        return [
            match[0]
            for match in self._meaning_pattern.finditer(text)
            if not any(m.start < match.end() and match.start() < m.stop for m in named)
        ]

    def mentions_zh(self, text: str) -> list[tuple[int, int, Subject | None]]:
        """(start, stop, subject) of every name in a Chinese text, the longest first, in order;
        None for a word of `meanings`, which names no subject."""
        return [
            (match.start(), match.end(), self._by_chinese.get(match[0]))
            for match in self._chinese_pattern.finditer(text)
        ]

    def meant(self, word: str) -> Subject | None:
        """The subject nearest in meaning to a word that names none."""
        word = re.sub(r"^(?:an?|the) ", "", " ".join(word.lower().split()))
        table = meanings()
        name = next((table[each] for each in (word, *_singulars(word)) if each in table), None)
        return None if name is None else self.known.find(name)

    def unknown(self, text: str) -> UnknownSubjectError:
        """The error for a text that names no subject: the nearest by meaning and by spelling."""
        lowered = " ".join(text.lower().split())
        words = [lowered, *self.strangers(lowered)]
        words += [text[start:stop] for start, stop, _ in self.mentions_zh(text)]
        near = dict.fromkeys(subject.name for word in words if (subject := self.meant(word)))
        parts = [f"nearest in meaning: {', '.join(near)}"] if near else []
        if text.isascii() or not near:
            spelt = [each.name for each in self.known.nearest(text) if each.name not in near]
            parts.append(f"nearest in spelling: {', '.join(spelt)}")
        return UnknownSubjectError(
            f"the model does not know {quoted(text, 60)}; of the {len(self.known.subjects)}"
            f" subjects it knows, {'; '.join(parts)} (`unified subjects` lists them all)"
        )


def _forms(word: str) -> tuple[str, ...]:
    """A word and its plural."""
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word, word[:-1] + "ies"
    return word, word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")


def _singulars(word: str) -> tuple[str, ...]:
    singulars = [word[: -len(ending)] for ending in ("s", "es") if word.endswith(ending)]
    return (*singulars, word[:-3] + "y") if word.endswith("ies") else tuple(singulars)


def _chinese(entry: dict[str, Any], where: str) -> ChineseName:
    name, measure, aliases = (entry[key] for key in _CHINESE_KEYS)
    good = all(isinstance(text, str) and text for text in (name, measure))
    if not good or not isinstance(aliases, list) or not all(isinstance(a, str) for a in aliases):
        raise ValueError(
            f"{where}: zh, zh_measure and zh_aliases are {quoted([name, measure, aliases])},"
            " expected a name, a measure word and a list of names"
        )
    return ChineseName(name, measure, tuple(aliases))

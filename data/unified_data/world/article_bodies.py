"""The text of articles before it is known what was asked for: a body, and the wishes it fulfils.

A body is drawn first and measured, and only then does a prompt say what it holds: so every prompt
is exact, of numbers of characters too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unified_data.pocket.subjects import Subject, load_subjects
from unified_data.world.article_lengths import (
    SHORT_AND_LONG,
    fitting_length,
    text_length,
)
from unified_data.world.prose import Manner, Prose
from unified_data.world.wishes import Form, Length
from unified_data.world.wordings import (
    KIND_NAMES,
    Language,
    facts_of_subject,
    heading_in,
    kind_name,
    name_in,
)

__all__ = [
    "DEFAULT_FACTS",
    "DEFAULT_ITEMS",
    "KIN",
    "SUMMARY",
    "ArticleBody",
    "Passage",
    "draw_body",
]

SUMMARY = {"en": "In short", "zh": "小结"}
"""The heading under which a long article says some facts again."""
KIN = {"en": "Others of its kind", "zh": "同类"}
"""The heading under which a long article names others of the subject's kind."""
DEFAULT_ITEMS = 5
"""Items of a list whose prompt does not say how many."""
DEFAULT_FACTS = 3
"""Facts behind the lead of a paragraph whose prompt says no length."""

_NUMBERED = ("about", "least", "most")


@dataclass(frozen=True)
class Passage:
    """What stands under one heading, in lines. heading: empty of what stands under the title."""

    heading: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class ArticleBody:
    """An article's text. titled: whether it has a title. facts: (subject, number) of those that
    are stated outside `KIN`. wishes: fields of `Wishes` that it fulfils and a prompt should say."""

    form: Form
    subjects: tuple[Subject, ...]
    passages: tuple[Passage, ...]
    facts: tuple[tuple[str, int], ...]
    wishes: dict[str, Any]

    @property
    def titled(self) -> bool:
        return self.form != "paragraph"


@dataclass(frozen=True)
class _Draw:
    """What every part of a body is drawn with."""

    prose: Prose
    rng: np.random.Generator

    @property
    def language(self) -> Language:
        return self.prose.language

    def sentence(self, subject: Subject, fact: int) -> str:
        """A fact by its number, 0 for the lead, in one sentence."""
        wordings = facts_of_subject(subject)[fact].wordings(self.language)
        return self.prose.sentence(wordings, self.rng)

    def paragraph(self, subject: Subject, facts: Sequence[int]) -> str:
        known = facts_of_subject(subject)
        wordings = [known[fact].wordings(self.language) for fact in facts]
        return self.prose.paragraph(wordings, self.rng)

    def some(self, values: Sequence[Any], number: int) -> list[Any]:
        """`number` of the values in any order."""
        return [values[i] for i in self.rng.permutation(len(values))[:number]]

    def any_of(self, values: Sequence[Any]) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)


def draw_body(
    subject: Subject, language: Language, split: str, rng: np.random.Generator, form: Form
) -> ArticleBody:
    """A random body of a form. split: of the joined sentences that it may hold, see `prose`."""
    chance = rng.random()
    manner: Manner = "simple" if chance < 0.15 else "plain" if chance < 0.2 else "flowing"
    drawn = _Draw(Prose(language, split, manner), rng)
    while True:
        body = _FORMS[form](subject, drawn)
        if body is not None:
            return replace(body, wishes=body.wishes | {"children": manner == "simple"})


def _headings(subject: Subject) -> list[str]:
    return [section.heading for section in subject.sections]


def _facts_under(subject: Subject, heading: str) -> list[int]:
    facts = facts_of_subject(subject)
    return [number for number, fact in enumerate(facts) if fact.heading == heading]


def _choice_of_sections(headings: Sequence[str], drawn: _Draw) -> tuple[list[str], dict[str, Any]]:
    """Which sections come, and how a prompt says so: not at all, in an order, or without some."""
    chance = drawn.rng.random()
    if chance < 0.45 or len(headings) < 2:
        return list(headings), {}
    if chance < 0.75:
        chosen = drawn.some(headings, int(drawn.rng.integers(1, len(headings) + 1)))
        return chosen, {"sections": tuple(chosen)}
    gone = drawn.some(headings, 1 + (len(headings) > 2 and drawn.chance(0.3)))
    return [h for h in headings if h not in gone], {"without": tuple(gone)}


def _article(subject: Subject, drawn: _Draw) -> ArticleBody | None:
    headings, wishes = _choice_of_sections(_headings(subject), drawn)
    amount = drawn.rng.random()
    numbered = amount >= 0.7
    each = 1 if amount < 0.15 else 2
    extras = 0.15 <= amount < 0.3 or (numbered and drawn.chance(0.4))
    if numbered and not wishes and not extras:
        headings = [h for h in headings if drawn.chance(0.6)] or headings[:1]
    facts = [(subject.name, 0)]
    passages = [Passage("", (drawn.paragraph(subject, [0]),))]
    for heading in headings:
        number = drawn.any_of((1, 2)) if numbered else each
        here = drawn.some(_facts_under(subject, heading), number)
        passages.append(Passage(heading, (drawn.paragraph(subject, here),)))
        facts += [(subject.name, fact) for fact in here]
    if extras:
        passages += _extras(subject, drawn, [fact for _, fact in facts])
    if numbered:
        length = _fitting(drawn, _length_of(passages, subject, drawn))
        if length is None:
            return None
        wishes["length"] = length
    elif each == 1 or extras:
        short, long = SHORT_AND_LONG[drawn.language]
        measured = _length_of(passages, subject, drawn)
        if (measured > short) if each == 1 else (measured < long):
            return None
        wishes["length"] = Length("short" if each == 1 else "long")
    return ArticleBody("article", (subject,), _translated(passages, drawn), tuple(facts), wishes)


def _fitting(drawn: _Draw, length: int) -> Length | None:
    return fitting_length(drawn.any_of(_NUMBERED), length, drawn.language)


def _extras(subject: Subject, drawn: _Draw, facts: Sequence[int]) -> list[Passage]:
    """Some facts in other words, and others of the subject's kind."""
    kin = [other for other in load_subjects() if other.kind == subject.kind and other != subject]
    again = drawn.some(sorted(set(facts)), min(len(set(facts)), drawn.any_of((2, 3, 4))))
    lines = [drawn.paragraph(subject, again)]
    others = []
    more = drawn.any_of((0, 1, 1, 2))
    for other in drawn.some(kin, min(len(kin), drawn.any_of((2, 3, 4)))):
        here = [0, *drawn.some(range(1, len(facts_of_subject(other))), more)]
        others.append(drawn.paragraph(other, here))
    return [
        Passage(SUMMARY[drawn.language], tuple(lines)),
        Passage(KIN[drawn.language], tuple(others)),
    ]


def _paragraph(subject: Subject, drawn: _Draw) -> ArticleBody | None:
    wishes: dict[str, Any] = {}
    chance = drawn.rng.random()
    if chance < 0.2:
        chosen = drawn.some(_headings(subject), drawn.any_of((1, 2)))
        wishes["sections"] = tuple(chosen)
        here = [fact for heading in chosen for fact in _facts_under(subject, heading)]
    else:
        pool = list(range(1, len(facts_of_subject(subject))))
        numbers = {True: 1, False: DEFAULT_FACTS}
        numbered = chance >= 0.6
        here = drawn.some(pool, drawn.any_of(range(9)) if numbered else numbers[chance < 0.35])
    passages = [Passage("", (drawn.paragraph(subject, [0, *here]),))]
    if 0.2 <= chance < 0.35:
        wishes["length"] = Length("short")
    elif chance >= 0.6:
        length = _fitting(drawn, text_length(passages[0].lines[0]))
        if length is None:
            return None
        wishes["length"] = length
    facts = tuple((subject.name, fact) for fact in (0, *here))
    return ArticleBody("paragraph", (subject,), tuple(passages), facts, wishes)


def _list(subject: Subject, drawn: _Draw) -> ArticleBody:
    wishes: dict[str, Any] = {}
    pool = list(range(len(facts_of_subject(subject))))
    if drawn.chance(0.2):
        chosen = drawn.some(_headings(subject), drawn.any_of((1, 2)))
        wishes["sections"] = tuple(chosen)
        items = drawn.some([f for h in chosen for f in _facts_under(subject, h)], len(pool))
    elif drawn.chance(0.7):
        items = drawn.some(pool, drawn.any_of(range(2, len(pool) + 1)))
        wishes["items"] = len(items)
    else:
        items = drawn.some(pool, DEFAULT_ITEMS)
    lines = tuple(f"- {drawn.sentence(subject, fact)}" for fact in items)
    facts = tuple((subject.name, fact) for fact in items)
    return ArticleBody("list", (subject,), (Passage("", lines),), facts, wishes)


def _comparison(subject: Subject, drawn: _Draw) -> ArticleBody | None:
    alike = drawn.chance(0.75)
    others = [s for s in load_subjects() if s != subject and (s.kind == subject.kind or not alike)]
    pair = (subject, drawn.any_of(others))
    shared = [h for h in _headings(subject) if h in _headings(pair[1])]
    headings, wishes = _choice_of_sections(shared, drawn)
    each = 1 if drawn.chance(0.2) else 2
    facts = [(member.name, 0) for member in pair]
    passages = [Passage("", (_intro(pair, drawn),))]
    for heading in headings:
        lines = []
        for member in pair:
            here = drawn.some(_facts_under(member, heading), each)
            text = drawn.paragraph(member, here)
            lines.append(f"- {_name(member, drawn.language)}{_colon(drawn.language)}{text}")
            facts += [(member.name, fact) for fact in here]
        passages.append(Passage(heading, tuple(lines)))
    if each == 1:
        wishes["length"] = Length("short")
        if _length_of(passages, subject, drawn) > SHORT_AND_LONG[drawn.language][0]:
            return None
    elif drawn.chance(0.2):
        length = _fitting(drawn, _length_of(passages, subject, drawn))
        if length is None:
            return None
        wishes["length"] = length
    return ArticleBody("comparison", pair, _translated(passages, drawn), tuple(facts), wishes)


_FORMS: dict[str, Callable[[Subject, _Draw], ArticleBody | None]] = {
    "article": _article, "paragraph": _paragraph, "list": _list, "comparison": _comparison,
}  # fmt: skip


def _intro(pair: tuple[Subject, Subject], drawn: _Draw) -> str:
    """What two subjects are, and the lead of each."""
    first, second = (_name(member, drawn.language) for member in pair)
    kinds = [kind_name(member, drawn.language) for member in pair]
    if drawn.language == "en":
        small = f"the {pair[1].name}"
        alike = f"Both the {pair[0].name} and {small} are {KIND_NAMES[pair[0].kind][1]}."
        opening = alike if kinds[0] == kinds[1] else (
            f"{first} is {kinds[0]}, and {small} is {kinds[1]}."
        )  # fmt: skip
    else:
        alike = f"{first}和{second}都是{kinds[0]}。"
        opening = alike if kinds[0] == kinds[1] else f"{first}是{kinds[0]}，{second}是{kinds[1]}。"
    leads = [drawn.sentence(member, 0) for member in pair]
    return (" " if drawn.language == "en" else "").join([opening, *leads])


def _name(subject: Subject, language: Language) -> str:
    return f"The {subject.name}" if language == "en" else name_in(subject, language)


def _colon(language: Language) -> str:
    return ": " if language == "en" else "："


def _length_of(passages: Sequence[Passage], subject: Subject, drawn: _Draw) -> int:
    """Characters of the passages and a title of the subject alone."""
    headings = [p.heading for p in _translated(passages, drawn)]
    lines = [line for passage in passages for line in passage.lines]
    return text_length("\n".join([_name(subject, drawn.language), *headings, *lines]))


def _translated(passages: Sequence[Passage], drawn: _Draw) -> tuple[Passage, ...]:
    """The same with headings in the language of the article."""
    extra = (*SUMMARY.values(), *KIN.values(), "")
    return tuple(
        replace(p, heading=heading_in(p.heading, drawn.language)) if p.heading not in extra else p
        for p in passages
    )

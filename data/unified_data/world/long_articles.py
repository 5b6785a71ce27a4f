"""Long articles: subjects of which more is known, sentence by sentence, in `long/*.yaml`.

The giant panda is one: 熊猫：自然界的温柔使者, of 800 characters and more under four headings.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import yaml

from unified_data.pocket.subjects import Subject
from unified_data.world.article_bodies import ArticleBody, Passage
from unified_data.world.article_lengths import fitting_length, text_length
from unified_data.world.prose import Manner, Prose
from unified_data.world.wordings import Language, facts_of_subject

__all__ = ["LONG_SUBJECTS", "LONG_SUBTITLES", "LongSection", "draw_long_body",
           "long_facts", "long_sections"]  # fmt: skip

LONG_SUBJECTS = ("giant panda",)
LONG_SUBTITLES: dict[Language, str] = {"en": "nature's gentle envoy", "zh": "自然界的温柔使者"}
_SENTENCES: dict[Language, tuple[int, int]] = {"en": (3, 5), "zh": (7, 11)}
"""How few and how many sentences a section has: together at least 800 characters."""
_A_PARAGRAPH = 6


class LongSection(NamedTuple):
    """A section: its heading in English and in the article's language, and its sentences, each in
    several wordings."""

    heading: str
    heading_shown: str
    sentences: tuple[tuple[str, ...], ...]


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def long_sections(name: str, language: Language) -> tuple[LongSection, ...]:
    """The sections of a subject's long article. Raises ValueError for a subject that has none."""
    if name not in LONG_SUBJECTS:
        raise ValueError(f"{name!r} has no long article, only {', '.join(LONG_SUBJECTS)}")
    path = resources.files(__package__) / "long" / f"{name.replace(' ', '_')}.yaml"
    return tuple(
        LongSection(
            section["heading_en"],
            section[f"heading_{language}"],
            tuple(map(tuple, section[language])),
        )
        for section in yaml.load(path.read_text("utf-8"), Loader=_Loader)
    )


def draw_long_body(
    subject: Subject, language: Language, split: str, rng: np.random.Generator
) -> ArticleBody:
    """Every section, mostly in its order, with most of its sentences, each in any wording.

    A prompt says the sections, or the length, or both. Facts are numbered on behind those of
    `wordings.facts_of_subject`, section by section.
    """
    sections = long_sections(subject.name, language)
    starts = [len(facts_of_subject(subject))]
    for section in sections:
        starts.append(starts[-1] + len(section.sentences))
    order = list(range(len(sections))) if rng.random() < 0.7 else list(rng.permutation(4))
    leads = facts_of_subject(subject)[0].wordings(language)
    passages = [Passage("", (leads[int(rng.integers(len(leads)))],))]
    facts = [(subject.name, 0)]
    low, high = _SENTENCES[language]
    for i in order:
        known = sections[i].sentences
        number = min(len(known), int(rng.integers(low, high + 1)))
        chosen = sorted(rng.permutation(len(known))[:number].tolist())
        manner: Manner = "flowing" if rng.random() < 0.6 else "plain"
        prose = Prose(language, split, manner)
        halves = (chosen[: number // 2], chosen[number // 2 :])
        parts = halves if number > _A_PARAGRAPH else (chosen,)
        lines = tuple(prose.paragraph([known[j] for j in part], rng) for part in parts)
        passages.append(Passage(sections[i].heading_shown, lines))
        facts += [(subject.name, starts[i] + j) for j in chosen]
    wishes: dict[str, Any] = {}
    shuffled = order != sorted(order)
    if shuffled or rng.random() < 0.5:
        wishes["sections"] = tuple(sections[i].heading for i in order)
    lines_of_all = [line for p in passages for line in (p.heading, *p.lines)]
    kind = "about" if rng.random() < 0.25 else "least"
    length = fitting_length(kind, text_length("\n".join(lines_of_all)), language)
    wishes["length"] = length or fitting_length("least", 801, language)
    return ArticleBody("article", (subject,), tuple(passages), tuple(facts), wishes)


def long_facts(name: str, language: Language) -> tuple[tuple[str, ...], ...]:
    """The wordings of every sentence of a subject's long article; none of other subjects."""
    if name not in LONG_SUBJECTS:
        return ()
    return tuple(s for section in long_sections(name, language) for s in section.sentences)

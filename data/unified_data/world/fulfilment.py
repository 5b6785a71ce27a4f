"""Whether an article is what was wished for, wish by wish."""

from __future__ import annotations

import re
from collections.abc import Sequence

from unified_data.world.article_bodies import DEFAULT_ITEMS, KIN, SUMMARY
from unified_data.world.article_lengths import fulfils_length, text_length
from unified_data.world.long_articles import LONG_SUBJECTS, long_sections
from unified_data.world.prose import split_sentences
from unified_data.world.wishes import NO_VOICE, Wishes, title
from unified_data.world.wordings import Language, heading_in, subject_named

__all__ = ["SIMPLE_SENTENCE", "plain_lines", "unmet_wishes"]

SIMPLE_SENTENCE: dict[Language, float] = {"en": 70.0, "zh": 23.0}
"""Characters that a sentence for children has at most, on average over an article."""

_CAPTION = re.compile(r"!\[[^\]]*\]")
_VOICE = re.compile(r"^> \((\w+)\) ", re.MULTILINE)
_HEADING = re.compile(r"^(#+) (.*)$", re.MULTILINE)
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_LETTER = re.compile(r"[A-Za-z\u4e00-\u9fff]")


def unmet_wishes(text: str, wishes: Wishes) -> tuple[str, ...]:
    """What a Markdown text does not hold of what was wished, as names of fields of `Wishes`.

    Pictures are counted by their captions. What goes unsaid is looked at as well: `pictures` is
    unmet where there is one that nobody asked for. `form` is unmet where there is a title and
    should be none, or the other way round; `language` where most letters are of another.
    """
    unmet = []
    captions = len(_CAPTION.findall(text))
    voices = _VOICE.findall(text)
    headings = [match[2].strip() for match in _HEADING.finditer(text) if match[1] != "#"]
    titles = [match[2].strip() for match in _HEADING.finditer(text) if match[1] == "#"]
    prose = _CAPTION.sub("", text)
    letters = len(_LETTER.findall(prose))
    chinese = len(_CHINESE.findall(prose)) > 0.5 * letters
    if not letters or chinese != (wishes.language == "zh"):
        unmet.append("language")
    if titles != ([] if wishes.form == "paragraph" else [title(wishes)]):
        unmet.append("form" if wishes.form == "paragraph" else "title")
    if not _right_sections(headings, wishes):
        unmet.append("without" if _denied(headings, wishes) else "sections")
    items = len(re.findall(r"^- ", text, re.MULTILINE))
    counted = wishes.form == "list" and not (wishes.sections and wishes.items is None)
    if counted and items != (wishes.items or DEFAULT_ITEMS):
        unmet.append("items")
    characters = text_length(text)
    if wishes.length and not fulfils_length(wishes.length, characters, wishes.language):
        unmet.append("length")
    sentences = [s for line in plain_lines(text) for s in split_sentences(line)]
    if wishes.children and _mean_length(sentences) > SIMPLE_SENTENCE[wishes.language]:
        unmet.append("children")
    if captions != (wishes.pictures or 0):
        unmet.append("pictures")
    if voices != [v for v in (wishes.narration,) if v not in (None, NO_VOICE)]:
        unmet.append("narration")
    return tuple(unmet)


def plain_lines(text: str) -> list[str]:
    """The lines of prose: without title, headings, captions, phonemes and marks of Markdown."""
    lines = []
    for line in _VOICE.sub("", _CAPTION.sub("", text)).splitlines():
        line = line.strip()
        if line and not line.startswith("#") and not re.fullmatch(r"/.*/", line):
            lines.append(re.sub(r"^[->] ", "", line))
    return lines


def _mean_length(sentences: Sequence[str]) -> float:
    return sum(map(len, sentences)) / max(1, len(sentences))


def _right_sections(headings: list[str], wishes: Wishes) -> bool:
    if wishes.form in ("paragraph", "list"):
        return not headings
    extras = (SUMMARY[wishes.language], KIN[wishes.language])
    present = [heading for heading in headings if heading not in extras]
    if wishes.sections:
        return present == _shown(wishes.sections, wishes)
    own = [s.heading for s in wishes.first.sections]
    for name in wishes.subjects[1:]:
        other = [s.heading for s in subject_named(name).sections]
        own = [heading for heading in own if heading in other]
    expected = _shown([h for h in own if h not in wishes.without], wishes)
    if present == expected:
        return True
    if wishes.length is None:
        return False
    # As many characters as wished for may leave no room for all of them, or ask for more.
    long = wishes.subjects[0] in LONG_SUBJECTS and [
        section.heading_shown for section in long_sections(wishes.subjects[0], wishes.language)
    ]
    if present == long:
        return True
    in_order = [heading for heading in expected if heading in present]
    return wishes.length.number is not None and bool(present) and present == in_order


def _denied(headings: list[str], wishes: Wishes) -> bool:
    return any(heading in _shown(wishes.without, wishes) for heading in headings)


def _shown(headings: Sequence[str], wishes: Wishes) -> list[str]:
    """Headings as they stand in an article of the language."""
    headings_shown = {}
    if wishes.subjects[0] in LONG_SUBJECTS:
        sections = long_sections(wishes.subjects[0], wishes.language)
        headings_shown = {section.heading: section.heading_shown for section in sections}
    return [headings_shown.get(h) or heading_in(h, wishes.language) for h in headings]

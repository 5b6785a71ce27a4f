"""From a prompt in free words to the canonical prompt of an article of the world.

    A short article for children about the fox: first its food, then where it lives; two photos
    ->  Write: The fox. Sections: food, home. Short. For children. Pictures: 2.

What the world's own words (`unified_data.world.wish_words`) say is read exactly; of the rest as
much as the words of prompts in English tell. Every wish is in the prompt or in a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

from unified.pocket.prompt_parser import parse_requests
from unified.world.drawing_zh import is_chinese
from unified.world.world_subjects import WorldSubjects
from unified.world.world_tasks import CHINESE_SPEAKER
from unified_base.arguments import flag, whole_or_none
from unified_base.arguments import prompt as check_prompt
from unified_data.document import Document, Text
from unified_data.pocket.subjects import Subject
from unified_data.world.article_lengths import text_length
from unified_data.world.fulfilment import unmet_wishes
from unified_data.world.long_articles import LONG_SUBJECTS, long_sections
from unified_data.world.narration import narrators
from unified_data.world.wish_reader import find_wishes, read_wishes
from unified_data.world.wish_words import SECTION_WORDS
from unified_data.world.wishes import DEFAULT_PICTURES, MAX_PICTURES, NO_VOICE, Form, Wishes
from unified_data.world.wordings import Language

__all__ = ["read_article", "what_is_missing"]

_READERS: dict[Language, str] = {"en": "ben", "zh": CHINESE_SPEAKER}
"""Who reads an article, where nobody names a voice."""
_COMPARED = re.compile(
    r"\b(?:compare|comparison|versus|vs|differ\w*|between)\b|比较|对比|不同|区别", re.IGNORECASE
)
_LISTED = re.compile(r"\b(?:list|bullet)\w*\b|列表|清单|列出", re.IGNORECASE)
_PARAGRAPH = re.compile(r"\b(?:paragraph|tell me)\b|一段", re.IGNORECASE)
_LABEL = re.compile(r"\s*(?:(?:write|title|article|prompt)\s*:|写[：:])", re.IGNORECASE)
# Of a prompt's opener, once its subject is found.
_IN_CHINESE = re.compile(r"\bin (?:chinese|mandarin)\b|用中文|用汉语", re.IGNORECASE)
_IN_ENGLISH = re.compile(r"\bin english\b|用英文|用英语", re.IGNORECASE)
# Of a prompt's opener, once its subject is found.
_OPENER_WORDS = re.compile(
    r"\b(?:write|tell|me|an?|the|article|articles|text|essay|about|on|of|for me|please|something"
    r"|compare|comparison|versus|vs|with|and|between|list|paragraph|differ|how|do|to read|what|is"
    r"|i would like|difference|differences|are|us|in|one)\b"
    r"|请|帮我|给我|我想要|写|一篇|一段|一个|关于|文章|介绍|一下|比较|对比|和|与|有什么|不同|区别"
    r"|列出|清单|列表|特点|的|话|说说|讲讲|成",
    re.IGNORECASE,
)
_FILLERS_ZH = re.compile(
    r"文章|包括|包含|涵盖|内容|要有|需要|先写|再写|然后|最后|[写讲说、和与及的，。]"
)


def read_article(
    prompt: str, known: WorldSubjects, images: int | None = None, audio: bool = True
) -> tuple[Wishes, tuple[str, ...]]:
    """The wishes of a prompt, and notes on those that no article of the world can fulfil.

    images: number of pictures, before what the prompt says; audio=False: no narration. Where
    nothing is said an article has `DEFAULT_PICTURES` pictures, and a narration if it has a title.

    Raises UnknownSubjectError, naming the nearest, for a subject that is not known, and ValueError
    for an empty prompt.
    """
    check_prompt("prompt", prompt, 'name a subject, for example "The giant panda"')
    images, audio = whole_or_none("images", images, 0), flag("audio", audio)
    notes: list[str] = []
    try:
        wishes = read_wishes(prompt)
    except ValueError:
        wishes = _read_freely(" ".join(prompt.split()), known, notes)
    for name in wishes.subjects:
        if known.known.find(name) is None:
            raise known.unknown(name)
    return _with_media(_with_sections(wishes, notes), images, audio, notes), tuple(notes)


def what_is_missing(wishes: Wishes, document: Document) -> tuple[str, ...]:
    """Notes on what an article was to be and is not."""
    texts = [s.text for s in document if isinstance(s, Text) and s.role != "prompt"]
    text = "".join(texts)
    asked = {
        "length": f"length (asked: {_length(wishes)}; came: {text_length(text)} characters)",
        "pictures": f"pictures (asked: {wishes.pictures or 0})",
    }
    unmet = [asked.get(field, field) for field in unmet_wishes(text, wishes)]
    return (f"not as asked: {', '.join(unmet)} (another --seed may do better)",) if unmet else ()


def _length(wishes: Wishes) -> str:
    length = wishes.length
    return "any" if length is None else f"{length.kind} {length.number or ''}".strip()


def _read_freely(prompt: str, known: WorldSubjects, notes: list[str]) -> Wishes:
    language: Language = "zh" if is_chinese(prompt) else "en"
    written: Language = language
    for pattern, of_it in ((_IN_CHINESE, "zh"), (_IN_ENGLISH, "en")):
        if pattern.search(prompt):
            written = of_it  # type: ignore[assignment]
            prompt = pattern.sub(" ", prompt).strip()
    if label := _LABEL.match(prompt):
        prompt = prompt[label.end() :].strip()
    subjects, spans = _subjects(prompt, known, language)
    if not subjects:
        raise known.unknown(
            " ".join(_OPENER_WORDS.sub(" ", _first_clause(prompt)).split()) or prompt
        )
    compared = len(subjects) > 1 and _COMPARED.search(prompt) is not None
    form: Form = "comparison" if compared else "article"
    if not compared:
        form = "list" if _LISTED.search(prompt) else form
        form = "paragraph" if _PARAGRAPH.search(prompt) else form
    number = 2 if compared else 1
    clause = len(_first_clause(prompt))
    for subject, (start, _) in list(zip(subjects, spans))[number:]:
        if start > clause:  # "home" is a house, and where the fox lives
            continue
        notes.append(
            f"left out: {subject.name!r}; an article is about one subject, or compares two"
        )
    subtitle, rest = _subtitle(prompt, spans[number - 1][1], language)
    before = prompt[: spans[0][0]]
    pieces = [before, *(prompt[a[1] : b[0]] for a, b in pairwise(spans[:number])), rest]
    text = _OPENER_WORDS.sub(_blank, pieces[0]) + " . " + " . ".join(pieces[1:])
    values = _values(text, subjects[0], language, notes)
    names = tuple(subject.name for subject in subjects[:number])
    return Wishes(written, form, names, (), subtitle, **values)


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _first_clause(prompt: str) -> str:
    return re.split(r"[.:;,!?。：；，！？]", prompt)[0]


def _subjects(
    prompt: str, known: WorldSubjects, language: Language
) -> tuple[list[Subject], list[tuple[int, int]]]:
    """The subjects that a prompt names, each once, and where."""
    if language == "zh":
        named = [(a, b, s) for a, b, s in known.mentions_zh(prompt) if s is not None]
    else:
        named = [(m.start, m.stop, m.subject) for m in known.mentions(prompt.lower())]
    subjects: list[Subject] = []
    spans: list[tuple[int, int]] = []
    for start, stop, subject in named:
        if subject not in subjects:
            subjects.append(subject)
            spans.append((start, stop))
    return subjects, spans


def _subtitle(prompt: str, stop: int, language: Language) -> tuple[str, str]:
    """What stands behind a title's colon up to the end of its sentence, unless it is a wish; and
    the rest."""
    match = re.match(r"\s*[:：]\s*([^.。?!？！;；\n]+)", prompt[stop:])
    if match is None:
        return "", prompt[stop:]
    pairs, left = find_wishes(match[1], language)
    is_wish = pairs and not left
    if is_wish or (language == "en" and parse_requests(match[1]).sections):
        return "", prompt[stop:]
    return match[1].strip(), prompt[stop + match.end() :]


def _values(text: str, subject: Subject, language: Language, notes: list[str]) -> dict[str, Any]:
    """The fields of `Wishes` in a text of free words; notes on those that there are not."""
    values: dict[str, Any] = {}
    pairs, left = find_wishes(text, language)
    for field, value in pairs:
        if values.setdefault(field, value) != value:
            notes.append(f"two wishes for {field}: the first is taken, {values[field]}")
    if language == "en" and left:
        left = _more_values(left, subject, values, notes)
    elif left:
        left = _more_sections(left, values)
    for item in [left] if left.strip() else []:
        notes.append(f"not understood and left out: {item!r}")
    for field, most in (("pictures", MAX_PICTURES), ("items", 12)):
        if values.get(field, 0) > most:
            notes.append(f"{values[field]} {field} are asked for; an article has {most} at most")
            values[field] = most
    return values


def _more_values(text: str, subject: Subject, values: dict[str, Any], notes: list[str]) -> str:
    """Wishes in other English words than the world's. Returns what is no wish."""
    headings = tuple(section.heading for section in subject.sections)
    requests = parse_requests(text, headings)
    for field, groups in (("sections", requests.sections), ("without", requests.excluded)):
        chosen = dict.fromkeys(_first_of(group, headings) or group[0] for group in groups)
        if chosen and field not in values:
            values[field] = tuple(chosen)
    if requests.pictures is not None:
        values.setdefault("pictures", requests.pictures)
    if requests.narration is not None:
        values.setdefault("narration", _READERS["en"] if requests.narration else NO_VOICE)
    for item in requests.unmet:
        if not _LISTED.search(item) and not _PARAGRAPH.search(item):  # which are forms
            notes.append(f"left out: {item!r}; no article of the model is asked for so")
    return "; ".join(requests.unread)


def _more_sections(text: str, values: dict[str, Any]) -> str:
    """Sections named in Chinese in any order of words. Returns what is no wish."""
    words = {word: heading for heading, table in SECTION_WORDS.items() for word in table["zh"]}
    pattern = re.compile("|".join(sorted(map(re.escape, words), key=len, reverse=True)))
    headings = tuple(dict.fromkeys(words[match[0]] for match in pattern.finditer(text)))
    if headings and "sections" not in values:
        values["sections"] = headings
        text = pattern.sub(" ", text)
    return " ".join(_FILLERS_ZH.sub(" ", text).split())


def _first_of(candidates: Iterable[str], headings: tuple[str, ...]) -> str | None:
    return next((heading for heading in candidates if heading in headings), None)


def _with_sections(wishes: Wishes, notes: list[str]) -> Wishes:
    """Without sections that nothing is known for; a section left out is not asked for."""
    has = {section.heading for section in wishes.first.sections}
    if wishes.subjects[0] in LONG_SUBJECTS:
        has |= {s.heading for s in long_sections(wishes.subjects[0], wishes.language)}
    unknown = [heading for heading in wishes.sections if heading not in has]
    if unknown:
        notes.append(
            f"nothing is known of the {wishes.subjects[0]} under {', '.join(unknown)}; there is"
            f" {', '.join(section.heading for section in wishes.first.sections)}"
        )
    without = tuple(heading for heading in wishes.without if heading in has)
    sections = tuple(h for h in wishes.sections if h in has and h not in without)
    return replace(wishes, sections=sections, without=() if sections else without)


def _with_media(wishes: Wishes, images: int | None, audio: bool, notes: list[str]) -> Wishes:
    pictures, narration = wishes.pictures, wishes.narration
    if images is not None:
        pictures = images
    elif pictures is None:
        pictures = DEFAULT_PICTURES
    if pictures > MAX_PICTURES:
        notes.append(f"{pictures} pictures are asked for; an article has {MAX_PICTURES} at most")
        pictures = MAX_PICTURES
    voices = narrators(wishes.language)
    if narration not in (None, NO_VOICE) and (not audio or narration not in voices):
        why = f"there are {', '.join(voices)}" if audio else "sound is switched off"
        notes.append(f"left out: the narration by {narration!r}; {why}")
        narration = NO_VOICE
    elif narration is None:
        unread = NO_VOICE if not audio else None
        narration = _READERS[wishes.language] if audio and wishes.form == "article" else unread
    return replace(wishes, pictures=pictures, narration=narration)

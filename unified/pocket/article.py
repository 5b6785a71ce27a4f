"""From a prompt in plain words to an illustrated, narrated article.

    The giant panda: nature's gentle envoy. First its looks, then its home and the threats to it;
    three pictures

A prompt is a title that names a subject, perhaps a subtitle, perhaps requests (`prompt_parser`). It
becomes the prompt that the model was trained on and a slot that holds exactly the pictures and
narrations wanted. A model that says nothing of what it knows (no subjects.json) gets the prompt as
it stands.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from unified.pocket.known_subjects import KnownSubjects, Mention
from unified.pocket.prompt_parser import FILLERS, UserRequests, has_request, is_list, parse_requests
from unified_base.arguments import flag, whole_or_none
from unified_base.arguments import prompt as check_prompt
from unified_data.document import Document, Slot, Text
from unified_data.pocket.articles import MAX_PICTURES, plan_prompt
from unified_data.pocket.scenes import SIDE
from unified_data.pocket.subjects import Subject

if TYPE_CHECKING:
    from unified.models.model import UnifiedModel

__all__ = [
    "DEFAULT_PICTURES",
    "ArticlePlan",
    "article_request",
    "headings_of",
    "plan_article",
    "shortfall",
    "write",
]

DEFAULT_PICTURES = 3

_LABEL = re.compile(r"\s*(?:write|title|article|prompt)\s*:", re.IGNORECASE)
_BREAK = re.compile(r"[.:;!?,()\n]|\s[-–]+\s|—")
_WORD = re.compile(r"[\w'’-]+")
# Words that may stand beside a subject without making it another one: "the mighty oak", but no
# "polar" before a bear.
_PRAISE_WORDS = """
    amazing amusing beautiful beloved brave charming clever common curious delicious delightful
    famous fascinating friendly gentle good great happy humble incredible interesting lovely
    magnificent majestic mighty modern mysterious noble nice ordinary proud remarkable secret
    simple splendid strange sweet tasty true useful wonderful world illustrated narrated silent
    article"""
_PRAISE = frozenset(_PRAISE_WORDS.split())
_NEAR = 80
_MANY = re.compile(r"\b(?:many|lots of|plenty of|as many as possible|all) (?:pictures|images)\b")


@dataclass(frozen=True)
class ArticlePlan:
    """What an article shall hold. sections: headings in the order wanted. notes: for the user."""

    subject: Subject
    sections: tuple[str, ...]
    num_pictures: int
    narration: bool
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _ = self.prompt  # refuses what no prompt can ask for

    @property
    def prompt(self) -> str:
        """The prompt that the model was trained on."""
        return plan_prompt(self.subject, self.sections, self.num_pictures, self.narration)


def plan_article(
    prompt: str, known: KnownSubjects, images: int | None = None, audio: bool = True
) -> ArticlePlan:
    """Read a prompt. images: number of pictures, before what the prompt says; audio=False: silent.

    A bare title asks for every section in the subject's own order, three pictures and a narration.

    Raises UnknownSubjectError (naming the nearest) for a subject that is not known, ValueError for
    an empty prompt, more pictures than the model was trained on, or requests that leave no section.
    """
    check_prompt("prompt", prompt, 'name a subject, for example "The giant panda"')
    images, audio = whole_or_none("images", images, 0), flag("audio", audio)
    subject, rest, subtitle = _title(prompt, known)
    headings = tuple(section.heading for section in subject.sections)
    requests = parse_requests(rest, headings)
    if subtitle and not requests.sections and is_list(subtitle, headings):
        requests = parse_requests(f"{subtitle} . {rest}", headings)
    notes = [f"not understood and left out: {item!r}" for item in requests.unread]
    sections, missing = _choose(requests, headings)
    if missing:
        has = ", ".join(headings)
        text = f"nothing is known of the {subject.name} under {', '.join(missing)}; there is {has}"
        if not sections:
            raise ValueError(text)
        notes.append(text)
    if not sections:
        raise ValueError(
            f"the requests leave no section of {', '.join(headings)}; keep at least one"
        )
    if images is not None:
        pictures = images
    elif requests.pictures is not None:
        pictures = requests.pictures
    else:
        pictures = MAX_PICTURES if _MANY.search(prompt.lower()) else DEFAULT_PICTURES
    narration = audio and requests.narration is not False
    if requests.narration and not audio:
        notes.append("the prompt asks for a narration, but audio is switched off: it is left out")
    return ArticlePlan(subject, sections, pictures, narration, tuple(notes))


def _choose(
    requests: UserRequests, headings: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The headings wanted, in order, and those wanted that the subject does not have."""

    def meant(candidates: tuple[str, ...]) -> str | None:
        return next((heading for heading in candidates if heading in headings), None)

    excluded = {meant(candidates) for candidates in requests.excluded}
    chosen: dict[str, None] = {}
    missing: dict[str, None] = {}
    for candidates in requests.sections:
        heading = meant(candidates)
        if heading is None:
            missing[candidates[0]] = None
        elif heading not in excluded:
            chosen[heading] = None
    if requests.rest or not requests.sections:
        chosen.update(dict.fromkeys(h for h in headings if h not in excluded))
    return tuple(chosen), tuple(missing)


def _title(prompt: str, known: KnownSubjects) -> tuple[Subject, str, str | None]:
    """The subject, the text with its requests, and the subtitle (what a colon introduces)."""
    if label := _LABEL.match(prompt):
        prompt = prompt[label.end() :]
    clauses = _clauses(prompt)
    if not clauses:
        raise ValueError('the prompt names no subject; begin with one, as in "The giant panda"')
    first, stop, mark = clauses[0]
    mention = _subject_in(first, known)
    if mention is not None:
        around = f"{first[: mention.start]} {first[mention.stop :]}"
        around = " ".join(w for w in _WORD.findall(around) if w.lower() not in _PRAISE)
        rest = prompt[stop:]
        subtitle = None
        if mark == ":":
            subtitle, _, rest = rest.partition(".")
        # What stands beside the subject requests for sections ("the history of the bicycle").
        return mention.subject, f"{around} . {rest}", subtitle
    # "Nature's gentle envoy: the giant panda": a clause that is the subject and nothing else.
    if len(clauses) > 1 and mark in (":", "—", "-", "–"):
        second, stop, _ = clauses[1]
        if subject := known.find(second):
            return subject, prompt[stop:], None
    words = [word for word in _WORD.findall(first) if word.lower() not in FILLERS]
    if not words:
        raise ValueError(
            f"the prompt names no subject in {first.strip()!r}; "
            'begin with one, as in "The giant panda"'
        )
    raise known.unknown(" ".join(words))


def _clauses(text: str) -> list[tuple[str, int, str]]:
    """(clause, where the text after it goes on, the mark that ends it) of the non-empty ones."""
    clauses, start = [], 0
    for match in [*_BREAK.finditer(text), None]:
        clause = text[start : match.start() if match else len(text)]
        end = match.end() if match else len(text)
        if clause.strip():
            clauses.append((clause, end, match[0].strip() if match else ""))
        start = end
    return clauses


def _subject_in(clause: str, known: KnownSubjects) -> Mention | None:
    """The subject of a title: a mention that the words beside it do not make into another thing.

    "the red panda" and "a fire drill" name no known subject; "the history of the bicycle" does.
    """
    if subject := known.find(clause):
        return Mention(len(clause) - len(clause.lstrip()), len(clause.rstrip()), subject)
    good = [m for m in known.mentions(clause) if _stands_alone(clause, m)]
    for earlier, later in pairwise(good):
        between = clause[earlier.stop : later.start].strip().lower()
        if not re.fullmatch(r"(?:of|about|on|for|inside)(?: (?:an?|the))?", between):
            return earlier
    return good[-1] if good else None


def _stands_alone(clause: str, mention: Mention) -> bool:
    # The words next to it decide, and none of those that may stand there is as long as this.
    before = _WORD.findall(clause[max(0, mention.start - _NEAR) : mention.start])
    following = clause[mention.stop : mention.stop + _NEAR]
    after = _WORD.findall(re.sub(r"^['’]s?(?!\w)", " ", following))
    return (not before or _is_plain(before[-1])) and (not after or _is_plain(after[0]))


def _is_plain(word: str) -> bool:
    word = word.lower().replace("’", "'")
    return word in FILLERS or word in _PRAISE or word.isdigit() or has_request(word)


def article_request(
    prompt: str, plan: ArticlePlan | None, images: int | None = None, audio: bool = True
) -> Document:
    """The document that asks for an article: a prompt and a slot for everything after it.

    plan: None for a model without subjects.json, which gets the prompt itself, `images` pictures
    (None: as many as it likes) and, at audio=False, no sound.
    """
    if plan is not None:
        audios = 1 if plan.narration else 0
        slot = Slot("any", SIDE, SIDE, num_images=plan.num_pictures, num_audios=audios)
        prompt = plan.prompt
    else:
        check_prompt("prompt", prompt, "say what to write about")
        images, audio = whole_or_none("images", images, 0), flag("audio", audio)
        slot = Slot("any", num_images=images, num_audios=None if audio else 0)
    return Document((Text(prompt, role="prompt", loss=0.0), replace(slot, role="response")))


def headings_of(document: Document) -> tuple[str, ...]:
    """The section headings (`## ...`) of an article, in order."""
    headings: list[str] = []
    for segment in document:
        if isinstance(segment, Text) and segment.role != "prompt":
            headings += re.findall(r"^## +(.+?) *$", segment.text, re.MULTILINE)
    return tuple(headings)


def shortfall(plan: ArticlePlan, document: Document) -> str | None:
    """What to tell the user where the sections did not come as asked for; None where they did."""
    came = headings_of(document)
    if came == plan.sections:
        return None
    return (
        f"the sections came as {', '.join(came) or 'none'}; "
        f"asked for were {', '.join(plan.sections)} (another --seed may do better)"
    )


def write(
    model: UnifiedModel, prompt: str, images: int | None = None, audio: bool = True, seed: int = 0
) -> Document:
    """Write an article: the document with its prompt and, as response, text, pictures and sound.

    Notes on the prompt (what was not understood, which sections are missing) and on the result are
    given as warnings. Raises ValueError as `plan_article` does.
    """
    known = KnownSubjects.load(model.directory) if model.directory else None
    plan = plan_article(prompt, known, images, audio) if known else None
    (document,) = model.generate(article_request(prompt, plan, images, audio), seed=seed)
    notes = list(plan.notes) if plan else []
    if plan and (note := shortfall(plan, document)):
        notes.append(note)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return document

"""From a prompt in plain words to the plan of an illustrated, narrated article.

    The giant panda: nature's gentle envoy. First its looks, then its home and the threats to it;
    three pictures

A prompt is a title that names a subject, perhaps a subtitle, perhaps requests (`prompt_parser`). A
plan holds what the model was trained to follow; of everything else that was asked for, its notes
tell the user.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from unified.pocket.known_subjects import KnownSubjects, Mention
from unified.pocket.prompt_parser import UserRequests, has_request, is_list, parse_requests
from unified.pocket.prompt_words import FILLERS, UNMET
from unified_base.arguments import flag, whole_or_none
from unified_base.arguments import prompt as check_prompt
from unified_data.pocket.articles import MAX_PICTURES, plan_prompt
from unified_data.pocket.subjects import Subject

__all__ = ["DEFAULT_PICTURES", "ArticlePlan", "plan_article"]

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
    simple splendid strange sweet tasty true useful wonderful world"""
_PRAISE = frozenset(_PRAISE_WORDS.split())
_MEDIA_WORDS = frozenset(["illustrated", "narrated", "silent"])
_NEAR = 80
_MOST_WORDS = 6  # of a subject's name
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
    More pictures than the model was trained on become as many as it was, with a note.

    Raises UnknownSubjectError (naming the nearest) for a subject that is not known, ValueError for
    an empty prompt, fewer than no pictures, or requests that leave no section.
    """
    check_prompt("prompt", prompt, 'name a subject, for example "The giant panda"')
    images, audio = whole_or_none("images", images, 0), flag("audio", audio)
    title = _read_title(prompt, known)
    headings = tuple(section.heading for section in title.subject.sections)
    requests = parse_requests(title.rest, headings)
    notes = list(title.notes)
    if title.subtitle.strip():
        if not requests.sections and is_list(title.subtitle, headings):
            requests = parse_requests(f"{title.subtitle} . {title.rest}", headings)
        else:
            subtitle, *others = re.split(r"[,;]", title.subtitle, maxsplit=1)
            requests = parse_requests(" . ".join([*others, title.rest]), headings)
            notes.append(
                f"the subtitle {' '.join(subtitle.split())!r} is left out: a title is the name of "
                "its subject"
            )
    if requests.unmet:
        unmet = ", ".join(repr(item) for item in dict.fromkeys(requests.unmet))
        notes.append(f"left out: {unmet}; the model writes articles of one length and one style")
    notes += [f"not understood and left out: {item!r}" for item in requests.unread]
    sections, missing = _choose(requests, headings)
    if missing:
        has = ", ".join(headings)
        text = f"nothing is known of the {title.subject.name} under {', '.join(missing)}; "
        text += f"there is {has}"
        if not sections:
            raise ValueError(text)
        notes.append(text)
    if not sections:
        raise ValueError(
            f"the requests leave no section of {', '.join(headings)}; keep at least one"
        )
    pictures = _num_pictures(prompt, requests, images, notes)
    narration = audio and requests.narration is not False
    if requests.narration and not audio:
        notes.append("the prompt asks for a narration, but audio is switched off: it is left out")
    return ArticlePlan(title.subject, sections, pictures, narration, tuple(notes))


def _num_pictures(prompt: str, requests: UserRequests, images: int | None, notes: list[str]) -> int:
    """The number of pictures asked for, at most `MAX_PICTURES`; a note says where it is less."""
    if images is not None:
        asked = images
    elif requests.pictures is not None:
        asked = requests.pictures
    else:
        asked = MAX_PICTURES if _MANY.search(prompt.lower()) else DEFAULT_PICTURES
    if asked > MAX_PICTURES:
        notes.append(f"{asked} pictures are asked for; an article of this model has {MAX_PICTURES}")
    return min(asked, MAX_PICTURES)


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


@dataclass(frozen=True)
class _Title:
    """The subject of a prompt, the text with its requests, and the subtitle after a colon."""

    subject: Subject
    rest: str
    subtitle: str = ""
    notes: tuple[str, ...] = ()


def _read_title(prompt: str, known: KnownSubjects) -> _Title:
    """Raises ValueError for a prompt whose title names no subject, or one that is not known."""
    if label := _LABEL.match(prompt):
        prompt = prompt[label.end() :]
    clauses = _clauses(prompt)
    if not clauses:
        raise ValueError('the prompt names no subject; begin with one, as in "The giant panda"')
    first, stop, mark = clauses[0]
    mention = _subject_in(first, known)
    if mention is not None:
        around = _WORD.findall(f"{first[: mention.start]} {first[mention.stop :]}")
        praise = [word for word in around if word.lower() in _PRAISE]
        around = [word for word in around if word.lower() not in _PRAISE]
        notes = [f"left out of the title: {' '.join(praise)!r}"] if praise else []
        rest, subtitle = prompt[stop:], ""
        if mark == ":":
            subtitle, _, rest = rest.partition(".")
        # What stands beside the subject asks for sections ("the history of the bicycle").
        return _Title(mention.subject, f"{' '.join(around)} . {rest}", subtitle, tuple(notes))
    # "Nature's gentle envoy: the giant panda": a clause that is the subject and nothing else.
    if len(clauses) > 1 and mark in (":", "—", "-", "–"):
        second, second_stop, _ = clauses[1]
        if subject := known.find(second):
            note = f"left out of the title: {' '.join(first.split())!r}"
            return _Title(subject, prompt[second_stop:], notes=(note,))
    words = [w for w in _WORD.findall(UNMET.sub(" ", first.lower())) if not _asks_or_fills(w)]
    if not words:
        raise ValueError(
            f"the prompt names no subject in {first.strip()!r}; "
            'begin with one, as in "The giant panda"'
        )
    name = re.sub(r"['’]s$", "", " ".join(words[:_MOST_WORDS]))
    if len(words) <= _MOST_WORDS and (subject := known.meant(name)):
        asked = " ".join(word for word in _WORD.findall(first) if word.lower() not in words)
        rest, subtitle = prompt[stop:], ""
        if mark == ":":
            subtitle, _, rest = rest.partition(".")
        note = f"{name!r} is taken for the {subject.name}, the nearest that the model knows"
        return _Title(subject, f"{asked} . {rest}", subtitle, (note,))
    raise known.unknown(" ".join(words))


def _asks_or_fills(word: str) -> bool:
    return word.lower() in FILLERS or word.lower() in _MEDIA_WORDS or has_request(word)


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
    plain = word in FILLERS or word in _PRAISE or word in _MEDIA_WORDS
    return plain or word.isdigit() or has_request(word)

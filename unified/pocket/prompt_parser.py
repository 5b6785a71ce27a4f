"""What a user asks of an article, in plain words: sections, their order, pictures, narration.

    First its looks, then its home and the threats to it; three pictures, no narration

Words are looked up in a lexicon; nothing is guessed from what they look like. What asks for
something that no article of these models can have (a length, a style, readers, a language) comes
back as `unmet`, and what is not understood as `unread`, so that the user can be told of both.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from unified.pocket.prompt_words import (
    FILLERS,
    LEXICON,
    NUMBER,
    NUMBERS,
    PICTURES,
    PLAIN_PICTURES,
    UNMET,
    VOICE,
)

__all__ = ["UserRequests", "has_request", "is_list", "number", "parse_requests"]

_NO = r"(?:no|without|neither|zero|minus)"

_NO_MEDIA = re.compile(
    rf"\b{_NO} (?:any |an? )?(?P<what>(?:{PICTURES}|{VOICE})"
    rf"(?: ?(?:,|or|and|nor) ?(?:any |no )?(?:{PICTURES}|{VOICE})\b)*)(?!\w)"
)
_TEXT_ONLY = re.compile(r"\b(?:text only|only text|just text|plain text)\b")
_LABELLED = re.compile(
    rf"\b{PICTURES} ?[:=] ?(?P<pictures>{NUMBER}|no|none)\b"
    rf"|\b(?:narration|audio) ?[:=] ?(?P<voice>yes|on|no|none|off)\b"
)
_COUNTED = re.compile(
    rf"(?<![\w-])(?:exactly )?(?P<n>{NUMBER}) "
    rf"(?P<manner>(?:(?!and\b|or\b|with\b|but\b|sections?\b)[a-z-]+ ){{0,2}}?){PICTURES}\b"
)
_PICTURED = re.compile(rf"\b(?:(?:with|in|and|some|the) )?(?:{PICTURES}|illustrated)\b")
_SILENT = re.compile(
    r"\b(?:silent(?:ly)?|muted?|unnarrated|(?:not|don't|do not)(?: be)? (?:narrated?|read|spoken)"
    r"(?: it)?(?: aloud| out(?: loud)?)?)\b"
)
_SPOKEN = re.compile(
    r"\b(?:(?:with|and) )?(?:an? )?(?:narration|narrated|narrator|audio|voice-?over"
    r"|read(?:ing)?(?: it)? (?:aloud|out(?: loud)?)|spoken|speech)\b"
)
_NOT = re.compile(
    r"\b(?:no|not|without|except(?: for)?|but not|(?:everything|all|anything) but|leav(?:e|ing) out"
    r"|skip(?:ping)?|omit(?:ting)?|minus|apart from|other than|nothing (?:about|on|of))\b"
)
_NOT_NOT = re.compile(r"\bnot (?:only|just)\b|\bnothing but\b|\bnot to forget\b")
_NOT_ENDS = re.compile(r"[.;,:!?]|\b(?:then|but|with|only|first)\b|\band (?:then|with)\b")
_REST = re.compile(
    r"\b(?:everything(?: else)?|the rest|all (?:the )?(?:other )?sections|whatever else)\b"
)
_CLAUSE = re.compile(r"[.;,:!?]|\b(?:and )?then\b")
_FIRST = re.compile(
    r"\b(?:first(?:ly)?|first of all|(?:start|begin|open)(?:s|ing)? (?:with|by|from))\b"
)
_LAST = re.compile(
    r"\b(?:last(?:ly)?|finally|at the end|(?:end|finish|close|conclude)(?:s|ing)? (?:with|by|on))\b"
)
_AFTER = re.compile(r" ?(?:comes? )?after (?:(?:its|the|their) )?")
_WORD = re.compile(r"[^\W\d_][\w'-]*")
_ITEM = re.compile(r"[.;,:!?]|\b(?:and|then|but|or)\b")

# What stands for something understood, so that its item is not reported as unread.
_MARK = "\x01"


@dataclass(frozen=True)
class UserRequests:
    """What a text asks for.

    sections: for each request, in the order asked for, the headings it may mean, best first.
    excluded: the same for sections not wanted. rest: whether all other sections come after.
    pictures, narration: None where nothing is said. unread: the parts that were not understood.
    unmet: those that ask for a length, a style, readers or a language.
    """

    sections: tuple[tuple[str, ...], ...] = ()
    excluded: tuple[tuple[str, ...], ...] = ()
    rest: bool = False
    pictures: int | None = None
    narration: bool | None = None
    unread: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()


def number(word: str) -> int:
    """The number of a number word ("three", "a few") or of digits."""
    return NUMBERS[word] if word in NUMBERS else int(word)


def has_request(text: str, headings: Iterable[str] = ()) -> bool:
    """Whether a text asks for anything that can be followed."""
    requests = parse_requests(text, headings)
    media = requests.pictures is not None or requests.narration is not None
    return bool(media or requests.rest or requests.sections or requests.excluded)


def is_list(text: str, headings: Iterable[str] = ()) -> bool:
    """Whether a text is a list of requests alone: "looks and food", not "food for all"."""
    pattern, _ = _patterns(tuple(headings))
    plain = pattern.sub(" ", _Media(_plain(text)).rest)
    return has_request(text, headings) and all(word in FILLERS for word in _WORD.findall(plain))


def parse_requests(text: str, headings: Iterable[str] = ()) -> UserRequests:
    """Read the requests in a text. headings: further headings known by their own names."""
    media = _Media(_plain(text))
    unmet = [*media.unmet, *(match[0] for match in UNMET.finditer(media.rest))]
    text = UNMET.sub(lambda match: _MARK * len(match[0]), media.rest)
    rest = bool(_REST.search(_NOT.sub("", text)))
    sections, excluded = _sections(text, tuple(headings))
    unread = _unread(text, tuple(headings))
    return UserRequests(
        sections, excluded, rest, media.pictures, media.narration, unread, tuple(unmet)
    )


def _plain(text: str) -> str:
    return " ".join(text.replace("\n", " . ").lower().replace("’", "'").split())


class _Media:
    """The requests for pictures and sound in a text, and the text with those marked out.

    unmet: what is asked of the pictures beside their number.
    """

    def __init__(self, text: str) -> None:
        self.rest = text
        self.pictures: int | None = None
        self.narration: bool | None = None
        self.unmet: list[str] = []
        for match in self._take(_LABELLED):
            if match["pictures"]:
                none = match["pictures"] in ("no", "none")
                self.pictures = 0 if none else number(match["pictures"])
            else:
                self.narration = match["voice"] in ("yes", "on")
        for match in self._take(_NO_MEDIA):
            if re.search(PICTURES, match["what"]):
                self.pictures = 0
            if re.search(VOICE, match["what"]):
                self.narration = False
        if self._take(_TEXT_ONLY):
            self.pictures, self.narration = 0, False
        for match in self._take(_COUNTED):
            self.pictures = number(match["n"])
            asked = [word for word in match["manner"].split() if word not in PLAIN_PICTURES]
            self.unmet += [f"{' '.join(asked)} pictures"] if asked else []
        self._take(_PICTURED)
        if self._take(_SILENT):
            self.narration = False
        if self._take(_SPOKEN) and self.narration is None:
            self.narration = True

    def _take(self, pattern: re.Pattern[str]) -> list[re.Match[str]]:
        """The matches of a pattern, which are marked out in the text."""
        matches = list(pattern.finditer(self.rest))
        self.rest = pattern.sub(lambda match: _MARK * len(match[0]), self.rest)
        return matches


def _patterns(headings: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, tuple[str, ...]]]:
    """One pattern of named groups for all words that ask for a section, and each one's headings."""
    listed = {heading for _, meant in LEXICON for heading in meant}
    entries = [*LEXICON, *((re.escape(h.lower()), (h,)) for h in headings if h not in listed)]
    meanings = {f"g{i}": meant for i, (_, meant) in enumerate(entries)}
    joined = "|".join(f"(?P<g{i}>{pattern})" for i, (pattern, _) in enumerate(entries))
    return re.compile(rf"(?<![\w-])(?:{joined})(?![\w-])"), meanings


def _sections(text: str, headings: tuple[str, ...]) -> tuple[tuple, tuple]:
    text = _NOT_NOT.sub(lambda match: " " * len(match[0]), text)
    pattern, meanings = _patterns(headings)
    denied = _denied(text)
    clauses = _Clauses(text)
    wanted: list[tuple[int, re.Match[str]]] = []
    excluded: list[tuple[str, ...]] = []
    for match in pattern.finditer(text):
        assert match.lastgroup is not None
        if denied[match.start()]:
            excluded.append(meanings[match.lastgroup])
        else:
            wanted.append((clauses.rank(match), match))
    for i in range(len(wanted) - 1):
        (_, earlier), (_, two) = wanted[i : i + 2]
        if _AFTER.fullmatch(text, earlier.end(), two.start()):
            wanted[i], wanted[i + 1] = wanted[i + 1], wanted[i]
    wanted.sort(key=lambda item: item[0])
    order = dict.fromkeys(meanings[match.lastgroup] for _, match in wanted if match.lastgroup)
    return tuple(order), tuple(dict.fromkeys(excluded))


def _denied(text: str) -> bytearray:
    """1 for every character that stands in what a text says it does without."""
    ends = [match.start() for match in _NOT_ENDS.finditer(text)]
    denied = bytearray(len(text))
    at = 0  # everything before it is settled
    for match in _NOT.finditer(text):
        following = bisect_left(ends, match.end())
        stop = ends[following] if following < len(ends) else len(text)
        start = max(at, match.start())
        if start < stop:
            denied[start:stop] = b"\1" * (stop - start)
            at = stop
    return denied


class _Clauses:
    """The clauses of a text, each looked at once."""

    def __init__(self, text: str) -> None:
        self.text = text
        breaks = list(_CLAUSE.finditer(text))
        self.starts = [match.start() for match in breaks]
        self.ends = [match.end() for match in breaks]
        self.ranks: dict[int, int] = {}

    def rank(self, match: re.Match[str]) -> int:
        """0 where the clause around a match says that it comes first, 2 where last, else 1."""
        before = bisect_right(self.ends, match.start())
        if before not in self.ranks:
            after = bisect_left(self.starts, match.end())
            start = self.ends[before - 1] if before else 0
            stop = self.starts[after] if after < len(self.starts) else len(self.text)
            clause = self.text[start:stop]
            last = 2 if _LAST.search(clause) else 1
            self.ranks[before] = 0 if _FIRST.search(clause) else last
        return self.ranks[before]


def _unread(text: str, headings: tuple[str, ...]) -> tuple[str, ...]:
    """The items in which no request was read, yet words that may have been meant as one."""
    pattern, _ = _patterns(headings)
    text = pattern.sub(_MARK, _REST.sub(_MARK, text))
    unread = []
    for item in _ITEM.split(text):
        words = [word.removesuffix("'s") for word in _WORD.findall(item)]
        if _MARK not in item and any(word not in FILLERS for word in words):
            unread.append(re.sub(r"^(?:an?|the) ", "", " ".join(item.split())))
    return tuple(unread)

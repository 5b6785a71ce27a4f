"""What a user asks of an article, in plain words: sections, their order, pictures, narration.

    First its looks, then its home and the threats to it; three pictures, no narration

Words are looked up in a lexicon; nothing is guessed from what they look like. What is left over
is handed back as `unread`, so that a wish that was not understood can be said to the user.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["FILLERS", "UserRequests", "has_request", "is_list", "number", "parse_requests"]

# Patterns of wish words, and the headings they may mean: the first that the subject has.
_LEXICON: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        r"(?:what (?:it|they) )?looks?(?: likes?)?|appears?|appearance|shapes?|colou?rs?"
        r"|how (?:big|large|small|tall)|sizes?|body|bodies|coat|fur|feathers",
        ("Appearance",),
    ),
    (
        r"homes?|habitats?|live|lives|living|lived|territor(?:y|ies)|where (?:it|they) (?:is|are)"
        r" found|native|range|nests?|nesting",
        ("Home",),
    ),
    (
        r"foods?|diets?|feed|feeds|feeding|prey|hunts?|hunting|meals?|appetite",
        ("Food", "Serving", "Uses"),
    ),
    (r"how to eat (?:it|them)|how (?:it is|they are|it's) eaten", ("Serving", "Uses", "Food")),
    (r"eat|eats|eating|eaten", ("Food", "Serving", "Uses")),
    (
        r"threats?|threatened|endangered|enem(?:y|ies)|predators?|conservation|protection"
        r"|extinction|survival",
        ("Threats", "People"),
    ),
    (r"dangers?|dangerous|risks?|harm|hazards?", ("Threats", "Effects")),
    (
        r"people|humans?|mankind|humanity|domestication|domesticated|pets?|society",
        ("People", "Culture"),
    ),
    (
        r"grow|grows|growing|grown|cultivation|cultivated|farming|farmed|harvest(?:ed|ing)?"
        r"|plant(?:ed|ing)",
        ("Growing", "Home"),
    ),
    (
        r"uses?|used|usage|useful|usefulness|purposes?|functions?|what (?:it is|they are|it's) for",
        ("Uses", "Serving", "People"),
    ),
    (
        r"made|making|(?:how )?to make|manufactur(?:e|ed|ing)|produc(?:ed|tion)"
        r"|prepar(?:ed|ation|ing)|cook(?:ed|ing)|bak(?:ed|ing)|brew(?:ed|ing)|recipes?|ingredients?|materials?",
        ("Making", "Building", "Growing"),
    ),
    (r"serve|serves|served|serving|toppings?|accompaniments?", ("Serving", "Uses")),
    (
        r"works?|working|worked|mechanisms?|operat(?:es?|ed|ion|ing)|mechanics|engines?|insides?",
        ("Working", "Playing"),
    ),
    (r"rules?|how to play|scoring|points|games?", ("Rules", "Playing")),
    (r"play|plays|played|playing|players?|techniques?", ("Playing", "Rules")),
    (r"sounds?|tones?|music|noises?", ("Sound",)),
    (
        r"buil[dt]|builds|buildings?|construct(?:ed|ion)|architecture|structures?",
        ("Building", "Making"),
    ),
    (
        r"causes?|caused|why (?:it|they) happens?|formation|formed|forming|how (?:it|they) forms?",
        ("Cause", "Building"),
    ),
    (r"effects?|impacts?|consequences?|damages?", ("Effects", "Threats")),
    (
        r"cultur(?:e|es|al)|myths?|mythology|legends?|folklore|symbols?|symbolism|meanings?"
        r"|religions?|arts?|traditions?|customs",
        ("Culture", "People", "History"),
    ),
    (r"origins?|where (?:it|they) (?:comes?|came) from", ("History", "Home", "Cause")),
    (
        r"histor(?:y|ies|ical)|pasts?|invent(?:ed|ion|ions|or|ors)|beginnings|ancient|evolution",
        ("History", "Culture"),
    ),
)

_NUMBER_WORDS = "zero one two three four five six seven eight nine ten eleven twelve"
_NUMBERS = {word: n for n, word in enumerate(_NUMBER_WORDS.split())}
_NUMBERS |= {"a": 1, "an": 1, "a couple of": 2, "a few": 3, "several": 3, "a dozen": 12}
_NUMBER = r"-?\d+|" + "|".join(sorted(map(re.escape, _NUMBERS), key=len, reverse=True))
_PICTURES = r"(?:pictures?|images?|photos?|photographs?|illustrations?|drawings?|pics?)"
_VOICE = r"(?:narrations?|narrators?|audio|sounds?|voices?|voice-?overs?|speech|reading)"
_NO = r"(?:no|without|neither|zero|minus)"

_NO_MEDIA = re.compile(
    rf"\b{_NO} (?:any |an? )?(?P<what>(?:{_PICTURES}|{_VOICE})"
    rf"(?: ?(?:,|or|and|nor) ?(?:any |no )?(?:{_PICTURES}|{_VOICE})\b)*)(?!\w)"
)
_TEXT_ONLY = re.compile(r"\b(?:text only|only text|just text|plain text)\b")
_LABELLED = re.compile(
    rf"\b{_PICTURES} ?[:=] ?(?P<pictures>{_NUMBER}|no|none)\b"
    rf"|\b(?:narration|audio) ?[:=] ?(?P<voice>yes|on|no|none|off)\b"
)
_COUNTED = re.compile(
    rf"(?<![\w-])(?:exactly )?(?P<n>{_NUMBER}) (?:(?!and\b|or\b|with\b|but\b|sections?\b)[a-z-]+ )"
    rf"{{0,2}}?{_PICTURES}\b"
)
_PICTURED = re.compile(rf"\b(?:(?:with|in|and|some|the) )?(?:{_PICTURES}|illustrated)\b")
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

# Words that wish for nothing by themselves.
_FILLER_WORDS = """
    a about above after all also always an and any are article articles as at be been before
    begin beginning being between both brief but by can chapter chapters close come comes complete
    conclude could cover covering create describe did do does each else end ending essay every
    everything exactly explain facts few finally finish first firstly following for from full get
    give had has have heading headings her here how however i i'd if in include including
    information into introduction is it it's its itself just kind know last lastly lead learn like
    little long make many me mention more much my need next nice not nothing now of off on one only
    open or order other our out over overview page paragraph paragraphs part parts piece please
    read report rest second secondly section sections set short should show simple so some
    something start starting story summary talk tell text than thanks that the their them themselves
    then there these they thing things third this those title to too topic topics towards under up
    upon us using very want was we well were what when where which while who why will wish with
    within without would write writing yes you your"""
FILLERS = frozenset(_FILLER_WORDS.split())

# What stands for something understood, so that its item is not reported as unread.
_MARK = "\x01"


@dataclass(frozen=True)
class UserRequests:
    """What a text asks for.

    sections: for each wish, in the order asked for, the headings it may mean, best first.
    excluded: the same for sections not wanted. rest: whether all other sections come after.
    pictures, narration: None where nothing is said. unread: the parts that were not understood.
    """

    sections: tuple[tuple[str, ...], ...] = ()
    excluded: tuple[tuple[str, ...], ...] = ()
    rest: bool = False
    pictures: int | None = None
    narration: bool | None = None
    unread: tuple[str, ...] = ()


def number(word: str) -> int:
    """The number of a number word ("three", "a few") or of digits."""
    return _NUMBERS[word] if word in _NUMBERS else int(word)


def has_request(text: str, headings: Iterable[str] = ()) -> bool:
    """Whether a text asks for anything at all."""
    requests = parse_requests(text, headings)
    media = requests.pictures is not None or requests.narration is not None
    return bool(media or requests.rest or requests.sections or requests.excluded)


def is_list(text: str, headings: Iterable[str] = ()) -> bool:
    """Whether a text is a list of wishes and nothing else: "looks and food", not "food for all"."""
    pattern, _ = _patterns(tuple(headings))
    plain = pattern.sub(" ", _take_media(_plain(text))[0])
    return has_request(text, headings) and all(word in FILLERS for word in _WORD.findall(plain))


def parse_requests(text: str, headings: Iterable[str] = ()) -> UserRequests:
    """Read the wishes in a text. headings: further headings known by their own names."""
    text, pictures, narration = _take_media(_plain(text))
    rest = bool(_REST.search(_NOT.sub("", text)))
    sections, excluded = _sections(text, tuple(headings))
    return UserRequests(
        sections, excluded, rest, pictures, narration, _unread(text, tuple(headings))
    )


def _plain(text: str) -> str:
    return " ".join(text.replace("\n", " . ").lower().replace("’", "'").split())


def _take_media(text: str) -> tuple[str, int | None, bool | None]:
    """The text with its wishes for pictures and sound marked out, and those wishes."""
    pictures: int | None = None
    narration: bool | None = None

    def take(pattern: re.Pattern[str]) -> list[re.Match[str]]:
        nonlocal text
        matches = list(pattern.finditer(text))
        text = pattern.sub(lambda match: _MARK * len(match[0]), text)
        return matches

    for match in take(_LABELLED):
        if match["pictures"]:
            pictures = 0 if match["pictures"] in ("no", "none") else number(match["pictures"])
        else:
            narration = match["voice"] in ("yes", "on")
    for match in take(_NO_MEDIA):
        if re.search(_PICTURES, match["what"]):
            pictures = 0
        if re.search(_VOICE, match["what"]):
            narration = False
    if take(_TEXT_ONLY):
        pictures, narration = 0, False
    for match in take(_COUNTED):
        pictures = number(match["n"])
    take(_PICTURED)
    if take(_SILENT):
        narration = False
    if take(_SPOKEN) and narration is None:
        narration = True
    return text, pictures, narration


def _patterns(headings: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, tuple[str, ...]]]:
    """One pattern of named groups for all wish words, and the headings of each group."""
    listed = {heading for _, meant in _LEXICON for heading in meant}
    entries = [*_LEXICON, *((re.escape(h.lower()), (h,)) for h in headings if h not in listed)]
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
    """The items in which no wish was found, yet words that may have been meant as one."""
    pattern, _ = _patterns(headings)
    text = pattern.sub(_MARK, _REST.sub(_MARK, text))
    unread = []
    for item in _ITEM.split(text):
        words = [word.removesuffix("'s") for word in _WORD.findall(item)]
        if _MARK not in item and any(word not in FILLERS for word in words):
            unread.append(" ".join(item.split()))
    return tuple(unread)

"""From what someone wants drawn, in English, to an exact caption of the world.

    three red foxes next to a car in a forest, no hats, striped background
    ->  three red foxes and a car on a striped ground
        left out: in, forest, 'no hats'; ...

Every wish is in the caption or in a note.
"""

from __future__ import annotations

import re

from unified.pocket.known_subjects import Mention
from unified.world import request_words as words
from unified.world.picture_wish import PictureCaption, WantedThing, description_of
from unified.world.world_subjects import WorldSubjects
from unified_data.world.captions_en import RELATION_PHRASES, ZONE_PHRASES, caption_en, parse_en
from unified_data.world.description import Description
from unified_data.world.free_scene import MAX_THINGS
from unified_data.world.lettering import check_writing

__all__ = ["read_english"]

_EDGE = r"(?<![\w-]){}(?![\w-])"


def _either(table: object) -> str:
    return "|".join(sorted(map(re.escape, table), key=len, reverse=True))  # type: ignore[call-overload]


_GROUND = _either(words.GROUND_WORDS)
_BACK = r"(?:back ?ground|ground|back ?drop)"
_GROUNDS = (
    rf"(?:(?:on|with|against|over|and|in front of) )?(?:an? |the )?({_GROUND})(?: colou?red)?"
    rf" {_BACK}",
    rf"(?:with |and |on )?(?:an? |the )?{_BACK}(?: colou?r)?(?: (?:is|be|should be|shall be|in)|:)?"
    rf" ({_GROUND})",
    rf"({_GROUND}) in the {_BACK}",
)
_WRITING = re.compile(
    r"(?:with |and )?(?:the |a )?(?:word|text|letters?|number|numeral|digits?|sign|saying|says"
    r"|reading|writing)s?:? (?:[\"“'‘]([^\"”'’]+)[\"”'’]|([A-Z0-9]{1,12})(?![\w-]))"
)
_COUNT = re.compile(
    rf"(?:^|(?<=\W))({_either([*words.FEW_WORDS, *words.NUMBERS])}|\d+)((?: [\w'-]+){{0,4}}) *$"
)
_AFTER = re.compile(r"(?:to|on|at) (?:its|his|her|their) (left|right)(?! of)")
_NEAR = 80
"""Characters before a thing in which its number may stand."""


def read_english(text: str, known: WorldSubjects) -> PictureCaption:
    """The caption that a text is, or comes nearest to; notes name all that it leaves out.

    Raises UnknownSubjectError, naming the nearest subjects, where it names none that is known, and
    ValueError for a text that only says what shall not be drawn.
    """
    exact = None if known.strangers(text.lower()) else parse_en(text)
    if exact is not None and _is_drawn(exact, known):
        return PictureCaption(caption_en(exact))
    return _Reading(text, known).caption()


def _is_drawn(description: Description, known: WorldSubjects) -> bool:
    number = sum(item.count for item in description.items)
    names = [known.known.find(item.name) for item in description.items]
    return None not in names and number + (description.writing is not None) <= MAX_THINGS


class _Reading:
    """A text on its way to a caption. What was understood is blotted out of `rest`."""

    def __init__(self, text: str, known: WorldSubjects) -> None:
        self.original = " ".join(text.replace("’", "'").split())
        self.rest = self.original.lower()
        if len(self.rest) != len(self.original):  # letters whose small form is longer
            self.original = self.rest
        self.known = known
        self.left: list[str] = []
        self.notes: list[str] = []

    def caption(self) -> PictureCaption:
        self._take_refusals()
        writing = self._writing()
        ground = self._ground()
        mentions = self.known.mentions(self.rest)
        if not mentions and writing is None and not re.search(_EDGE.format("nothing"), self.rest):
            mentions = [self._meant()]
        self._strangers()
        zones = self._zones(mentions)
        relation, inexact = self._relation(mentions)
        things = [self._thing(mentions, at, zones.get(at)) for at in range(len(mentions))]
        for mention in mentions:
            self._blot(mention.start, mention.stop)
        description, remarks = description_of(things, relation, ground, writing)
        caption = caption_en(description)
        if inexact and description.relation is not None:
            self.notes.append(inexact)
        self._leave_words()
        note = f'drawn as "{caption}", the nearest caption the model knows'
        if self.left:
            note += f"; left out: {', '.join(dict.fromkeys(self.left))}"
        return PictureCaption(caption, ("; ".join([note, *self.notes, *remarks]),))

    def _blot(self, start: int, stop: int) -> None:
        self.rest = self.rest[:start] + "\0" * (stop - start) + self.rest[stop:]

    def _take_refusals(self) -> None:
        """A caption only says what is there."""
        for match in words.WITHOUT.finditer(self.rest):
            if match[0].strip():
                self.left.append(repr(match[0].strip()))
                self._blot(*match.span())
        if self.left:
            self.notes.append("a caption only says what is there, and no more is drawn")
        if not re.search(r"\w", self.rest):
            raise ValueError(
                f"{', '.join(self.left) or 'the text'} says what not to draw; say what to draw, for"
                ' example "a giant panda"'
            )

    def _writing(self) -> str | None:
        for match in _WRITING.finditer(self.original):
            written = (match[1] or match[2]).strip().upper()
            if "\0" in self.rest[match.start() : match.end()]:
                continue
            self._blot(*match.span())
            try:
                check_writing(written)
            except ValueError as error:
                self.notes.append(f"left out: {error}")
                continue
            return written
        return None

    def _ground(self) -> str | None:
        for pattern in _GROUNDS:
            match = re.search(_EDGE.format(f"(?:{pattern})"), self.rest)
            if match is not None:
                self._blot(*match.span())
                return self._named(match[1], words.GROUND_WORDS)
        return None

    def _named(self, word: str, table: dict[str, str]) -> str:
        if table[word] != word and (word, table[word]) != ("gray", "grey"):
            self.notes.append(f"{word!r} is drawn as {table[word]}")
        return table[word]

    def _strangers(self) -> None:
        """Name the words that the model has a nearest subject for, and does not draw."""
        for word in self.known.strangers(self.rest):
            near = self.known.meant(word)
            assert near is not None
            self.left.append(f"{word!r} (not known; the nearest in meaning: {near.name})")
            at = self.rest.index(word)
            self._blot(at, at + len(word))

    def _meant(self) -> Mention:
        """The one thing that a text of no known name surely means. Raises UnknownSubjectError."""
        if self.known.strangers(self.rest):
            raise self.known.unknown(self.rest.replace("\0", " ").strip())
        skipped = words.PLAIN | words.SMALL | words.LARGE | set(words.NUMBERS)
        skipped |= set(words.COLOUR_WORDS) | words.STOPS
        asked = [word for word in re.findall(r"[\w'-]+", self.rest) if word not in skipped]
        known = self.known.known
        for name in (" ".join(asked), *asked)[:6]:
            subject = known.meant(name)
            if subject is not None and name in self.rest:
                start = self.rest.index(name)
                self.notes.append(f"{name!r} is taken for {subject.phrase}")
                return Mention(start, start + len(name), subject, name.endswith("s"))
        raise self.known.unknown(" ".join(asked) or self.original)

    def _thing(self, mentions: list[Mention], at: int, zone: str | None) -> WantedThing:
        """A mention, with the number, the colour and the size that stand before it."""
        mention = mentions[at]
        words_ = self.rest[mention.start : mention.stop]
        thing = WantedThing(mention.subject, zone=zone, words=words_)
        # "red fox" is another name of the fox, and a fox that is red.
        colour, _, name = thing.words.partition(" ")
        if colour in words.COLOUR_WORDS and self.known.known.find(name) == mention.subject:
            thing.colour = words.COLOUR_WORDS[colour]
        start = max(mentions[at - 1].stop if at else 0, mention.start - _NEAR)
        window = self.rest[start : mention.start]
        match = _COUNT.search(window)
        if match is not None and words.STOPS & set(match[2].split()):
            match = None
        if match is not None:
            thing.count = self._count(match[1])
            self._blot(start + match.start(1), start + match.end(1))
            described, begin = match[2], start + match.start(2)
        else:
            thing.count = None if mention.plural else 1
            described = re.split(rf"[,.;:\0]|{_EDGE.format(_either(words.STOPS))}", window)[-1]
            begin = mention.start - len(described)
        if thing.count == 1 and mention.plural and match is not None and match[1] == "the":
            thing.count = None
        self._adjectives(thing, described, begin)
        return thing

    def _count(self, word: str) -> int | None:
        if word.isdigit():
            return max(1, int(word[:4]))
        return words.NUMBERS[word] if word in words.NUMBERS else words.FEW_WORDS[word]

    def _adjectives(self, thing: WantedThing, described: str, begin: int) -> None:
        for match in re.finditer(r"[\w'-]+", described):
            word, span = match[0], (begin + match.start(), begin + match.end())
            if word in words.COLOUR_WORDS and thing.colour is None:
                thing.colour = self._named(word, words.COLOUR_WORDS)
            elif word in words.SMALL | words.LARGE and thing.size is None:
                thing.size = "small" if word in words.SMALL else "large"
            else:
                continue
            self._blot(*span)

    def _relation(self, mentions: list[Mention]) -> tuple[str | None, str | None]:
        """The relation between the first two things, and a note where it is but the nearest."""
        if len(mentions) != 2:
            return None, None
        start, stop = mentions[0].stop, mentions[1].start
        for pattern, relation, exact in words.RELATIONS:
            match = re.search(_EDGE.format(f"(?:{pattern})"), self.rest[start:stop])
            if match is not None:
                self._blot(start + match.start(), start + match.end())
                note = f"{match[0]!r} is drawn as {RELATION_PHRASES[relation]!r}"
                return relation, None if exact else note
        # "a fox with a car to its left": the car is the one on the left.
        match = _AFTER.search(self.rest, mentions[1].stop)
        if match is None:
            return None, None
        self._blot(*match.span())
        return "right" if match[1] == "left" else "left", None

    def _zones(self, mentions: list[Mention]) -> dict[int, str]:
        """Places, each of the thing that stands before it, or of the first."""
        zones: dict[int, str] = {}
        for pattern, zone, exact in words.ZONES_EN:
            for match in re.finditer(_EDGE.format(f"(?:{pattern})"), self.rest):
                at = max((i for i, m in enumerate(mentions) if m.stop <= match.start()), default=0)
                if at in zones or not mentions:
                    continue
                zones[at] = zone
                self._blot(*match.span())
                if not exact:
                    self.notes.append(f"{match[0]!r} is drawn as {ZONE_PHRASES[zone]!r}")
        return zones

    def _leave_words(self) -> None:
        """Name the words that the caption has no use for."""
        rest = re.sub(_EDGE.format("nothing"), " ", self.rest)
        self.left += [w for w in re.findall(r"[\w'-]*\w", rest) if w not in words.PLAIN]

"""What a description claims of a picture, as questions that a model can be asked about it.

The first two stages of Woodpecker (Yin et al. 2023, arXiv:2310.16045): key concepts are taken from
the text, and a question is put for each thing, each number and each colour. A plug-in that knows a
model's captions exactly gives `Claims` of its own; `english_claims` reads any English text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from unified.tasks.answer_words import colour_in, number_in, yes_or_no

__all__ = ["Claim", "Claims", "english_claims"]

Value = bool | int | str
_READERS: Mapping[str, Callable[[str], Value | None]] = {
    "thing": yes_or_no,
    "count": number_in,
    "colour": colour_in,
}


@dataclass(frozen=True)
class Claim:
    """One thing that a text says.

    about: what it is about, in words. said: True of a thing, a number, or a colour's English name.
    question: whose answer says whether it is so. parent: the claim without which this one is void:
    a thing that is not there has no colour.
    """

    kind: Literal["thing", "count", "colour"]
    about: str
    value: Value
    question: str
    parent: int | None = None

    def read(self, answer: str) -> Value | None:
        """What an answer says instead; None where it says nothing of the kind."""
        return _READERS[self.kind](answer)


@dataclass(frozen=True)
class Claims:
    """All claims of a text. corrected: the text with other values in the place of some claims'."""

    claims: tuple[Claim, ...]
    corrected: Callable[[Mapping[int, Value]], str]


_NUMBER_WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_COUNTS = {word: n for n, word in enumerate(_NUMBER_WORDS, start=1)} | {"a": 1, "an": 1}
_COLOUR_LIST = "white grey gray black red orange yellow green blue purple pink brown"
_COLOUR_WORDS = frozenset(_COLOUR_LIST.split())
_SIZES = frozenset(["small", "large", "big", "little", "tiny", "huge"])
_END_LIST = """
    is are was were has have and or with without on in at to of by near beside above below under
    over behind between inside next that which who while from into onto against for as wearing
    holding sitting standing lying riding looking the a an"""
_ENDS = frozenset(_END_LIST.split())
"""Words that end a noun phrase."""
_NO_THING_LIST = """
    picture image photo photograph drawing illustration background ground scene view lot couple
    group side left right top bottom middle front distance number kind pair"""
_NO_THINGS = frozenset(_NO_THING_LIST.split())
_PHRASE = re.compile(
    rf"(?<![\w-])({'|'.join(sorted(_COUNTS, key=len, reverse=True))}|\d{{1,3}})"
    r"((?: [A-Za-z'-]+){1,5})",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Phrase:
    """`two red foxes` in a text. words: the name, without its colour."""

    start: int
    stop: int
    count: int
    colour: str | None
    words: tuple[str, ...]

    def render(self, count: int, colour: str | None) -> str:
        name = list(self.words)
        if (count == 1) != (self.count == 1):
            name[-1] = _singular(name[-1]) if count == 1 else _plural(name[-1])
        words = [*([colour] if colour else []), *name]
        article = "an" if words[0][0] in "aeiou" else "a"
        number = article if count == 1 else _NUMBER_WORDS[count - 1] if count < 11 else str(count)
        return " ".join((number, *words))


def english_claims(text: str) -> Claims:
    """The things that an English text names with an article or a number, their numbers, colours.

    A heuristic: a thing is the words behind an article or a number up to the next preposition,
    verb of place, or mark.
    """
    phrases = _phrases(text)
    claims: list[Claim] = []
    roots: list[int] = []
    for phrase in phrases:
        name = " ".join(phrase.words)
        singular = (
            name
            if phrase.count == 1
            else " ".join((*phrase.words[:-1], _singular(phrase.words[-1])))
        )
        many = " ".join((*singular.split()[:-1], _plural(singular.split()[-1])))
        article = "an" if singular[0] in "aeiou" else "a"
        root = len(claims)
        roots.append(root)
        claims.append(Claim("thing", singular, True, f"Is there {article} {singular}?"))
        claims.append(Claim("count", many, phrase.count, f"How many {many} are there?", root))
        if phrase.colour is not None:
            verb = f"is the {singular}" if phrase.count == 1 else f"are the {many}"
            claims.append(Claim("colour", singular, phrase.colour, f"What colour {verb}?", root))

    def corrected(values: Mapping[int, Value]) -> str:
        rewritten = text
        for phrase, root in reversed(list(zip(phrases, roots))):
            if values.get(root) is False or values.get(root + 1) == 0:
                rewritten = _without(rewritten, phrase)
                continue
            count = values.get(root + 1, phrase.count)
            colour = values.get(root + 2, phrase.colour) if phrase.colour else None
            if (count, colour) != (phrase.count, phrase.colour):
                assert isinstance(count, int)
                words = phrase.render(count, None if colour is None else str(colour))
                rewritten = rewritten[: phrase.start] + words + rewritten[phrase.stop :]
        rewritten = rewritten.strip()
        return rewritten[:1].upper() + rewritten[1:] if text[:1].isupper() else rewritten

    return Claims(tuple(claims), corrected)


def _phrases(text: str) -> list[_Phrase]:
    phrases = []
    at = 0
    while (match := _PHRASE.search(text, at)) is not None:
        words = []
        stop = match.start(2)
        for word in re.finditer(r"[A-Za-z'-]+", match[2]):
            if word[0].lower() in _ENDS:
                break
            words.append(word[0].lower())
            stop = match.start(2) + word.end()
        at = max(stop, match.end(1))
        colours = [word for word in words if word in _COLOUR_WORDS]
        name = tuple(word for word in words if word not in _COLOUR_WORDS and word not in _SIZES)
        if not name or name[-1] in _NO_THINGS:
            continue
        number = match[1].lower()
        count = int(number) if number.isdigit() else _COUNTS[number]
        colour = colours[0].replace("gray", "grey") if len(colours) == 1 else None
        phrases.append(_Phrase(match.start(), stop, count, colour, name))
    return phrases


def _without(text: str, phrase: _Phrase) -> str:
    """A text without a phrase: taken out of a list or with what joins it, else marked."""
    before, after = text[: phrase.start], text[phrase.stop :]
    if match := re.match(r"\s*(?:,|and|next to|to the (?:left|right) of|above|below)\s+", after):
        if match[0].strip() == "and" and before.rstrip().endswith(","):
            before = f"{before.rstrip()[:-1]} and "  # "a dog, a cat and a car"
        return before + after[match.end() :]
    joined = r"(?:,|\band|\bwith|\bnext to|\bto the (?:left|right) of|\babove|\bbelow)\s+$"
    if match := re.search(joined, before):
        return before[: match.start()].rstrip() + after
    return f"{text[: phrase.stop]} (not confirmed){after}"


def _plural(word: str) -> str:
    if word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")


def _singular(word: str) -> str:
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("xes", "ches", "shes", "sses")):
        return word[:-2]
    return word.removesuffix("s")

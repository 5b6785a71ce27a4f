"""English captions: a `Description` in words, and words back to a `Description`.

a red fox on a blue ground
a small fox at the top left
a fox to the left of a car on a striped ground
two foxes, a car and the number 42
nothing on a green ground
"""

from __future__ import annotations

import re

from unified_data.pocket.subjects import Subject, find_subject
from unified_data.world.colours import COLOURS
from unified_data.world.description import Description, Item
from unified_data.world.ground import GROUND_NAMES
from unified_data.world.lettering import check_writing

__all__ = ["COUNT_WORDS", "RELATION_PHRASES", "ZONE_PHRASES", "caption_en", "noun_phrase",
           "parse_en"]  # fmt: skip

RELATION_PHRASES = {"left": "to the left of", "right": "to the right of", "above": "above",
                    "below": "below"}  # fmt: skip
ZONE_PHRASES = {"top left": "at the top left", "top": "at the top", "top right": "at the top right",
                "left": "on the left", "middle": "in the middle", "right": "on the right",
                "bottom left": "at the bottom left", "bottom": "at the bottom",
                "bottom right": "at the bottom right"}  # fmt: skip
COUNT_WORDS = {2: "two", 3: "three", 4: "four"}


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def subject_called(name: str) -> Subject:
    """The subject of a name. Raises ValueError where there is none."""
    subject = find_subject(name)
    if subject is None:
        raise ValueError(f"the world has no subject {name!r}")
    return subject


def noun_phrase(item: Item, size: str = "") -> str:
    """`a fox`, `an orange car`, `three red foxes`, with a size `a small red car`."""
    subject = subject_called(item.name)
    words = " ".join(word for word in (size, item.colour) if word)
    if item.count > 1:
        return " ".join(word for word in (COUNT_WORDS[item.count], words, subject.plural) if word)
    return f"{_article(words)} {words} {subject.name}" if words else subject.phrase


def listed(phrases: list[str]) -> str:
    """`a fox, a car and an axe`."""
    if len(phrases) < 2:
        return "".join(phrases)
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def caption_en(description: Description) -> str:
    """A description as an English caption."""
    if description.relation is not None:
        first, second = (noun_phrase(item) for item in description.items)
        text = f"{first} {RELATION_PHRASES[description.relation]} {second}"
    elif description.zone is not None:
        text = f"{noun_phrase(description.items[0], 'small')} {ZONE_PHRASES[description.zone]}"
    else:
        phrases = [noun_phrase(item) for item in description.items]
        if description.writing is not None:
            phrases.append(writing_phrase(description.writing))
        text = listed(phrases) or "nothing"
    ground = description.ground
    return text if ground is None else f"{text} on {_article(ground)} {ground} ground"


def writing_phrase(text: str) -> str:
    """`the number 42`, `the word CAT`."""
    return f"the {'number' if text.isdigit() else 'word'} {text}"


def parse_en(caption: str) -> Description | None:
    """The description that a caption states, or None where it is no caption of the world.

    Case, a full stop, `the` for `a`, `background` for `ground` and a subject's aliases are taken as
    people write them.
    """
    text = re.sub(r"\s+", " ", caption.strip().rstrip("."))
    ground = None
    pattern = rf"(.+) on (?:an? |the )?({'|'.join(GROUND_NAMES)}) (?:back)?ground"
    if match := re.fullmatch(pattern, text, re.IGNORECASE):
        text, ground = match[1], match[2].lower()
    if text.lower() in ("nothing", "there is nothing"):
        return Description(ground=ground)
    for relation, phrase in RELATION_PHRASES.items():
        first, separator, second = text.partition(f" {phrase} ")
        if separator:
            items = parse_item(first), parse_item(second)
            if items[0] and items[1] and items[0].count == items[1].count == 1:
                return Description((items[0], items[1]), relation, None, ground)
    # The longest first: `at the top left` ends in no other, but `at the top` begins others.
    for zone, phrase in sorted(ZONE_PHRASES.items(), key=lambda pair: -len(pair[1])):
        if text.lower().endswith(f" {phrase}"):
            item = parse_item(re.sub(r"(?i)\bsmall ", "", text[: -len(phrase) - 1], count=1))
            return Description((item,), None, zone, ground) if item and item.count == 1 else None
    return _parse_list(text, ground)


def _parse_list(text: str, ground: str | None) -> Description | None:
    *parts, last = text.split(", ")
    items = [_parse_part(part) for part in parts]
    if None in items:
        return None
    # Names may hold an `and` themselves: every place where the last one may begin is tried.
    ends: list[list[Item | str | None]] = [[_parse_part(last)]] if not parts else []
    for match in re.finditer(r" and ", last):
        ends.append([_parse_part(last[: match.start()]), _parse_part(last[match.end() :])])
    for end in ends:
        together = [*items, *end]
        things = [each for each in together if isinstance(each, Item)]
        words = [each for each in together if isinstance(each, str)]
        if None in end or len(words) > 1 or (words and together[-1] != words[0]):
            continue
        return Description(tuple(things), None, None, ground, words[0] if words else None)
    return None


def _parse_part(phrase: str) -> Item | str | None:
    """An item, or what is written, or None."""
    if match := re.fullmatch(r"(?i)the (word|number) ([A-Z0-9]+)", phrase):
        try:
            check_writing(match[2].upper())
        except ValueError:
            return None
        is_number = match[1].lower() == "number"
        return match[2].upper() if match[2].isdigit() == is_number else None
    return parse_item(phrase)


def parse_item(phrase: str) -> Item | None:
    """`a red fox`, `three foxes`; without an article a plural is two or more: None."""
    lowered = phrase.strip().lower()
    match = re.fullmatch(rf"(an?|the|{'|'.join(COUNT_WORDS.values())}) (.+)", lowered)
    if match is None:
        return None
    count = next((number for number, word in COUNT_WORDS.items() if word == match[1]), 1)
    colour, _, rest = match[2].partition(" ")
    subject = find_subject(rest) if colour in COLOURS else None
    if subject is not None:
        return Item(subject.name, count, colour)
    subject = find_subject(match[2])
    return None if subject is None else Item(subject.name, count)

"""Words of requests in English: colours, numbers, places, and those that say nothing."""

from __future__ import annotations

import re

from unified_data.world.colours import COLOURS
from unified_data.world.ground import GROUND_NAMES

__all__ = [
    "COLOUR_WORDS", "FEW_WORDS", "GROUND_WORDS", "LARGE", "NUMBERS", "PLAIN", "RELATIONS", "SMALL",
    "STOPS", "WITHOUT", "ZONES_EN",
]  # fmt: skip

# What a text does without: up to the next mark, or to what comes "with" or "on" something.
WITHOUT = re.compile(
    r"(?<![\w-])(?:without|with no|no|not|never|nor|except(?: for)?|instead of|rather than|zero|0"
    r"|don't|do not)"
    r"(?: (?:on|at|in|with|any|an?|the))*(?![\w-])"
    r"[^.,;:!?()]*?(?=[.,;:!?()]|(?<![\w-])(?:on|at|but|with)(?![\w-])|$)"
)
_SHADES = {
    "grey": "gray silver", "purple": "violet lilac lavender", "red": "crimson scarlet ruby maroon",
    "blue": "navy azure turquoise cyan", "green": "emerald olive-green teal",
    "yellow": "golden gold",
    "brown": "tan beige", "white": "ivory snow-white", "pink": "magenta rosy", "orange": "amber",
    "black": "jet-black ebony",
}  # fmt: skip
COLOUR_WORDS = {colour: colour for colour in COLOURS} | {
    shade: colour for colour, shades in _SHADES.items() for shade in shades.split()
}
"""Words for colours, and the colours that the world has for them."""
_PATTERN_WORDS = {"stripy": "striped", "stripes": "striped", "checkered": "checked",
                  "chequered": "checked", "checks": "checked", "spotted": "dotted",
                  "polka-dot": "dotted", "dots": "dotted"}  # fmt: skip
GROUND_WORDS = {name: name for name in GROUND_NAMES} | COLOUR_WORDS | _PATTERN_WORDS
"""Words for grounds, and the names that the world has for them."""

_NUMBER_WORDS = "one two three four five six seven eight nine ten eleven twelve"
NUMBERS = {word: n for n, word in enumerate(_NUMBER_WORDS.split(), start=1)} | {"a": 1, "an": 1,
    "the": 1, "another": 1, "a single": 1}  # fmt: skip
FEW_WORDS: dict[str, int | None] = {
    "a couple of": 2, "a pair of": 2, "both": 2, "a few": None, "several": None, "some": None,
    "many": None, "lots of": None, "a lot of": None, "plenty of": None, "dozens of": None,
    "hundreds of": None, "thousands of": None, "countless": None, "a group of": None,
    "a herd of": None, "a flock of": None, "a bunch of": None, "a dozen": 12,
}  # fmt: skip
"""Numbers that several words say; None: no number."""

RELATIONS: tuple[tuple[str, str, bool], ...] = (
    (r"(?:to the |on the )?right(?:-hand side)? of", "right", True),
    (r"(?:to the |on the )?left(?:-hand side)? of", "left", True),
    (r"above|over|atop", "above", True),
    (r"below|under(?:neath)?|beneath", "below", True),
    (r"(?:sitting |standing |lying |riding )?on(?: top of)?(?= (?:an?|the|one)\b)", "above", False),
    (r"next to|beside|besides|near|close to|by|alongside", "left", False),
)
"""Patterns between two things, the relation of the first to the second, and whether it is the same
or the nearest that there is."""
_PICTURE = "(?:the|a) (?:picture|image)"
_SIDE = f"(?:-hand)?(?: (?:side|corner|edge|half|part))?(?: of {_PICTURE})?"
# "on the left side of a car" is a relation.
_ALONE = f"(?!(?:-hand)?(?: (?:side|part|half))? of (?!{_PICTURE}))"
_AT = "(?:in|at|on|to|along) (?:the )?"
ZONES_EN: tuple[tuple[str, str, bool], ...] = (
    *(
        (rf"(?:{_AT}(?:its )?)?(?:{rows})[ -]{column}{_ALONE}{_SIDE}", f"{row} {column}", True)
        for row, rows in (("top", "top|upper"), ("bottom", "bottom|lower"))
        for column in ("left", "right")
    ),
    (rf"(?:in|at|into) (?:the|a|one) corner(?: of {_PICTURE})?", "top left", False),
    (rf"{_AT}top{_ALONE}{_SIDE}", "top", True),
    (rf"{_AT}bottom{_ALONE}{_SIDE}", "bottom", True),
    (rf"{_AT}left{_ALONE}{_SIDE}", "left", True),
    (rf"{_AT}right{_ALONE}{_SIDE}", "right", True),
    (rf"(?:in|at) (?:the )?(?:middle|cent(?:er|re))(?: of {_PICTURE})?", "middle", True),
)
"""Patterns of places, the place, and whether it is the same or the nearest that there is."""

SMALL = frozenset(["small", "tiny", "little", "mini"])
LARGE = frozenset(["big", "large", "huge", "giant", "enormous", "great"])
# Words of a request that say nothing about the picture.
_PLAIN_WORDS = """
    a an and are at being can could create d'you draw drawing drawn for generate give have here i
    i'd i'm illustration image is it it's its just like make me of one paint picture please render
    show sketch some than that the there there's these this those to two want which who with would
    you your now my i'll let's us on , ."""
PLAIN = frozenset(_PLAIN_WORDS.split())
_STOP_WORDS = """
    and or with of on in at to by near beside above below under over left right next from behind
    between inside is are that which"""
STOPS = frozenset(_STOP_WORDS.split())
"""Words that end what stands before a thing and is said of it."""

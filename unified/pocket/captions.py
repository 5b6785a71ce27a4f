"""From what someone wants drawn to a caption that the model was trained on.

draw "a cat sitting next to an axe, blue background"  ->  "a cat to the left of an axe on a
blue ground", and a note that this is the nearest caption, without "sitting"
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from unified.pocket.known_subjects import KnownSubjects, Mention
from unified_base.arguments import prompt
from unified_data.pocket.scenes import BACKGROUNDS, COUNTS, Scene, parse_caption

__all__ = ["Caption", "read_caption"]

_RELATIONS: tuple[tuple[str, str], ...] = (
    (r"(?:to the )?right of|right from", "to the right of"),
    (r"above|over|on(?: top of)?|atop", "above"),
    (r"below|under(?:neath)?|beneath", "below"),
    (r"(?:to the )?left of|next to|beside|near|by|with|and|,", "to the left of"),
)
_LOCATIONS: tuple[tuple[str, str], ...] = (
    (r"(?:top|upper)[ -]left(?:[ -]corner)?", "at the top left"),
    (r"(?:top|upper)[ -]right(?:[ -]corner)?", "at the top right"),
    (r"(?:bottom|lower)[ -]left(?:[ -]corner)?", "at the bottom left"),
    (r"(?:bottom|lower)[ -]right(?:[ -]corner)?", "at the bottom right"),
    (r"in the (?:middle|cent(?:er|re))", "in the middle"),
)
_MOST = max(COUNTS)
_FEW = {"a couple of": 2, "a pair of": 2, "a few": 3, "several": 3}
_MANY = r"many|lots of|dozens of|hundreds of|thousands of|countless|a lot of|a dozen|\d+"
_NUMBER_WORDS = "one two three four five six seven eight nine ten eleven twelve"
_NUMBERS = {word: n for n, word in enumerate(_NUMBER_WORDS.split(), start=1)}
_COUNT = re.compile(rf"(?:^|(?<=\W))({'|'.join([*_FEW, *_NUMBERS, _MANY])})(?: [a-z-]+){{0,2}} *$")
_BACKGROUND = re.compile(
    rf"(?:on |with |against )?(?:an? )?({'|'.join(BACKGROUNDS)}|gray) (?:back)?ground"
)
# What a text does without: up to the next mark, or to what comes "with" or "on" something.
_WITHOUT = re.compile(
    r"(?<![\w-])(?:without|with no|no|not|never|nor|except(?: for)?|instead of|rather than|zero|0)"
    r"(?: (?:on|at|in|with|any|an?|the))*(?![\w-])"
    r"[^.,;:!?()]*?(?=[.,;:!?()]|(?<![\w-])(?:on|at|but|with)(?![\w-])|$)"
)
# Words of a request that say nothing about the picture.
_PLAIN_WORDS = """
    a an and are at being by can could create d'you draw drawing for generate give have here i
    i'd illustration image in is it it's its just like make me of on one paint picture please show
    some than that the there there's these this those to want which who with would you"""
_PLAIN = frozenset(_PLAIN_WORDS.split())
_SMALL = frozenset(["small", "tiny", "little"])
_LARGE = frozenset(["big", "large", "huge"])


@dataclass(frozen=True)
class Caption:
    """A caption of the model's world, and what to tell the user where it is not what was asked."""

    text: str
    note: str | None = None


def read_caption(text: str, known: KnownSubjects) -> Caption:
    """The caption that a text is, or comes nearest to; the note names all that it leaves out.

    Raises UnknownSubjectError, naming the nearest subjects, where it names none that is known, and
    ValueError for an empty text or one that only says what shall not be drawn.
    """
    prompt("text", text, 'say what to draw, for example "a giant panda"')
    plain = " ".join(text.lower().split())
    # The world's own subjects are in 19 files of YAML: 0.1 s.
    exact = parse_caption(text, known.called)
    plurals = exact is not None and any(
        mention.plural for mention in known.mentions(plain) if exact.kind != "counted"
    )
    if exact is not None and not plurals:
        return Caption(exact.caption)
    reading = _Reading(plain, known)
    scene = reading.scene()
    if plain.rstrip(".") == scene.caption.lower():
        return Caption(scene.caption)
    note = f'drawn as "{scene.caption}", the nearest caption the model knows'
    if reading.left:
        note += f"; left out: {', '.join(reading.left)}"
    return Caption(scene.caption, "; ".join([note, *reading.notes]))


@dataclass
class _Reading:
    """A text in lower case on its way to a scene.

    left: the words that the scene does without. notes: other remarks for the user.
    """

    text: str
    known: KnownSubjects
    left: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def scene(self) -> Scene:
        """The scene of the things that the text names. Raises ValueError as `read_caption`."""
        self._take_refusals()
        background = self._take_background()
        mentions = self.known.mentions(self.text) or self._meant()
        first = mentions[0]
        other = next((m for m in mentions[1:] if m.subject != first.subject), None)
        self.left += [
            m.subject.name for m in mentions[1:] if m is not other and m.subject != first.subject
        ]
        count = self._count(self.text[: first.start], first)
        used = ""
        if other is not None:
            counts = (count, self._count(self.text[first.stop : other.start], other))
            if (most := max(counts)) > 1:
                self.left.append(f"{COUNTS[most]} of one kind beside another thing")
            relation, used = _find(_RELATIONS, self.text[first.stop : other.start])
            scene = Scene(
                "two",
                first.subject,
                background,
                relation=relation or "to the left of",
                other=other.subject,
            )
        elif count > 1:
            scene = Scene("counted", first.subject, background, count=count)
        else:
            location, used = _find(_LOCATIONS, self.text)
            words = set(re.findall(r"[\w'-]+", self.text))
            if location is None and words & _SMALL:
                location = "in the middle"
            kind = "placed" if location else "one"
            scene = Scene(kind, first.subject, background, location=location)  # type: ignore[arg-type]
        self._leave_words(mentions, used, scene)
        return scene

    def _take_refusals(self) -> None:
        """Take out what shall not be in the picture: a caption cannot say it."""
        for match in _WITHOUT.finditer(self.text):
            self.left.append(match[0].strip())
        if self.left:
            self.notes.append("a caption only says what is there, and no more is drawn")
        self.text = _WITHOUT.sub(" ", self.text)
        if not re.search(r"\w", self.text):
            raise ValueError(
                f"{', '.join(self.left)!r} says what not to draw; say what to draw, for example "
                '"a giant panda"'
            )

    def _take_background(self) -> str:
        match = _BACKGROUND.search(self.text)
        if match is None:
            return "white"
        self.text = f"{self.text[: match.start()]} {self.text[match.end() :]}"
        return match[1].replace("gray", "grey")

    def _meant(self) -> list[Mention]:
        """The one thing that a text of no known name surely means. Raises UnknownSubjectError."""
        words = [w for w in re.findall(r"[\w'-]+", self.text) if w not in _PLAIN | _SMALL | _LARGE]
        asked = [w for w in words if w not in _NUMBERS]
        for name in (" ".join(asked), *asked)[: _MOST + 2]:
            if (subject := self.known.meant(name)) and name in self.text:
                start = self.text.index(name)
                self.notes.append(f"{name!r} is taken for {subject.phrase}")
                return [Mention(start, start + len(name), subject, name.endswith("s"))]
        raise self.known.unknown(" ".join(words) or self.text)

    def _count(self, before: str, mention: Mention) -> int:
        """How many of a thing the words before it ask for, two of description between."""
        plural = mention.subject.plural
        match = _COUNT.search(before[-_NEAR:])
        if match is None:
            if mention.plural:
                self.notes.append(f"{plural!r} names no number")
            return 2 if mention.plural else 1
        word = match[1]
        if word in _FEW:
            return _FEW[word]
        number = _NUMBERS.get(word, int(word[:6]) if word.isdigit() else None)
        if number is not None and number <= _MOST:
            return max(number, 1)
        self.notes.append(f"{word} {plural} are asked for, and a picture holds {_MOST} of a kind")
        return _MOST

    def _leave_words(self, mentions: list[Mention], used: str, scene: Scene) -> None:
        """Name the words that the scene has no use for."""
        text = self.text
        for mention in reversed(mentions):
            text = f"{text[: mention.start]} {text[mention.stop :]}"
        text = text.replace(used, " ", 1) if used else text
        for phrase in (*_FEW, "a lot of", "lots of", "dozens of", "hundreds of", "a dozen"):
            text = re.sub(rf"(?<![\w-]){phrase}(?![\w-])", " ", text)
        silent = _PLAIN | _NUMBERS.keys() | {"many", "countless"}
        silent |= _LARGE if scene.kind == "one" else _SMALL
        words = re.findall(r"[^\W\d_][\w'-]*", text)
        self.left += [word for word in words if word not in silent]


_NEAR = 80
"""Characters before a thing in which its number may stand."""


def _find(patterns: tuple[tuple[str, str], ...], text: str) -> tuple[str | None, str]:
    """The meaning of the first pattern found, and the words it was found in."""
    for pattern, meaning in patterns:
        if match := re.search(rf"(?<![\w-])(?:{pattern})(?![\w-])", text):
            return meaning, match[0]
    return None, ""

"""From what someone wants drawn to a caption that the model was trained on.

draw "a cat sitting next to an axe, blue background"  ->  "a cat to the left of an axe on a
blue ground", and a note that this is the nearest caption
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from unified.pocket.known_subjects import KnownSubjects, Mention
from unified.pocket.prompt_parser import FILLERS
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
    (r"(?:top|upper)[ -]left", "at the top left"),
    (r"(?:top|upper)[ -]right", "at the top right"),
    (r"(?:bottom|lower)[ -]left", "at the bottom left"),
    (r"(?:bottom|lower)[ -]right", "at the bottom right"),
    (r"in the (?:middle|cent(?:er|re))", "in the middle"),
)
_COUNT_WORDS = {word: n for n, word in COUNTS.items()} | {str(n): n for n in COUNTS}
_TOO_MANY = r"\d+|zero|no|five|six|seven|eight|nine|ten|eleven|twelve|many|a dozen"
_BACKGROUND = rf"(?:on |with |against )?(?:an? )?({'|'.join(BACKGROUNDS)}|gray) (?:back)?ground"
_PLAIN = FILLERS | {"draw", "picture", "image", "photo", "drawing", "small", "tiny", "corner"}


@dataclass(frozen=True)
class Caption:
    """A caption of the model's world, and what to tell the user where it is not what was asked."""

    text: str
    note: str | None = None


def read_caption(text: str, known: KnownSubjects) -> Caption:
    """The caption that a text is, or comes nearest to.

    Raises UnknownSubjectError, naming the nearest subjects, where it names none that is known, and
    ValueError for an empty text or a number of things that no caption holds.
    """
    prompt("text", text, 'say what to draw, for example "a giant panda"')
    scene = parse_caption(text)
    if scene is not None and all(known.find(s.name) is not None for s in scene.subjects):
        return Caption(scene.caption)
    plain = " ".join(text.lower().split())
    scene, left = _nearest(plain, known)
    if plain.rstrip(".") == scene.caption.lower():
        return Caption(scene.caption)
    note = f'drawn as "{scene.caption}", the nearest caption the model knows'
    if left:
        note += f"; left out: {', '.join(left)}"
    return Caption(scene.caption, note)


def _nearest(text: str, known: KnownSubjects) -> tuple[Scene, list[str]]:
    """The scene of the things that a text names, and the words that it does without."""
    background, text = _take_background(text)
    mentions = known.mentions(text)
    if not mentions:
        words = [w for w in re.findall(r"[\w'-]+", text) if w not in _PLAIN]
        raise known.unknown(" ".join(words) or text)
    first = mentions[0]
    other = next((m for m in mentions[1:] if m.subject != first.subject), None)
    left = [m.subject.name for m in mentions[1:] if m is not other and m.subject != first.subject]
    count = _count(text[: first.start], first)
    if other is not None:
        counts = (count, _count(text[first.stop : other.start], other))
        left += [COUNTS[n] for n in counts if n > 1]
        relation, used = _find(_RELATIONS, text[first.stop : other.start])
        scene = Scene(
            "two",
            first.subject,
            background,
            relation=relation or "to the left of",
            other=other.subject,
        )
    else:
        location, used = _find(_LOCATIONS, text)
        if location and count == 1:
            scene = Scene("placed", first.subject, background, location=location)
        elif count > 1:
            scene = Scene("counted", first.subject, background, count=count)
        else:
            scene = Scene("one", first.subject, background)
    for mention in reversed(mentions):
        text = f"{text[: mention.start]} {text[mention.stop :]}"
    text = text.replace(used, " ", 1) if used else text
    words = [w for w in re.findall(r"[^\W\d_][\w'-]*", text) if w not in _PLAIN]
    return scene, left + [w for w in words if w not in _COUNT_WORDS]


def _take_background(text: str) -> tuple[str, str]:
    match = re.search(_BACKGROUND, text)
    if match is None:
        return "white", text
    name = match[1].replace("gray", "grey")
    return name, f"{text[: match.start()]} {text[match.end() :]}"


def _count(before: str, mention: Mention) -> int:
    """How many of a thing are asked for in the words before it, two of description between."""
    described = r"(?: [a-z-]+){0,2} *$"
    if match := re.search(rf"(?:^|\W)({'|'.join(_COUNT_WORDS)}){described}", before):
        return _COUNT_WORDS[match[1]]
    if match := re.search(rf"(?:^|\W)({_TOO_MANY}){described}", before):
        if match[1] == "1":
            return 1
        raise ValueError(
            f"{match[1]} {mention.subject.plural} are asked for; a picture holds one to four of a "
            "kind"
        )
    return 1


def _find(patterns: tuple[tuple[str, str], ...], text: str) -> tuple[str | None, str]:
    """The meaning of the first pattern found, and the words it was found in."""
    for pattern, meaning in patterns:
        if match := re.search(rf"(?<![\w-])(?:{pattern})(?![\w-])", text):
            return meaning, match[0]
    return None, ""

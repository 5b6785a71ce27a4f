"""The tasks of models of the world: how they are asked, as their documents were laid out."""

from __future__ import annotations

from unified.tasks.parts import MediaPart, Part, SlotPart, TextPart
from unified.tasks.size_rule import SizeRule
from unified.tasks.task import Task, Verb
from unified.tasks.task_table import Tasks
from unified_data.pocket.scenes import SIDE
from unified_data.world.tasks import DESCRIBE_ZH, FIND, NOT_KNOWN, NOT_KNOWN_ZH
from unified_data.world.voices import SPEAKERS

__all__ = ["CHINESE_SPEAKER", "world_tasks"]

CHINESE_SPEAKER = next(name for name, each in SPEAKERS.items() if each.language == "zh")
"""The voice that Chinese is spoken in, where nobody names one."""
_SPEAKER = "ben"
_SOURCE = "the forms of the world of free scenes"
_SEEN_EN, _SEEN_ZH = (": ",), ("：",)


def _text(words: str) -> TextPart:
    return TextPart(words, "prompt")


def _given(kind: str) -> MediaPart:
    return MediaPart(kind, "prompt")


def _slots(*kinds: str) -> tuple[SlotPart, ...]:
    return tuple(SlotPart(kind, "response") for kind in kinds)


def world_tasks() -> Tasks:
    """The tasks of models of the world: pictures of 96x96 pixels, answers that say first what is
    seen, phonemes before speech and before what was heard."""
    size = SizeRule((SIDE, SIDE), fixed=True)

    def task(verb: Verb, *parts: Part, **more: object) -> Task:
        pictures = any(getattr(part, "kind", "") in ("image", "any") for part in parts)
        return Task(verb, parts, _SOURCE, size=size if pictures else None, **more)  # type: ignore[arg-type]

    picture, sound, question = _given("image"), _given("audio"), _text("{question}")
    answer = _slots("text")
    voices = {"voices": tuple(SPEAKERS), "voice": _SPEAKER}
    return Tasks(
        {
            "write": task("write", _text("{text}"), *_slots("any"), example="The giant panda"),
            "draw": task(
                "draw", _text("![{text}]"), *_slots("image"), example="a red fox on a blue ground",
                forms=(task("draw", sound, _text("![]"), *_slots("image")),),
            ),
            "edit": task(
                "edit", picture, _text("{text}"), *_slots("image"), example="make the ground red"
            ),
            "describe": task(
                "describe", picture, *answer, language="en", unknown=NOT_KNOWN,
                forms=(
                    task("describe", picture, _text(DESCRIBE_ZH), *answer, language="zh",
                         unknown=NOT_KNOWN_ZH),
                ),
            ),
            "ask": task(
                "ask", picture, question, *answer, language="en", thought_ends=_SEEN_EN,
                unknown=NOT_KNOWN, example="What is this?",
                shots=(picture, _text("This is a {name}.")),
                forms=(
                    task("ask", picture, question, *answer, language="zh", thought_ends=_SEEN_ZH,
                         unknown=NOT_KNOWN_ZH),
                    task("ask", picture, sound, *answer, thought_ends=_SEEN_EN + _SEEN_ZH,
                         unknown=NOT_KNOWN),
                    task("ask", picture, question, _given("box"), *answer, unknown=NOT_KNOWN),
                ),
            ),
            "ground": task(
                "ground", picture, _text(f"{FIND}{{text}}"), *_slots("any"), example="the fox"
            ),
            "speak": task(
                "speak", _text("> ({voice}) {text}"), *_slots("text", "audio"),
                example="It is a red fox.", **voices,
                forms=(
                    task("speak", picture, _text("> ({voice})"), *_slots("text", "audio"),
                         **voices),
                ),
            ),
            "listen": task("listen", sound, *answer, thought_ends=("\n",)),
        }
    )  # fmt: skip

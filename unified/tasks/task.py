"""A task: the document that asks a model for one kind of thing, and what goes with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from unified.engine.request import Sampling
from unified.tasks.parts import MediaPart, Part, SlotPart, TextPart
from unified.tasks.settings import check_settings, sampling_over
from unified.tasks.size_rule import SizeRule
from unified_base.arguments import texts
from unified_base.text import quoted

__all__ = ["VERBS", "MediaPart", "Part", "Refusal", "SlotPart", "Task", "TextPart", "Verb"]

Verb = Literal[
    "write", "draw", "edit", "describe", "ask", "ground", "speak", "listen", "reply"
]  # fmt: skip
VERBS: tuple[Verb, ...] = get_args(Verb)
"""What a model may be asked for, in the order in which it is told."""

MAKES: Mapping[Verb, tuple[str, ...]] = {
    "write": ("any", "text"),
    "draw": ("image", "video"),
    "edit": ("image",),
    "describe": ("text",),
    "ask": ("text",),
    "ground": ("any",),
    "speak": ("audio",),
    "listen": ("text",),
    "reply": ("audio",),
}
"""The slots that a verb may end in: what its answer is."""
GIVEN: Mapping[Verb, tuple[tuple[str, ...], ...]] = {
    "write": (("text",),),
    "draw": (("text",), ("audio",), ("text", "frames")),
    "edit": (("image", "text"), ("image", "audio")),
    "describe": (("image",), ("video",)),
    "ask": (
        ("image", "question"),
        ("audio", "question"),
        ("image", "audio", "question"),
        ("image", "audio"),
        ("image", "box"),
        ("image", "box", "question"),
        ("video", "question"),
    ),
    "ground": (("image", "text"),),
    "speak": (("text",), ("image",)),
    "listen": (("audio",),),
    "reply": ((),),
}
"""What a user may give for a verb, each in a form of its own."""
_IN_WORDS = {
    "text": "{text}", "question": "{question}", "image": "a picture", "audio": "a sound",
    "box": "a box", "video": "a video", "frames": "a slot for a video",
}  # fmt: skip


_PLACES = {"image": "<picture>", "audio": "<sound>", "box": "<box>", "video": "<video>"}


@dataclass(frozen=True)
class Task:
    """How a model is asked for one kind of thing.

    parts: of the document, in order; one or more slots stand at its end, which the model fills in
        their order: the last is the answer, those before it are its thoughts, such as the phonemes
        of what it will say.
    source: where these words come from, such as a model card.
    negative: what guidance has in place of the prompt; None: nothing.
    sampling: settings that differ from the model's, as `sampling_over` takes them:
        {"image": {"temperature": 1.0, "guidance": 3.0}, "max_ids": 9216}.
    size: of the pictures that the task makes or is given.
    voices: names that {voice} may have; () with a {voice} in the words: any name.
    voice: the one where nobody names one.
    example: of what a user says.
    language: of what it makes, such as "zh", where a user may choose; None: of no one language.
    thought_ends: marks of which the first ends a thought inside the answer, as `</think>` does;
        the answer stands behind it.
    unknown: the answer that says that the model does not know; None: it has none.
    shots: parts that stand before the others once for each example that is given (few-shot), with
        its {name}.
    forms: how the model is asked for the same where something else is given, as a spoken question,
        or in another language; see `form_for`.

    Raises ValueError for parts that do not make a document, or that leave out what the verb needs.
    """

    verb: Verb
    parts: tuple[Part, ...]
    source: str = ""
    negative: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    size: SizeRule | None = None
    voices: tuple[str, ...] = ()
    voice: str | None = None
    example: str = ""
    language: str | None = None
    thought_ends: tuple[str, ...] = ()
    unknown: str | None = None
    shots: tuple[Part, ...] = ()
    forms: tuple[Task, ...] = ()

    def __post_init__(self) -> None:
        if self.verb not in VERBS:
            raise ValueError(f"verb is {quoted(self.verb)}, expected one of {', '.join(VERBS)}")
        for name in ("parts", "voices", "shots", "forms"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_parts()
        self._check_words()
        self._check_answer()
        self._check_forms()
        check_settings(self.sampling)
        seen = self.modalities & {"image", "video"}
        if self.size is not None and not seen and self.slot.kind != "any":
            raise ValueError("size is of pictures and videos, but the task has none")

    def _check_parts(self) -> None:
        slots = [part for part in self.parts if isinstance(part, SlotPart)]
        if not slots or tuple(slots) != self.parts[-len(slots) :]:
            raise ValueError(
                f"the document has {len(slots)} slots, expected one or more, as its last parts:"
                " what the model writes, the answer behind its thoughts"
            )
        makes = MAKES[self.verb]
        if self.slot.kind not in makes:
            raise ValueError(
                f"the slot is {self.slot.kind}, but to {self.verb} makes {' or '.join(makes)}"
            )
        if strange := [slot.kind for slot in slots[:-1] if slot.kind == "any" or slot.listens]:
            raise ValueError(
                f"a slot before the last is {strange[0]}, which runs to the end; expected the kind"
                " of one segment"
            )
        media = [part.kind for part in self.parts if isinstance(part, MediaPart)]
        if len(media) != len(set(media)):
            raise ValueError(f"the document has {len(media)} media, expected one of each kind")
        if self.slot.listens != (self.verb == "reply") or (self.verb == "reply" and media):
            raise ValueError(
                "to reply is given a sound that the slot listens to, and nothing else is"
                f" (listens: true), but to {self.verb} has the slot with listens"
                f" {str(self.slot.listens).lower()} and {media or 'no'} media"
            )

    def _check_words(self) -> None:
        names = self.placeholders
        expected = GIVEN[self.verb]
        if self.takes not in map(frozenset, expected):
            has = " and ".join(_IN_WORDS[name] for name in sorted(self.takes)) or "nothing"
            ways = [" and ".join(_IN_WORDS[name] for name in way) for way in expected]
            raise ValueError(
                f"the document of {self.verb} has {has} of a user's, expected"
                f" {' or '.join(way or 'nothing' for way in ways)}"
            )
        known = {"height", "width"} | (self.takes & {"text", "question"})
        known |= (
            {"voice"} if self.verb == "speak" else {"images"} if self.verb == "write" else set()
        )
        if strange := sorted(names - known):
            raise ValueError(
                f"{{{strange[0]}}} means nothing to {self.verb}, expected"
                f" {', '.join(f'{{{name}}}' for name in sorted(known))}"
            )
        if (self.voices or self.voice is not None) and "voice" not in names:
            raise ValueError("voices are named, but no part has {voice}")
        if self.voice is not None and self.voices and self.voice not in self.voices:
            raise ValueError(
                f"voice is {quoted(self.voice)}, expected one of {', '.join(self.voices)}"
            )

    def _check_answer(self) -> None:
        object.__setattr__(self, "thought_ends", texts("thought_ends", self.thought_ends))
        for name in ("language", "unknown"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value.strip()):
                raise ValueError(f"{name} is {quoted(value)}, expected a text that is not empty")
        if (self.thought_ends or self.unknown) and self.slot.kind != "text":
            raise ValueError(
                f"thought_ends and unknown are of answers in text, but the slot is {self.slot.kind}"
            )
        names = [part.placeholders for part in self.shots if isinstance(part, TextPart)]
        if self.shots and (
            any(isinstance(part, SlotPart) for part in self.shots)
            or frozenset().union(*names) != {"name"}
        ):
            raise ValueError("shots are texts and media without a slot, one of them with {name}")

    def _check_forms(self) -> None:
        seen = {(self.takes, self.language)}
        for form in self.forms:
            if form.verb != self.verb or form.forms:
                raise ValueError(f"a form is a task to {self.verb} without forms of its own")
            if (form.takes, form.language) in seen:
                raise ValueError(
                    f"two forms are given {' and '.join(sorted(form.takes)) or 'nothing'} in the"
                    " same language; expected one"
                )
            seen.add((form.takes, form.language))

    @property
    def slot(self) -> SlotPart:
        """What the model writes: the answer."""
        last = self.parts[-1]
        assert isinstance(last, SlotPart)
        return last

    @property
    def slots(self) -> tuple[SlotPart, ...]:
        """All that the model writes, the answer last."""
        return tuple(part for part in self.parts if isinstance(part, SlotPart))

    @property
    def prompt(self) -> tuple[Part, ...]:
        """The parts before the slots."""
        return self.parts[: len(self.parts) - len(self.slots)]

    @property
    def takes(self) -> frozenset[str]:
        """What a user gives: of "text", "question", "image", "audio", "box" and "video"; and
        "frames", how many of a video that it makes."""
        media = {part.kind for part in self.parts if isinstance(part, MediaPart)}
        media |= {"frames"} if self.slot.kind == "video" else set()
        return frozenset(media | (self.placeholders & {"text", "question"}))

    @property
    def thinks(self) -> bool:
        """Whether the model writes more than the answer."""
        return bool(self.thought_ends) or len(self.slots) > 1

    @property
    def media(self) -> tuple[str, ...]:
        """The modalities of the media that a user gives."""
        parts = tuple(part.kind for part in self.parts if isinstance(part, MediaPart))
        return (*parts, "audio") if self.slot.listens else parts

    @property
    def modalities(self) -> frozenset[str]:
        """The modalities of media that the task cannot do without: given, and made."""
        return frozenset({*self.media, *(slot.kind for slot in self.slots)} - {"text", "any"})

    @property
    def placeholders(self) -> frozenset[str]:
        """Those in any of its words."""
        names = [part.placeholders for part in self.parts if isinstance(part, TextPart)]
        return frozenset().union(*names)

    @property
    def kind(self) -> str:
        """The kind of what it makes, whose temperature is "the" temperature: "any" begins as
        text."""
        return "text" if self.slot.kind == "any" else self.slot.kind

    @property
    def words(self) -> str:
        """The prompt in one line, as people read it: what is given stands in angle brackets."""
        pieces = []
        for part in self.prompt:
            if isinstance(part, TextPart):
                pieces.append(part.text)
            elif isinstance(part, MediaPart):
                pieces.append(_PLACES.get(part.kind, part.kind))
        if self.slot.listens:
            pieces.append("<sound beside it>")
        return " ".join(pieces)

    def form_for(self, takes: frozenset[str], language: str | None = None) -> Task:
        """The task itself or that of its forms for what is given, in a language if one is named.

        takes: names of what a user gives, see the property. Where no form fits it, the task itself.

        Raises ValueError for a language that there is not.
        """
        forms = (self, *self.forms)
        fitting = [form for form in forms if form.takes == takes]
        if language is None:
            return (fitting or [self])[0]
        has = list(dict.fromkeys(each.language for each in fitting or forms if each.language))
        if language not in has:
            raise ValueError(
                f"language is {quoted(language)}, expected one of {', '.join(has)}"
                if has
                else f"language is {quoted(language)}, but to {self.verb} is asked for in one form"
                " here, whatever the language; leave it out"
            )
        return next((form for form in fitting if form.language == language), self)

    def sampling_over(self, sampling: Sampling) -> Sampling:
        """A model's sampling parameters with those of the task in their place."""
        return sampling_over(sampling, self.sampling)


@dataclass(frozen=True)
class Refusal:
    """Why a model cannot do something, in one line: the reason, and what to do instead."""

    verb: Verb
    reason: str

    def __post_init__(self) -> None:
        if self.verb not in VERBS:
            raise ValueError(f"verb is {quoted(self.verb)}, expected one of {', '.join(VERBS)}")
        if not isinstance(self.reason, str) or not self.reason.strip():
            raise ValueError(f"reason is {quoted(self.reason)}, expected a text")

"""A task: the document that asks a model for one kind of thing, and what goes with it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from unified.engine.request import Sampling
from unified.sequence.modality import modality_of, registered_modalities
from unified.tasks.settings import check_settings, sampling_over
from unified.tasks.size_rule import SizeRule
from unified.tasks.template import placeholders_of
from unified_base.text import quoted
from unified_data.document import Role

__all__ = ["VERBS", "MediaPart", "Part", "Refusal", "SlotPart", "Task", "TextPart", "Verb"]

Verb = Literal["write", "draw", "describe", "ask", "speak", "listen", "reply"]
VERBS: tuple[Verb, ...] = get_args(Verb)
"""What a model may be asked for, in the order in which it is told."""

MAKES: Mapping[Verb, tuple[str, ...]] = {
    "write": ("any", "text"),
    "draw": ("image",),
    "describe": ("text",),
    "ask": ("text",),
    "speak": ("audio",),
    "listen": ("text",),
    "reply": ("audio",),
}
"""The slots that a verb may end in: what its answer is."""
_NEEDS: Mapping[Verb, str] = {"write": "text", "draw": "text", "ask": "question", "speak": "text"}
_ROLES = (None, *get_args(Role))


@dataclass(frozen=True)
class TextPart:
    """Words, with placeholders (`unified.tasks.template`) for the user's.

    otherwise: the words where one of the placeholders of `text` has no value, such as a voice that
    nobody named; None: such a request is refused.
    """

    text: str
    role: Role | None = None
    otherwise: str | None = None

    def __post_init__(self) -> None:
        _check_role(self.role)
        for name in ("text", "otherwise"):
            value = getattr(self, name)
            if value is None and name == "otherwise":
                continue
            if not isinstance(value, str) or not value:
                raise ValueError(f"{name} is {quoted(value)}, expected a text that is not empty")
            placeholders_of(value)

    @property
    def placeholders(self) -> frozenset[str]:
        return frozenset(placeholders_of(self.text) + placeholders_of(self.otherwise or ""))


@dataclass(frozen=True)
class MediaPart:
    """What the user gives: a picture or a sound. kind: a modality of `sequence.modality`."""

    kind: str
    role: Role | None = None

    def __post_init__(self) -> None:
        _check_role(self.role)
        _check_kind("media", self.kind, ())


@dataclass(frozen=True)
class SlotPart:
    """What the model writes. kind: "text", "image", "audio", or "any", which runs to the end.

    listens: whether the sound that a user gives is heard while this one is made, each frame beside
    one of it (`Slot.listener`).
    """

    kind: str
    role: Role | None = None
    listens: bool = False

    def __post_init__(self) -> None:
        _check_role(self.role)
        _check_kind("slot", self.kind, ("text", "any"))
        if not isinstance(self.listens, bool):
            raise ValueError(f"listens is {quoted(self.listens)}, expected true or false")
        if self.listens and self.kind != "audio":
            raise ValueError(f"listens is of slots of audio, but the slot is {self.kind}")


Part = TextPart | MediaPart | SlotPart


@dataclass(frozen=True)
class Task:
    """How a model is asked for one kind of thing.

    parts: of the document, in order; the last is its only slot.
    source: where these words come from, such as a model card.
    negative: what guidance has in place of the prompt; None: nothing.
    sampling: settings that differ from the model's, as `sampling_over` takes them:
        {"image": {"temperature": 1.0, "guidance": 3.0}, "max_ids": 9216}.
    size: of the pictures that the task makes or is given.
    voices: names that {voice} may have; () with a {voice} in the words: any name.
    voice: the one where nobody names one.
    example: of what a user says.

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

    def __post_init__(self) -> None:
        if self.verb not in VERBS:
            raise ValueError(f"verb is {quoted(self.verb)}, expected one of {', '.join(VERBS)}")
        object.__setattr__(self, "parts", tuple(self.parts))
        object.__setattr__(self, "voices", tuple(self.voices))
        self._check_parts()
        self._check_words()
        check_settings(self.sampling)
        if self.size is not None and not self.modalities & {"image"} and self.slot.kind != "any":
            raise ValueError("size is of pictures, but the task has none")

    def _check_parts(self) -> None:
        slots = [part for part in self.parts if isinstance(part, SlotPart)]
        if len(slots) != 1 or self.parts[-1] is not slots[0]:
            raise ValueError(
                f"the document has {len(slots)} slots, expected one, as its last part: the answer"
            )
        makes = MAKES[self.verb]
        if slots[0].kind not in makes:
            raise ValueError(
                f"the slot is {slots[0].kind}, but to {self.verb} makes {' or '.join(makes)}"
            )
        media = [part.kind for part in self.parts if isinstance(part, MediaPart)]
        if len(media) != len(set(media)):
            raise ValueError(f"the document has {len(media)} media, expected one of each kind")
        needs = {"describe": "image", "listen": "audio"}.get(self.verb)
        if needs is not None and media != [needs]:
            raise ValueError(
                f"to {self.verb} is given one {needs}, but the document has {media or 'no media'}"
            )
        if self.verb == "ask" and not media:
            raise ValueError("to ask is given a picture or a sound, but the document has no media")
        if self.verb in ("draw", "speak", "write") and media:
            raise ValueError(f"to {self.verb} is given words alone, but the document has {media}")
        if slots[0].listens != (self.verb == "reply") or (self.verb == "reply" and media):
            raise ValueError(
                "to reply is given a sound that the slot listens to, and nothing else is"
                f" (listens: true), but to {self.verb} has the slot with listens"
                f" {str(slots[0].listens).lower()} and {media or 'no'} media"
            )

    def _check_words(self) -> None:
        names = self.placeholders
        needed = _NEEDS.get(self.verb)
        if needed is not None and needed not in names:
            raise ValueError(f"no part has {{{needed}}}, which is what a user says")
        known = {*((needed,) if needed else ()), "height", "width"}
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

    @property
    def slot(self) -> SlotPart:
        """What the model writes."""
        last = self.parts[-1]
        assert isinstance(last, SlotPart)
        return last

    @property
    def media(self) -> tuple[str, ...]:
        """The modalities of the media that a user gives."""
        parts = tuple(part.kind for part in self.parts if isinstance(part, MediaPart))
        return (*parts, "audio") if self.slot.listens else parts

    @property
    def modalities(self) -> frozenset[str]:
        """The modalities of media that the task cannot do without: given, and made."""
        return frozenset({*self.media, self.slot.kind} - {"text", "any"})

    @property
    def placeholders(self) -> frozenset[str]:
        """Those in any of its words."""
        texts = [part.placeholders for part in self.parts if isinstance(part, TextPart)]
        return frozenset().union(*texts)

    @property
    def kind(self) -> str:
        """The kind of what it makes, whose temperature is "the" temperature: "any" begins as
        text."""
        return "text" if self.slot.kind == "any" else self.slot.kind

    @property
    def words(self) -> str:
        """The prompt in one line, as people read it: what is given stands in angle brackets."""
        pieces = []
        for part in self.parts[:-1]:
            if isinstance(part, TextPart):
                pieces.append(part.text)
            elif isinstance(part, MediaPart):
                pieces.append({"image": "<picture>", "audio": "<sound>"}.get(part.kind, part.kind))
        if self.slot.listens:
            pieces.append("<sound beside it>")
        return " ".join(pieces)

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


def _check_role(role: Any) -> None:
    if not (role is None or isinstance(role, str)) or role not in _ROLES:
        raise ValueError(f"role is {quoted(role)}, expected prompt, response, scene, or none")


def _check_kind(what: str, kind: Any, others: tuple[str, ...]) -> None:
    """Raises ValueError for what is no modality, nor one of `others`."""
    if isinstance(kind, str):
        if kind in others:
            return
        with suppress(ValueError):
            modality_of(kind)
            return
    names = ", ".join((*others, *registered_modalities()))
    raise ValueError(f"{what} is {quoted(kind)}, expected one of {names}")

"""The parts of a task: words, what the user gives, and what the model writes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, get_args

from unified.sequence.modality import modality_of, registered_modalities
from unified.tasks.template import placeholders_of
from unified_base.text import quoted
from unified_data.document import Role

__all__ = ["MediaPart", "Part", "SlotPart", "TextPart"]

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

"""Turns of a conversation as prompts and responses, media in the places of <image> and <audio>."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from unified_data.document import Role
from unified_data.importers.builder import DocumentBuilder, shown
from unified_data.importers.source import names_of

__all__ = ["add_turns", "places_of", "refuse_fields", "role_of"]

_ROLES: dict[str, Role] = {
    "system": "prompt",
    "user": "prompt",
    "human": "prompt",
    "assistant": "response",
    "gpt": "response",
}
_PLACEHOLDER = re.compile(r"\n?<(image|audio)>\n?")


def add_turns(
    builder: DocumentBuilder,
    turns: Any,
    images: Iterable[str],
    audios: Iterable[str],
    answered: bool = True,
) -> None:
    """Add a conversation: what the system and the user say is prompt, the rest is response.

    turns: a list of {"from" or "role": who, "value" or "content": text}; the text may also be a
    list of {"type": "text" | "image" | "audio", ...}. A placeholder takes the next name of images
    or audios; the line breaks right beside it go with it. answered: whether some turn must be a
    response.

    Raises ValueError for anything else, and where placeholders and names differ in number.
    """
    waiting = {"image": list(images), "audio": list(audios)}
    given = {kind: len(names) for kind, names in waiting.items()}
    asked = dict.fromkeys(waiting, 0)
    missing = answered

    def add_media(kind: str, role: Role) -> None:
        asked[kind] += 1
        if asked[kind] <= given[kind]:
            getattr(builder, kind)(waiting[kind].pop(0), role)

    if not isinstance(turns, list):
        raise ValueError("its conversation is no list")
    for number, turn in enumerate(turns):
        role = role_of(turn)
        if role is None:
            raise ValueError(f"turn {number} is not from one of {', '.join(_ROLES)}")
        missing &= role != "response"
        for part in _parts(turn):
            if isinstance(part, str):
                _add_text(builder, part, role, add_media)
                continue
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "text" and isinstance(part.get("text"), str):
                builder.text(part["text"], role)
            elif kind in ("image", "audio"):
                names = names_of(part, kind)
                waiting[kind][:0] = names
                given[kind] += len(names)
                for _ in range(max(1, len(names))):
                    add_media(kind, role)
            else:
                raise ValueError(f"turn {number} holds neither text nor a picture or sound")
    for kind, count in given.items():
        if count != asked[kind]:
            raise ValueError(f"it has {count} {kind} files for {asked[kind]} places")
    if missing:
        raise ValueError("nothing in it is a response")


def role_of(turn: Any) -> Role | None:
    """The role of who speaks in a turn, None for what is no turn."""
    who = turn.get("from", turn.get("role")) if isinstance(turn, dict) else None
    return _ROLES.get(who) if isinstance(who, str) else None


def places_of(turns: Iterable[Any], kind: str) -> int:
    """How many names of images or audios (kind: "image" or "audio") turns ask for."""
    count = 0
    for turn in turns:
        for part in _parts(turn):
            if isinstance(part, str):
                count += sum(match[1] == kind for match in _PLACEHOLDER.finditer(part))
            elif isinstance(part, dict) and part.get("type") == kind:
                count += not names_of(part, kind)
    return count


def _parts(turn: Any) -> list[Any]:
    content = turn.get("value", turn.get("content")) if isinstance(turn, dict) else None
    return content if isinstance(content, list) else [content]


def _add_text(builder: DocumentBuilder, text: str, role: Role, add_media: Any) -> None:
    for place, piece in enumerate(_PLACEHOLDER.split(text)):
        if place % 2:
            add_media(piece, role)
        else:
            builder.text(piece, role)


def refuse_fields(record: dict[str, Any], names: Iterable[str]) -> None:
    """Raises ValueError where a field that cannot be taken over holds something."""
    for name in names:
        if record.get(name):
            raise ValueError(f"it has {shown(name)}, which a document cannot hold")

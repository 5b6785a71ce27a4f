"""Turns of a conversation as prompts and responses, media in the places of <image> and <audio>.

What a turn may hold beside its text and media: a weight (`weight`, `loss` or `train`), which
becomes the loss of what it says, and a `refusal`, which is its text. What a document cannot hold
(`reasoning_content`, `tool_calls`, tools that speak, a sound of the API's) is refused by name. Any
other field is counted as ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from unified_base.text import quoted
from unified_data.document import MAX_LOSS, Role
from unified_data.importers.builder import DocumentBuilder, check_weight
from unified_data.importers.embedded import Name
from unified_data.importers.parts import Part, Verbatim, contents
from unified_data.importers.records import expect
from unified_data.importers.tags import Place, Tags, count_tags, split_at_tags

__all__ = [
    "add_turns",
    "refuse_fields",
    "role_of",
    "tags_of",
    "turns_of",
]

_ROLES: dict[str, Role] = {
    "system": "prompt",
    "developer": "prompt",
    "user": "prompt",
    "human": "prompt",
    "assistant": "response",
    "gpt": "response",
    "chatgpt": "response",
    "model": "response",
    "bot": "response",
}
_MAY_BE_EMPTY = ("system", "developer")
_WHO, _WHAT = ("from", "role"), ("value", "content")
_WEIGHTS = ("weight", "loss", "train")
_REFUSED = ("reasoning_content", "reasoning", "thinking", "tool_calls", "function_call",
            "tool_call_id", "audio", "images", "image", "videos", "video")  # fmt: skip
_KNOWN = (*_WHO, *_WHAT, *_WEIGHTS, *_REFUSED, "refusal")


def add_turns(
    builder: DocumentBuilder,
    turns: Any,
    media: Mapping[str, Iterable[Name]],
    answered: bool = True,
    only_apart: Mapping[str, bool] | None = None,
) -> None:
    """Add a conversation: what the system and the user say is prompt, the rest is response.

    turns: a list of {"from" or "role": who, "value" or "content": text}; the text may also be a
    list of parts (see `parts`). A tag <image> or <audio> takes the next name of that kind in
    `media`; the line break beside it goes with it. Of a kind that `media` lacks there are no tags.
    answered: whether some turn must be a response. only_apart: which tags are places, see `tags`;
    by default as the number of files has it.

    Raises ValueError for anything else, where places and names differ in number, and for a turn
    (but one of the system's) that says nothing.
    """
    waiting = {kind: list(names) for kind, names in media.items()}
    files = {kind: len(names) for kind, names in waiting.items()}
    asked = dict.fromkeys(waiting, 0)
    missing = answered
    if not isinstance(turns, list):
        raise ValueError("its conversation is no list")
    for number, turn in enumerate(turns):
        _check_turn(turn, number)
    apart = {
        kind: tags_of(turns, kind).only_apart(count) if only_apart is None else only_apart[kind]
        for kind, count in files.items()
    }
    for number, turn in enumerate(turns):
        role, loss, says = role_of(turn), _weight(turn, f"turn {number}"), False
        builder.ignore_others(turn, _KNOWN, "turn.")
        for part in _contents(turn, number, builder.ignore):
            for piece in _pieces(part, apart, builder):
                says |= not isinstance(piece, str) or bool(piece.strip())
                if isinstance(piece, str):
                    builder.text(str(piece), role, loss=loss)
                elif isinstance(piece, Place):
                    index = asked.get(piece.kind, 0)
                    if piece.index not in (None, index):
                        raise ValueError(
                            f"turn {number} asks for {piece.kind} {quoted(piece.index)}, but it is "
                            f"the turn of {piece.kind} {index}; they are taken in their order"
                        )
                    asked[piece.kind] = index + 1
                    if waiting.get(piece.kind):
                        builder.add(piece.kind, waiting[piece.kind].pop(0), role, loss)
                else:
                    builder.add(piece[0], piece[1], role, loss)
        if not says and turn_kind(turn) not in _MAY_BE_EMPTY:
            raise ValueError(f"turn {number} ({turn_kind(turn)}) is empty")
        missing &= role != "response"
    for kind, count in asked.items():
        if count != files.get(kind, 0):
            raise ValueError(
                f"it has {files.get(kind, 0)} {kind} files for {count} places; write \\<{kind}> "
                "where the words are meant"
            )
    if missing:
        raise ValueError("nothing in it is a response")


def turn_kind(turn: Any) -> str | None:
    """Who speaks in a turn, None for what is no turn."""
    who = _either(turn, _WHO) if isinstance(turn, dict) else None
    return who if isinstance(who, str) else None


def role_of(turn: Any) -> Role | None:
    """The role of who speaks in a turn, None for what is no turn."""
    return _ROLES.get(turn_kind(turn) or "")


def tags_of(turns: Iterable[Any], kind: str) -> Tags:
    """The tags of a kind in turns; a part that asks for a file without naming it counts as one."""
    count = Tags()
    for number, turn in enumerate(turns):
        for part in _contents(turn, number):
            if isinstance(part, str) and not isinstance(part, Verbatim):
                count += count_tags([part], kind)
            elif isinstance(part, Place) and part.kind == kind:
                count += Tags(1, 1)
    return count


def turns_of(record: dict[str, Any], fields: Iterable[str] = ("messages", "conversations")) -> Any:
    """The turns of a record, those of `system` before them; the other of the two must be absent.

    Raises ValueError where there are none, or two.
    """
    fields = tuple(fields)
    filled = [name for name in fields if record.get(name) not in (None, [])]
    if len(filled) > 1:
        raise ValueError(f"it has {' and '.join(map(repr, filled))}, expected one of them")
    present = next((name for name in fields if name in record), fields[0])
    turns = expect(record, filled[0] if filled else present, list)
    if record.get("system") is not None:
        turns = [{"role": "system", "content": expect(record, "system", str)}, *turns]
    return turns


def refuse_fields(record: dict[str, Any], names: Iterable[str]) -> None:
    """Raises ValueError where a field that cannot be taken over holds something."""
    for name in names:
        if record.get(name) not in (None, "", "[]", [], {}, False):
            raise ValueError(f"it has {quoted(name)}, which a document cannot hold")
    check_weight(record.get("weight"))


def _pieces(part: Part, apart: dict[str, bool], builder: DocumentBuilder) -> list[Any]:
    """A part of a turn, of a text its places and what is between them."""
    if not isinstance(part, str) or isinstance(part, Verbatim):
        return [part]
    pieces, words = split_at_tags(part, apart)
    for kind in words:
        builder.ignore(f"<{kind}> as words")
    return pieces


def _who(turn: Any) -> str:
    who = turn_kind(turn)
    return "" if who is None else f", but from {quoted(who)}"


def _either(turn: dict[str, Any], names: tuple[str, ...]) -> Any:
    """The value that a turn has under one of several names. ValueError where they differ."""
    values = [turn[name] for name in names if turn.get(name) is not None]
    if any(value != values[0] for value in values[1:]):
        raise ValueError(f"a turn has {' and '.join(map(repr, names))}, which differ")
    return values[0] if values else None


def _check_turn(turn: Any, number: int) -> None:
    """Raises ValueError for what is no turn, or has what a document cannot hold."""
    if role_of(turn) is None:
        raise ValueError(f"turn {number} is not from one of {', '.join(_ROLES)}{_who(turn)}")
    for name in _REFUSED:
        if turn.get(name) not in (None, "", [], {}):
            raise ValueError(f"turn {number} has {name!r}, which a document cannot hold")


def _weight(turn: dict[str, Any], where: str) -> float | None:
    """The weight of a turn's loss, None for the usual one."""
    weights = {name: turn[name] for name in _WEIGHTS if turn.get(name) is not None}
    if not weights:
        return None
    for name, value in weights.items():
        if not isinstance(value, int | float) or not 0 <= value <= MAX_LOSS:
            raise ValueError(
                f"{where} has {name} {quoted(value)}, expected 0 to {MAX_LOSS:,.0f}, true or false"
            )
    if len({float(value) for value in weights.values()}) > 1:
        raise ValueError(f"{where} has {' and '.join(map(repr, weights))}, which differ")
    return float(next(iter(weights.values())))


def _contents(
    turn: Any, number: int, ignore: Callable[[str], None] = lambda name: None
) -> Iterator[Part]:
    """What a turn holds; a refusal is its text."""
    if not isinstance(turn, dict):
        return
    content, refusal = _either(turn, _WHAT), turn.get("refusal")
    if refusal not in (None, ""):
        if content not in (None, "", []) or not isinstance(refusal, str):
            raise ValueError(f"turn {number} has a refusal that is no text, or beside its content")
        content = refusal
    yield from contents(content, f"turn {number}", ignore)

"""What a turn of a conversation holds: a text, or a list of parts as chat templates and APIs have.

{"type": "text", "text": ...}; {"type": "image", "image" or "url" or "path" or "base64": ...}, or
one that names no picture and takes the next; {"type": "image_url", "image_url": {"url": ...}};
the same of audio, and {"type": "input_audio", "input_audio": {"data": ...}}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from unified_base.text import quoted
from unified_data.importers.embedded import Embedded, Name, data_address, media_name
from unified_data.importers.records import names_of
from unified_data.importers.tags import Place

__all__ = ["Part", "Verbatim", "contents"]

_TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
_MEDIA = ("image", "audio")
_NAMED_BY = ("url", "path", "base64", "source")
"""Fields that hold or name a medium, beside the one of its kind."""
_EMPTY: tuple[Any, ...] = (None, "", [], {})


class Verbatim(str):
    """The text of a part that says it is text: no tag in it is a place."""


Part = str | Place | tuple[str, Name]
"""A text, a place of the next file of a kind, or a kind and the medium."""


def contents(content: Any, where: str, ignore: Callable[[str], None]) -> Iterator[Part]:
    """The parts of a turn's content, in order. where: what an error calls the turn. ignore: called
    with the name of each field of a part that is not taken over.

    Raises ValueError for a part of another form.
    """
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            if part.strip():
                yield part
            continue
        kind = part.get("type") if isinstance(part, dict) else None
        field = _TEXTS.get(kind) if isinstance(kind, str) else None
        if field is not None and isinstance(part.get(field), str):
            _check_fields(part, ("type", field), where, ignore)
            yield Verbatim(part[field])
        elif kind in _MEDIA:
            yield from _media(part, kind, where, ignore)
        elif isinstance(kind, str) and kind in ("image_url", "audio_url"):
            _check_fields(part, ("type", kind), where, ignore)
            yield kind.removesuffix("_url"), _address(part.get(kind), kind, where)
        elif kind == "input_audio":
            _check_fields(part, ("type", kind), where, ignore)
            yield "audio", _sound(part.get(kind), where)
        else:
            what = f" but {quoted(kind)}" if isinstance(kind, str) else ""
            raise ValueError(f"{where} holds neither text nor a picture or sound{what}")


def _media(
    part: dict[str, Any], kind: str, where: str, ignore: Callable[[str], None]
) -> Iterator[Part]:
    """The media that a part names, or the place of the next."""
    filled = [name for name in (kind, *_NAMED_BY) if part.get(name) not in _EMPTY]
    if len(filled) > 1:
        raise ValueError(f"{where} has {' and '.join(map(repr, filled))}, expected one of them")
    _check_fields(part, ("type", "index", kind, *_NAMED_BY), where, ignore)
    if not filled:
        index = part.get("index")
        if index is not None and (type(index) is not int or index < 0):
            raise ValueError(f"{where} has index {quoted(index)}, expected a whole number")
        yield Place(kind, index)
    elif filled == ["source"]:
        yield kind, _source(part["source"], kind, where)
    elif filled == ["base64"]:
        yield kind, _of_base64(part["base64"], kind, where)
    else:
        yield from ((kind, name) for name in names_of(part, filled[0]))


def _check_fields(
    part: dict[str, Any], used: tuple[str, ...], where: str, ignore: Callable[[str], None]
) -> None:
    """Raises ValueError where a part has media beside what it says it is; counts other fields."""
    for name, value in part.items():
        if name in used or value in _EMPTY:
            continue
        if name in (*_MEDIA, *_NAMED_BY, "image_url", "audio_url", "input_audio", "text"):
            raise ValueError(f"{where} has a part of type {quoted(part['type'])} with {name!r}")
        ignore(f"part.{name}")


def _address(value: Any, kind: str, where: str) -> Name:
    address = value.get("url") if isinstance(value, dict) else value
    if not isinstance(address, str) or not address:
        raise ValueError(f"{where} has an {kind} without a url")
    return media_name(address)


def _sound(value: Any, where: str) -> Embedded:
    data = value.get("data") if isinstance(value, dict) else None
    if not isinstance(data, str):
        raise ValueError(f"{where} has an input_audio without data")
    return _of_base64(data, "audio", where)


def _source(value: Any, kind: str, where: str) -> Name:
    """{"type": "base64", "data": ...} or {"type": "url", "url": ...}."""
    if isinstance(value, dict) and value.get("type") == "base64":
        return _of_base64(value.get("data"), kind, where)
    if isinstance(value, dict) and isinstance(value.get("url"), str):
        return media_name(value["url"])
    raise ValueError(f"{where} has a source of an {kind} that is neither base64 nor a url")


def _of_base64(data: Any, kind: str, where: str) -> Embedded:
    if not isinstance(data, str):
        raise ValueError(f"{where} has an {kind} that is no base64 text")
    return data_address(f"data:{kind};base64,{data}")

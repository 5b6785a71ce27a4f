"""Every key of a configuration, with its type, default, unit and meaning, from its dataclasses.

The meaning is the string under a field, whose last words in brackets are its unit:

    steps: int
    \"\"\"Optimizer steps of the run. [steps]\"\"\"
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from textwrap import dedent, indent, wrap
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

__all__ = ["ConfigKey", "as_markdown", "as_text", "config_keys"]

_UNIT = re.compile(r"\s*\[([^\]]+)\]$")
_REQUIRED = "required"


@dataclass(frozen=True)
class ConfigKey:
    """One key of a configuration.

    Attributes:
        name: dotted; a name that is the user's stands as NAME.
        type: in words of YAML: "whole number", "list of texts".
        default: as YAML has it; "required" where there is none, "" of a group.
        unit: of a number; "" for none.
        meaning: one paragraph.
    """

    name: str
    type: str
    default: str
    unit: str
    meaning: str


def config_keys(kind: type[Any]) -> list[ConfigKey]:
    """The keys of a configuration, groups before what is in them, in the order of their fields."""
    return list(_keys(kind, "", {}))


def _keys(kind: type[Any], inside: str, listed: dict[type[Any], str]) -> Iterator[ConfigKey]:
    """listed: groups whose keys have been listed, and under which name."""
    hints, meanings = get_type_hints(kind), _field_docs(kind)
    for field in fields(kind):
        hint = hints[field.name]
        text = " ".join(meanings[field.name].split())
        unit = _UNIT.search(text)
        meaning = text[: unit.start()] if unit else text
        name, (group, named) = f"{inside}{field.name}", _group(hint)
        if group in listed:
            meaning += f" Its keys are those of `{listed[group]}`."
        yield ConfigKey(name, _in_words(hint), _default(field), unit[1] if unit else "", meaning)
        if group is not None and group not in listed:
            listed[group] = name
            yield from _keys(group, f"{name}.NAME." if named else f"{name}.", listed)


def _group(hint: Any) -> tuple[type[Any] | None, bool]:
    """The dataclass that a field holds, if any; whether under names of the user's."""
    for member in _members(hint):
        if is_dataclass(member) and isinstance(member, type):
            return member, False
        if get_origin(member) in (dict, Mapping) and is_dataclass(get_args(member)[1]):
            return get_args(member)[1], True
    return None, False


def _members(hint: Any) -> tuple[Any, ...]:
    union = get_origin(hint) in (Union, UnionType)
    return tuple(m for m in get_args(hint) if m is not NoneType) if union else (hint,)


_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything"}


def _in_words(hint: Any) -> str:
    return " or ".join(dict.fromkeys(_word(member) for member in _members(hint)))


def _word(hint: Any) -> str:
    if hint in _WORDS:
        return _WORDS[hint]
    if is_dataclass(hint):
        return "group"
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin is tuple and arguments[-1] is not Ellipsis:
        return f"list of {len(arguments)} {_word(arguments[0])}s"
    if origin in (tuple, list):
        return f"list of {_word(arguments[0])}s"
    if arguments and is_dataclass(arguments[1]):
        return "groups by name"
    return "mapping"


def _default(field: Field[Any]) -> str:
    if field.default is not MISSING:
        value = field.default
    elif field.default_factory is not MISSING:
        value = field.default_factory()
    else:
        return _REQUIRED
    if is_dataclass(value) and not isinstance(value, type):
        return ""
    if value is None:
        return "empty"
    return json.dumps(value).strip('"')


def _field_docs(kind: type[Any]) -> dict[str, str]:
    """The string under each field, of the classes it is inherited from, too.

    Raises ValueError for a field that has none.
    """
    docs: dict[str, str] = {}
    for parent in reversed(kind.__mro__):
        if not is_dataclass(parent):
            continue
        body = ast.parse(dedent(inspect.getsource(parent))).body[0]
        assert isinstance(body, ast.ClassDef)
        for statement, following in zip(body.body, body.body[1:]):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
                and isinstance(following.value.value, str)
            ):
                docs[statement.target.id] = following.value.value
    if missing := [field.name for field in fields(kind) if field.name not in docs]:
        raise ValueError(f"{kind.__name__} says nothing of its fields {', '.join(missing)}")
    return docs


def as_text(kind: type[Any], width: int = 100) -> str:
    """The keys for a terminal: one line each, and its meaning below."""
    lines = []
    for key in config_keys(kind):
        unit = f" [{key.unit}]" if key.unit else ""
        default = f" = {key.default}" if key.default else ""
        lines.append(f"{key.name}{default}  ({key.type}){unit}")
        lines.append(indent("\n".join(wrap(key.meaning, width - 4)), "    "))
    return "\n".join(lines)


def as_markdown(kind: type[Any]) -> str:
    """The keys as a table for the documentation."""
    lines = ["| key | type | unit | default | meaning |", "|---|---|---|---|---|"]
    for key in config_keys(kind):
        cells = (f"`{key.name}`", key.type, key.unit, _cell(key.default), key.meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _cell(default: str) -> str:
    return default if default in ("", _REQUIRED, "empty") else f"`{default}`"

"""Configurations as dataclasses: one reader for every YAML, JSON and override that states one.

Pydantic judges the entries strictly: types as annotated, nothing unknown, nothing missing, and
whatever `__post_init__` refuses. Three things are forgiven, because of how YAML is written: a
number such as `2e-3`, which YAML reads as text; one text where a list of them belongs; and an entry
that is left empty, which stands for its default.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from unified_base.plain_config import MisfitError, build_plain
from unified_base.structured import parse_yaml, read_json, read_yaml
from unified_base.text import quoted

__all__ = ["override", "parse_config", "read_config", "read_entries"]

T = TypeVar("T")
_Path = tuple[str | int, ...]

_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]{1,4}")
_LARGEST = 2**63 - 1
_SHORT = 40
# What an error of pydantic expected, in words of a configuration file.
_EXPECTED = {
    "bool_type": "true or false",
    "dataclass_type": "a mapping of entries",
    "dict_type": "a mapping",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "mapping_type": "a mapping",
    "missing": "a longer list",
    "none_required": "nothing",
    "string_type": "text",
    "too_long": "a shorter list",
    "tuple_type": "a list",
}


def read_config(
    kind: type[T],
    path: str | os.PathLike[str],
    overrides: Iterable[str] = (),
    renamed: Mapping[str, str] | None = None,
) -> T:
    """The dataclass `kind` that a YAML file (or JSON, by its suffix) states.

    Args:
        kind: a dataclass.
        path: of the file.
        overrides: "key=value" or "group.key=value", which replace entries of the file; values as
            YAML.
        renamed: keys of earlier versions, and what they are called now; they are refused.

    Raises:
        ValueError: one line "FILE: key.path is VALUE, expected ..." for what cannot be read, is
            unknown, missing, of another type, or refused by the dataclass.
    """
    where = str(Path(path))
    entries = override(read_entries(path), overrides, where)
    _check_renamed(entries, renamed or {}, where)
    return parse_config(kind, entries, where)


def _check_renamed(entries: Mapping[str, Any], renamed: Mapping[str, str], where: str) -> None:
    """Raises ValueError for keys of earlier versions."""
    groups = {new.partition(".")[0] for new in renamed.values() if "." in new}
    for key, value in entries.items():
        if key in renamed:
            raise ValueError(f"{where}: {key} is called {renamed[key]} now; rename it")
        if key in groups and isinstance(value, str):
            raise ValueError(f"{where}: {key} is {quoted(value)}, expected a group; write"
                             f" {key}.name (or {key}: {{name: {quoted(value)}, ...}})")  # fmt: skip


def read_entries(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The mapping in a YAML file, or in a JSON file by its suffix. ValueError as `read_config`."""
    value: dict[str, Any]
    value = read_json(path) if Path(path).suffix.lower() == ".json" else read_yaml(path)
    return value


def override(entries: Mapping[str, Any], overrides: Iterable[str], where: str) -> dict[str, Any]:
    """Entries with others in place of some: "steps=10", "optimizer.lr=1e-3", "data.0=shards".

    A group that is not there yet is made; an empty value stands for the default. `where` is for
    errors.

    Raises:
        ValueError: no "key=value", a value that is not YAML, or a key inside what is no group.
    """
    changed = copy.deepcopy(dict(entries))
    for text in overrides:
        name, equals, value = text.partition("=")
        parts = name.split(".")
        if not equals or not all(parts):
            raise ValueError(f"{quoted(text)} is no change of {where}, expected KEY=VALUE")
        _replace(changed, parts, parse_yaml(value, f"the value of {quoted(name)}"), where)
    return changed


def parse_config(kind: type[T], entries: Any, where: str) -> T:
    """The dataclass `kind` of plain entries, as JSON or YAML hold them; `where` is for errors.

    Fields in tuples take lists. ValueError as `read_config`.
    """
    assert is_dataclass(kind)
    try:
        return build_plain(kind, entries)
    except MisfitError:
        pass  # forgiven or said below
    from pydantic import ValidationError

    entries = copy.deepcopy(entries)
    while True:
        try:
            data = json.dumps([entries])
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{where} holds what no JSON does: {quoted(str(error))}") from None
        try:
            config: T = _adapter(kind).validate_json(data)[0]
        except ValidationError as error:
            errors = error.errors(include_url=False)
            # Not any(): each of them is forgiven in the same turn.
            if not sum([_forgive(kind, entries, problem) for problem in errors]):
                raise ValueError(_message(kind, entries, errors, where)) from None
            continue
        if (large := _too_large(entries)) is not None:
            raise ValueError(
                f"{where}: {_name(large)} is {quoted(_at(entries, large), _SHORT)}, expected a "
                "whole number of at most 18 digits"
            )
        return config


@lru_cache(maxsize=64)
def _adapter(kind: type[Any]) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    # In a tuple, since pydantic hands a configuration to a dataclass only from outside.
    return TypeAdapter(tuple[kind], config=ConfigDict(strict=True, extra="forbid"))  # type: ignore[valid-type]


def _replace(entries: Any, parts: list[str], value: Any, where: str) -> None:
    for depth, part in enumerate(parts):
        if isinstance(entries, list) and part.isdecimal() and int(part[:9]) < len(entries):
            part_: str | int = int(part)
        elif isinstance(entries, dict):
            part_ = part
            if depth + 1 < len(parts) and entries.get(part) is None:
                entries[part] = {}
        else:
            raise ValueError(
                f"{where}: {quoted('.'.join(parts))} names an entry of"
                f" {'.'.join(parts[:depth])}, which is {quoted(entries)}"
            )
        if depth + 1 == len(parts):
            entries[part_] = value
        else:
            entries = entries[part_]


def _forgive(kind: type[Any], entries: Any, problem: Mapping[str, Any]) -> bool:
    """Mend an entry that YAML is written like; whether anything was changed."""
    path, value, error = _path(entries, problem["loc"]), problem["input"], problem["type"]
    if not path or error in ("unexpected_keyword_argument", "value_error"):
        return False
    holder, last = _at(entries, path[:-1]), path[-1]
    if not isinstance(holder, dict) or last not in holder or holder[last] != value:
        return False
    if value is None:
        del holder[str(last)]
    elif error == "tuple_type" and isinstance(value, str):
        holder[last] = [value]
    elif error == "float_type" and isinstance(value, str) and _NUMBER.fullmatch(value):
        holder[last] = float(value)
    else:
        return False
    return True


def _path(entries: Any, loc: Iterable[str | int], missing: bool = False) -> _Path:
    """An error's place in the entries: `loc` without what names members of a union in it."""
    path: list[str | int] = []
    parts = list(loc)[1:]
    for at, part in enumerate(parts):
        inside = (
            part in entries
            if isinstance(entries, dict)
            else isinstance(entries, list) and isinstance(part, int) and part < len(entries)
        )
        if inside:
            entries = entries[part]
        if inside or (missing and at + 1 == len(parts) and isinstance(entries, dict)):
            path.append(part)
    return tuple(path)


def _at(entries: Any, path: _Path) -> Any:
    for part in path:
        entries = entries[part]
    return entries


def _message(kind: type[Any], entries: Any, errors: list[Any], where: str) -> str:
    errors = sorted(errors, key=lambda error: error["type"] != "unexpected_keyword_argument")
    first = errors[0]
    path = _path(entries, first["loc"], first["type"] == "missing")
    if first["type"] == "unexpected_keyword_argument":
        return _unknown(kind, path, where)
    if first["type"] == "missing" and not (path and isinstance(path[-1], int)):
        holder = _at(entries, path[:-1])
        if path and isinstance(holder, dict) and path[-1] not in holder:
            inside = f" in {_name(path[:-1])}" if path[:-1] else ""
            return f"{where}: the entry {quoted(str(path[-1]), _SHORT)} is missing{inside}"
    if first["type"] == "value_error":
        inside = f"{_name(path)}: " if path else ""
        return f"{where}: {inside}{first['ctx']['error']}"
    # Members of a union each say what they expected; those that came furthest count.
    paths = [(_path(entries, error["loc"]), error) for error in errors]
    near = [pair for pair in paths if pair[0][: len(path)] == path]
    deepest = max(len(inside) for inside, _ in near)
    near = [pair for pair in near if len(pair[0]) == deepest]
    path = near[0][0]
    expected = [_expected(error) for inside, error in near if inside == path]
    value = quoted(_at(entries, path))
    name = f": {_name(path)} is {value}" if path else f" holds {type(entries).__name__}"
    return f"{where}{name}, expected {' or '.join(dict.fromkeys(expected))}"


def _expected(error: Mapping[str, Any]) -> str:
    if error["type"] == "literal_error":
        expected = error["ctx"]["expected"]
        return expected if " or " not in expected else f"one of {expected}"
    return _EXPECTED.get(error["type"], error["msg"])


def _unknown(kind: type[Any], path: _Path, where: str) -> str:
    """An entry that the dataclass at its place does not have."""
    names = _names(kind, path[:-1])
    unknown = str(path[-1])
    near = get_close_matches(unknown[:_SHORT], names, 1)
    guess = f"did you mean {near[0]}?" if near else f"expected some of {', '.join(names)}"
    return f"{where}: unknown entry {_name(path)}; {guess}"


def _names(kind: Any, path: _Path) -> list[str]:
    """The entries that may stand at a place of a configuration."""
    for part in path:
        kind = _bare(kind)
        if is_dataclass(kind):
            kind = get_type_hints(kind).get(str(part))
        else:  # a mapping or a list: its last type is what it holds
            kind = next((arg for arg in reversed(get_args(kind)) if arg is not Ellipsis), None)
    kind = _bare(kind)
    return [field.name for field in fields(kind)] if is_dataclass(kind) else []


def _bare(kind: Any) -> Any:
    """A type without the None, or the plain ones, that may stand in its place."""
    if get_origin(kind) not in (Union, UnionType):
        return kind
    members = get_args(kind)
    return next((arg for arg in members if is_dataclass(arg) or get_args(arg)), members[0])


def _name(path: _Path) -> str:
    """A place as errors call it: "optimizer.lr"; nothing in it acts, and each part is cut."""
    return ".".join(quoted(str(part), _SHORT).strip("'\"") for part in path)


def _too_large(value: Any, path: _Path = ()) -> _Path | None:
    """The place of the first whole number that no machine word holds."""
    if isinstance(value, int) and not -_LARGEST <= value <= _LARGEST:
        return path
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in pairs:
            if (large := _too_large(inner, (*path, name))) is not None:
                return large
    return None

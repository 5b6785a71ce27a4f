"""Dataclasses of plain entries that fit as they stand, without pydantic.

pydantic takes 0.1 s to import and to make its validators, of a command that takes one second. Here
the entries that fit exactly become a dataclass; whatever does not is `config.parse_config`'s, which
knows what is forgiven, and says what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["MisfitError", "build_plain"]

T = TypeVar("T")
_LARGEST = 2**63 - 1


class MisfitError(Exception):
    """Entries that do not fit as they stand, or types that are not known here."""


def build_plain(kind: type[T], entries: Any) -> T:
    """The dataclass `kind` of entries as JSON holds them, exactly as pydantic makes it (strict,
    nothing unknown); its containers are copies.

    Raises MisfitError where pydantic might say or make anything else.
    """
    try:
        value: T = _value(kind, entries)
    except MisfitError:
        raise
    # Of __post_init__, and of types that are not known here.
    except (TypeError, ValueError, AttributeError, NameError, RecursionError) as error:
        raise MisfitError(str(error)) from None
    return value


def _value(kind: Any, value: Any) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return _json(value)
    if is_dataclass(kind):
        return _dataclass(kind, value)
    if kind in (bool, int, float, str, NoneType, None):
        return _scalar(kind, value)
    if origin in (Union, UnionType):
        return _union(get_args(kind), value)
    if origin is Literal:
        if any(type(value) is type(arg) and value == arg for arg in get_args(kind)):
            return value
    elif origin in (tuple, list):
        return _sequence(origin, get_args(kind), value)
    elif origin in (dict, Mapping) and get_args(kind)[0] is str and type(value) is dict:
        return {_scalar(str, key): _value(get_args(kind)[1], v) for key, v in value.items()}
    raise MisfitError(f"{value!r} as {kind}")


def _scalar(kind: Any, value: Any) -> Any:
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        if abs(value) < 2**53 or type(value) is float:
            return float(value)
    elif kind is int and type(value) is int:
        if abs(value) <= _LARGEST:
            return value
    elif kind is str and type(value) is str:
        if value.isascii():
            return value
    elif kind is bool and type(value) is bool:
        return value
    elif kind in (None, NoneType) and value is None:
        return None
    raise MisfitError(f"{value!r} as {kind}")


def _union(members: tuple[Any, ...], value: Any) -> Any:
    """As the member of its own type; of others that fit, all must make the same of it."""
    if type(value) in members:
        return _scalar(type(value), value)
    built = []
    for member in members:
        try:
            built.append(_value(member, value))
        except MisfitError:
            continue
    if not built or any(type(each) is not type(built[0]) or each != built[0] for each in built):
        raise MisfitError(f"{value!r} as one of {members}")
    return built[0]


def _sequence(origin: type[Any], kinds: tuple[Any, ...], value: Any) -> Any:
    if type(value) not in (list, tuple):
        raise MisfitError(f"{value!r} as a list")
    if origin is tuple and not (len(kinds) == 2 and kinds[1] is Ellipsis):
        if len(kinds) != len(value):
            raise MisfitError(f"{value!r} as {len(kinds)} entries")
        return tuple(_value(kind, each) for kind, each in zip(kinds, value))
    return origin(_value(kinds[0], each) for each in value)


def _dataclass(kind: Any, value: Any) -> Any:
    if type(value) is not dict:
        raise MisfitError(f"{value!r} as {kind.__name__}")
    known, hints = _fields(kind), _hints(kind)
    if unknown := value.keys() - known.keys():
        raise MisfitError(f"{kind.__name__} has no {unknown}")
    for name, field in known.items():
        if name not in value and field.default is MISSING and field.default_factory is MISSING:
            raise MisfitError(f"{kind.__name__} lacks {name}")
    return kind(**{name: _value(hints[name], each) for name, each in value.items()})


@lru_cache(maxsize=64)
def _fields(kind: type[Any]) -> Mapping[str, Field[Any]]:
    return {field.name: field for field in fields(kind) if field.init}


@lru_cache(maxsize=64)
def _hints(kind: type[Any]) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _json(value: Any) -> Any:
    """A copy of what is JSON and nothing else."""
    if type(value) is dict:
        return {_scalar(str, key): _json(each) for key, each in value.items()}
    if type(value) is list:
        return [_json(each) for each in value]
    return _scalar(type(value), value)

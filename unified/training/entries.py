"""Entries of a configuration file in the types of a dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

__all__ = ["typed"]


def typed(kind: type, entries: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Entries of a file in the types of a dataclass; lists as tuples. ValueError for others."""
    found = dict(entries)
    for wanted in fields(kind):
        if wanted.name not in found:
            continue
        name, value = wanted.name, found[wanted.name]
        if "tuple" in str(wanted.type):
            value = () if value is None else tuple(value) if isinstance(value, list) else value
            if not isinstance(value, tuple) and "str | tuple" not in str(wanted.type):
                value = (value,)
        if value is None and wanted.type == "dict[str, float]":
            value = {}
        if not _fits(value, str(wanted.type)):
            raise ValueError(f"{where} {name} is {found[name]!r}, expected {wanted.type}")
        found[name] = value
    return found


def _fits(value: Any, wanted: str) -> bool:
    """Whether a value is of a type, which is given as it stands in a dataclass above."""
    if " | " in wanted:
        return any(_fits(value, one) for one in wanted.split(" | "))
    if wanted in ("int", "float", "bool", "str", "None"):
        if isinstance(value, bool) or wanted == "bool":
            return isinstance(value, bool) and wanted == "bool"
        kinds: dict[str, Any] = {"int": int, "float": (int, float), "str": str, "None": type(None)}
        return isinstance(value, kinds[wanted])
    if wanted.startswith("tuple["):
        inner = wanted[6:-1].split(", ")
        several = inner[-1] == "..."
        fits = isinstance(value, tuple) and (several or len(value) == len(inner))
        return fits and all(_fits(one, inner[0]) for one in value)
    if wanted.startswith("dict[str, "):
        fits = isinstance(value, dict) and all(isinstance(name, str) for name in value)
        inner_kind = wanted[10:-1]
        return fits and all(inner_kind == "Any" or _fits(one, inner_kind) for one in value.values())
    return True  # sources and what is nested are made by now

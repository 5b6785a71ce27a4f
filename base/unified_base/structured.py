"""JSON and YAML of strangers: bounded in size, depth and digits, without YAML's aliases.

Both formats let a small file ask for much: nesting overflows the stack, an integer of many digits
takes quadratic time, YAML's aliases multiply (the "billion laughs"). What passes here is plain
data: dict with text keys, list, str, int, float, bool, None.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from unified_base.files import read_text
from unified_base.text import quoted

__all__ = ["MAX_DEPTH", "MAX_JSON", "parse_json", "parse_yaml", "read_json", "read_yaml"]

MAX_JSON = 16 << 20
"""Bytes of JSON that one text may have, where its reader names no limit of its own."""
MAX_YAML = 1 << 20
"""Bytes of a YAML file: PyYAML takes about 10 microseconds a byte."""
MAX_DEPTH = 64
"""How deep lists and mappings may nest."""
_MAX_DIGITS = 40


def parse_json(text: bytes | str, name: str, limit: int = MAX_JSON, constants: bool = False) -> Any:
    """The value of a JSON text; `name` is for errors.

    NaN and infinity, which JSON does not have, are refused (constants: accepted); so is a key that
    stands twice in one object, since readers disagree on which counts.

    Raises:
        ValueError: longer than `limit` bytes, not JSON, not UTF-8, nested more than `MAX_DEPTH`
            deep, or an integer of more than 40 digits.
    """
    if len(text) > limit:
        raise ValueError(f"{name} is {len(text):,} bytes long, expected at most {limit:,}")
    try:
        value = json.loads(
            text,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=float if constants else _no_constant,
            object_pairs_hook=_unique,
        )
    except RecursionError:
        raise ValueError(f"{name} is nested too deeply, expected at most {MAX_DEPTH}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{name} is not JSON: {error}") from None
    _check_depth(value, name)
    return value


def parse_yaml(text: str, name: str, limit: int = MAX_YAML) -> Any:
    """The value of a YAML text; `name` is for errors.

    Raises:
        ValueError: longer than `limit` characters, not YAML, with aliases, anchors or tags, with a
            key twice in one mapping or a key that is no text, or nested more than `MAX_DEPTH` deep.
    """
    if len(text) > limit:
        raise ValueError(f"{name} is {len(text):,} characters long, expected at most {limit:,}")
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise ValueError(f"{name} is nested too deeply, expected at most {MAX_DEPTH}") from None
    except _RefusedError as error:
        raise ValueError(f"{name}: {error}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{name} is not YAML: {quoted(' '.join(str(error).split()))}") from None


def read_json(
    path: str | os.PathLike[str],
    limit: int = MAX_JSON,
    kind: type | None = dict,
    constants: bool = False,
) -> Any:
    """The value of a JSON file. kind: dict or list, what it must hold; None: anything.

    Raises:
        ValueError: as `read_text` and `parse_json`, or it holds another kind of value.
    """
    value = parse_json(read_text(path, "file", limit), str(Path(path)), limit, constants)
    if kind is not None and not isinstance(value, kind):
        wanted = "an object" if kind is dict else "a list"
        raise ValueError(f"{Path(path)} holds {type(value).__name__}, expected {wanted}")
    return value


def read_yaml(path: str | os.PathLike[str], limit: int = MAX_YAML) -> dict[str, Any]:
    """The mapping of a YAML file.

    Raises:
        ValueError: as `read_text` and `parse_yaml`, or it holds something else.
    """
    value = parse_yaml(read_text(path, "file", limit), str(Path(path)), limit)
    if not isinstance(value, dict):
        raise ValueError(
            f"{Path(path)} holds {type(value).__name__}, expected a mapping of entries"
        )
    return value


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"the integer {digits[:20]}... has {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:20]} is too large")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name in counts if counts[name] > 1)
        raise ValueError(f"the key {quoted(twice)} stands twice in one object")
    return value


def _check_depth(value: Any, name: str) -> None:
    """Breadth first, so that no depth of the value can overflow the stack here."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"{name} is nested too deeply, expected at most {MAX_DEPTH}")


class _RefusedError(Exception):
    """What this reader does not take although it may be YAML."""


class _Loader(yaml.SafeLoader):
    """YAML without what multiplies or names types."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _RefusedError(
                f"line {event.start_mark.line + 1} has an anchor or alias, which may multiply; "
                "write the value out"
            )
        if getattr(event, "tag", None) is not None:
            raise _RefusedError(
                f"line {event.start_mark.line + 1} has the tag {quoted(event.tag)}; write plain "
                "values"
            )
        if self._depth > MAX_DEPTH:
            raise _RefusedError(
                f"line {event.start_mark.line + 1} is nested deeper than {MAX_DEPTH} levels"
            )
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                named = f" ({key.value[:40]})" if isinstance(key, yaml.ScalarNode) else ""
                raise _RefusedError(
                    f"line {key.start_mark.line + 1} has a key that is no text{named}; put it in "
                    "quotes"
                )
            if key.value in names:
                raise _RefusedError(
                    f"line {key.start_mark.line + 1} has the key {quoted(key.value)} a second time"
                )
            names.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: Any) -> int:
        if len(node.value) > _MAX_DIGITS:
            raise _RefusedError(
                f"line {node.start_mark.line + 1} has an integer of {len(node.value)} characters"
            )
        return super().construct_yaml_int(node)


# Dates are text to this reader: JSON has none.
_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)

"""The config.json of our own tokenizers: reading it, its bounds, and what a fingerprint has of it.

Without torch: who only looks codes up, or decodes with numpy, needs none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from unified_base.config import parse_config
from unified_base.structured import read_json
from unified_base.text import quoted

__all__ = ["check_sizes", "parse_saved", "read_entries", "settings_text"]

T = TypeVar("T")


def read_entries(path: Path, owner: str) -> dict[str, Any]:
    """The JSON object in a file of an `owner`, as errors call it.

    Raises:
        ValueError: the file is missing, or holds something else.
    """
    try:
        entries: dict[str, Any] = read_json(path)
    except ValueError as error:
        raise ValueError(
            f"no readable {path.name} of a {owner} in {path.parent}: {error}"
        ) from None
    return entries


def parse_saved(
    config_class: type[T],
    presets: Mapping[str, dict[str, Any]],
    entries: dict[str, Any],
    where: str,
) -> T:
    """The configuration dataclass from plain entries; lists become tuples.

    An entry `preset` stands for the entries of that name, which the others then replace.
    `where` is for errors: ValueError for unknown entries and a quantizer that cannot be.
    """
    if "preset" in entries:
        name = entries["preset"]
        if not isinstance(name, str) or name not in presets:
            raise ValueError(f"preset {quoted(name)}, expected one of {', '.join(presets)}")
        entries = {**presets[name], **entries}
        del entries["preset"]
    return parse_config(config_class, entries, where)


def check_sizes(entries: Any, numbers: int, where: str, name: str = "") -> None:
    """Raises ValueError for sizes that no tokenizer with so many weights has."""
    if isinstance(entries, dict):
        for inner, entry in entries.items():
            check_sizes(entry, numbers, where, inner)
    elif isinstance(entries, list | tuple):
        for entry in entries:
            check_sizes(entry, numbers, where, name)
    elif isinstance(entries, int) and not isinstance(entries, bool):
        few = max(numbers, 1 << 16)
        most = 1 << 20
        if "depth" in name or name == "groups":
            most = 256
        elif name == "num_mels":
            most = 4096
        elif "width" in name or name == "stride":  # there are layers from it to it
            most = math.isqrt(few)
        elif name in ("codes", "dim"):
            most = min(most, few)
        if not 0 <= entries <= most:
            raise ValueError(
                f"{where}: {name} is {quoted(entries)}, expected 0 to {most:,} with {numbers:,}"
                " weights"
            )


def settings_text(config: Any) -> str:
    """What a fingerprint has of a configuration: its settings but for defaults and training."""
    return json.dumps(_non_default(config), sort_keys=True)


def _non_default(config: Any) -> dict[str, Any]:
    """The settings of a configuration that differ from their defaults.

    So a setting added to the library later leaves the fingerprints of tokenizers that do not use it
    as they are. Settings of training are left out: they change no code.
    """
    entries: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if not field.metadata.get("training") and not _alike(value, field.default):
            entries[field.name] = _non_default(value) if is_dataclass(value) else value
    return entries


def _alike(left: object, right: object) -> bool:
    """Whether two settings are the same but for those of training inside them."""
    if not is_dataclass(left) or type(left) is not type(right):
        return bool(left == right)
    return all(
        _alike(getattr(left, field.name), getattr(right, field.name))
        for field in fields(left)
        if not field.metadata.get("training")
    )

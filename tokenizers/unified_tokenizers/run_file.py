"""Reading a training run's YAML file: names and plain types are checked before anything starts."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

__all__ = ["read_run"]

# By the text of the annotation: the dataclasses of runs postpone their annotations.
_PLAIN: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}


def read_run(path: Path, run: type) -> dict[str, Any]:
    """The entries of the YAML file at `path`, for the dataclass `run`.

    Entries that are not plain numbers or text are left for the caller to check.

    Raises:
        ValueError: unreadable, not a mapping, unknown or missing entries, or text where a number
            belongs (YAML reads `2e-3` as text and `2.0e-3` as a number).
    """
    try:
        entries = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(entries, dict):
        raise ValueError(f"{path} holds {type(entries).__name__}, expected a mapping of entries")
    known = {field.name: field for field in fields(run)}
    if unknown := [name for name in entries if name not in known]:
        raise ValueError(f"{path}: unknown entries {unknown}, expected {sorted(known)}")
    for name, field in known.items():
        if name not in entries:
            if field.default is MISSING and field.default_factory is MISSING:
                raise ValueError(f"{path}: the entry {name!r} is missing")
            continue
        value, wanted = entries[name], _PLAIN.get(str(field.type))
        if wanted and (not isinstance(value, wanted) or isinstance(value, bool)):
            raise ValueError(f"{path}: {name} is {value!r}, expected {field.type}")
    return entries

"""Formats by name or file: those shipped with the package, and anyone's."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from unified.formats.parser import parse_format
from unified.formats.spec import Format
from unified_base.files import read_text

__all__ = ["load_format", "shipped_formats"]


def load_format(name_or_path: str | Path) -> Format:
    """Read a format: a shipped one by name ("pocket"), or any YAML file by path."""
    name = str(name_or_path)
    if name.endswith((".yaml", ".yml")):
        text = read_text(name, "format")
        try:
            return parse_format(text)
        except ValueError as error:
            raise ValueError(f"{Path(name)}: {error}") from None
    if name not in shipped_formats():
        raise ValueError(
            f"no format '{name}'; shipped formats: {', '.join(shipped_formats())}"
            " (or give a .yaml file)"
        )
    file = resources.files("unified.formats") / "presets" / f"{name}.yaml"
    return parse_format(file.read_text(encoding="utf-8"))


def shipped_formats() -> tuple[str, ...]:
    """The names of the formats that come with the package."""
    folder = resources.files("unified.formats") / "presets"
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml")))

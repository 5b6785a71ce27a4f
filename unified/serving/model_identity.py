"""Which model a process opened, and how: what decides on its answers beside the request.

A command and a server of one machine compare theirs, so that a command gets from a server what it
would have written by itself. Nothing of a model is loaded for it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from unified_base.version import __version__

__all__ = ["ModelIdentity", "identity_of"]

_SETTINGS = ("UNIFIED_CPU_ARITHMETIC", "UNIFIED_CPU_CACHE")
_MOST_FILES = 10_000
_SAME_EVERYWHERE = ("image_tokenizer", "audio_tokenizer", "device", "dtype", "backend")


@dataclass(frozen=True)
class ModelIdentity:
    """A model as it was opened. None: it does not matter.

    model: as it was asked for. folder: where it lies, absolute; "": it is a name on the hub.
    stamp: of the folder's files, another one once any of them was written. settings: of the
    environment, that decide on its arithmetic. version: of this package.
    """

    model: str
    folder: str | None = None
    stamp: str | None = None
    image_tokenizer: str | None = None
    audio_tokenizer: str | None = None
    device: str | None = None
    dtype: str | None = None
    backend: str | None = None
    settings: str | None = None
    version: str | None = None

    def to_json(self) -> dict[str, str]:
        """What matters of it."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def difference(self, asked: ModelIdentity, names: tuple[str, ...] = ()) -> str | None:
        """How this one is another than what is asked for, in words; None: it is not.

        names: under which it is known as well. Folders tell more than names, where both have one.
        """
        if asked.folder is not None:
            if (asked.folder, asked.folder or asked.model) != (
                self.folder, self.folder or self.model
            ):  # fmt: skip
                return f"its model is {self.model}, not {asked.model}"
        elif asked.model not in (self.model, *names):
            return f"its model is {names[0] if names else self.model}, not {asked.model}"
        for field in fields(self)[2:]:
            mine, theirs = getattr(self, field.name), getattr(asked, field.name)
            if theirs is None or mine == theirs:
                continue
            if field.name == "stamp":
                return f"files of {asked.model} were written after it had opened them"
            words = field.name.replace("_", " ")
            return f"its {words} is {mine or 'its own'}, not {theirs or 'the default'}"
        return None


def identity_of(opening: Any, defaults: Any = None) -> ModelIdentity:
    """The identity of what an opening (`cli.options.Opening`) opens now.

    defaults: an opening of whose values none matters, for servers of other machines; then only the
    model's name and what is not as there is compared.
    """
    values = {name: getattr(opening, name) or "" for name in _SAME_EVERYWHERE}
    if defaults is not None:
        other = {name: getattr(defaults, name) or "" for name in _SAME_EVERYWHERE}
        chosen = {name: value for name, value in values.items() if value != other[name]}
        return ModelIdentity(opening.model, **chosen)
    for name in ("image_tokenizer", "audio_tokenizer"):
        values[name] = _absolute(values[name]) or values[name]
    folder = _absolute(opening.model)
    if opening.model == "pocket":
        folder = str(Path(__file__).resolve().parents[1] / "pocket" / "checkpoint")
    return ModelIdentity(
        opening.model, folder, _stamp(folder) if folder else "", **values,
        settings=" ".join(os.environ.get(name, "") for name in _SETTINGS).strip(),
        version=__version__,
    )  # fmt: skip


def _absolute(name: str) -> str:
    return os.path.realpath(name) if name and os.path.isdir(name) else ""


def _stamp(folder: str) -> str:
    """Of names, sizes and times of all files in a folder."""
    lines = []
    for path in sorted(Path(folder).rglob("*"))[:_MOST_FILES]:
        try:
            status = path.stat()
        except OSError:
            continue
        lines.append(f"{path.relative_to(folder)} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

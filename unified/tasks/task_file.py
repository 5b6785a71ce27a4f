"""tasks.yaml: a model's tasks as a file in its folder.

version: 1
tasks:
  draw:
    source: where these words come from
    document:
      - {text: "Draw a picture: {text}", role: prompt}
      - {slot: image, role: response}
    negative: blurry                                what guidance has in place of the prompt
    sampling: {image: {temperature: 1.0, guidance: 3.0}, max_ids: 9216}
    size: {default: 720x720, multiple_of: 8, max_area: 518400}
    example: a giant panda
  speak:
    document:
      - {text: "{voice}: {text}", otherwise: "{text}", role: prompt}
      - {slot: audio, role: response}
    voices: [tara, leo]
    voice: tara
  describe:
    document: [{media: image, role: prompt}, {slot: text, role: response}]
  listen: {refused: why not, and what to do}
  ask:
    document:
      - {media: image, role: prompt}
      - {text: "{question}", role: prompt}
      - {slot: text, role: response}
    thought_ends: ["</think>"]                      what stands before it is a thought
    unknown: I do not know.                         the answer that says so
    shots:                                          once for each example, before the document
      - {media: image, role: prompt}
      - {text: "This is a {name}.", role: prompt}
    forms:                                          where something else is given
      - language: zh                                or in another language
        document: [{media: image}, {media: audio}, {slot: text}]
  reply:                                            to a sound that is heard meanwhile
    document: [{slot: audio, listens: true}]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from unified.tasks.size_rule import SizeRule
from unified.tasks.task import MediaPart, Part, Refusal, SlotPart, Task, TextPart
from unified.tasks.task_table import Tasks
from unified_base.arguments import text, texts
from unified_base.files import read_text
from unified_base.structured import parse_yaml
from unified_base.text import quoted

__all__ = ["TASKS_FILE", "parse_tasks", "read_tasks", "write_tasks"]

TASKS_FILE = "tasks.yaml"
VERSION = 1
_MOST_BYTES = 256 << 10
_TASK = ("source", "document", "negative", "sampling", "size", "voices", "voice", "example",
         "language", "thought_ends", "unknown", "shots", "forms")  # fmt: skip
_PARTS: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "role", "otherwise"),
    "media": ("media", "role"),
    "slot": ("slot", "role", "listens"),
}


def read_tasks(folder: Path) -> Tasks | None:
    """The tasks of a model's folder, None where it has no tasks.yaml.

    Raises ValueError, "FILE: task: key ...", for what `parse_tasks` does not take.
    """
    path = folder / TASKS_FILE
    if not path.exists() and not path.is_symlink():
        return None
    return parse_tasks(read_text(path, "tasks", _MOST_BYTES), str(path))


def parse_tasks(source: str, where: str = TASKS_FILE) -> Tasks:
    """Tasks from YAML.

    Raises ValueError for another version, an unknown verb, key, placeholder, part or setting, and
    tasks that do not hold together; `where`, the task and the key stand in front.
    """
    top = parse_yaml(source, where, _MOST_BYTES)
    if not isinstance(top, dict):
        raise ValueError(
            f"{where} holds {type(top).__name__}, expected a mapping of version, tasks"
        )
    _only(top, ("version", "tasks"), where)
    if top.get("version") != VERSION or isinstance(top["version"], bool):
        raise ValueError(
            f"{where}: version is {quoted(top.get('version'))}, expected {VERSION}; it was written"
            " for another version of this package"
        )
    entries = top.get("tasks")
    if not isinstance(entries, dict):
        raise ValueError(f"{where}: tasks is {quoted(entries)}, expected a mapping of verbs")
    tasks: dict[Any, Task | Refusal] = {}
    for verb, entry in entries.items():
        try:
            tasks[verb] = _entry(verb, entry)
        except ValueError as error:
            raise ValueError(f"{where}: {quoted(verb).strip(chr(39))}: {error}") from None
    try:
        return Tasks(tasks)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def write_tasks(tasks: Tasks) -> str:
    """The YAML of tasks; `parse_tasks` gives them back."""
    top = {"version": VERSION, "tasks": {verb: _to_entry(tasks[verb]) for verb in tasks}}
    return yaml.safe_dump(top, sort_keys=False, allow_unicode=True, width=100)


def _entry(verb: Any, entry: Any) -> Task | Refusal:
    if not isinstance(entry, dict):
        raise ValueError(f"it is {quoted(entry)}, expected a mapping such as {{document: [...]}}")
    if "refused" in entry:
        _only(entry, ("refused",), "a refused task")
        return Refusal(verb, entry["refused"])
    _only(entry, _TASK, "a task")
    if "document" not in entry:
        raise ValueError("document is missing: the parts of what asks, and a slot")
    size = entry.get("size")
    if size is not None and not isinstance(size, dict):
        raise ValueError(f"size is {quoted(size)}, expected a mapping such as {{default: 512x512}}")
    try:
        rule = None if size is None else SizeRule.from_json(size)
    except ValueError as error:
        raise ValueError(f"size: {error}") from None
    return Task(
        verb,
        _parts("document", entry["document"]),
        source=text("source", entry.get("source") or ""),
        negative=_optional("negative", entry.get("negative")),
        sampling=entry.get("sampling") or {},
        size=rule,
        voices=texts("voices", entry.get("voices") or ()),
        voice=_optional("voice", entry.get("voice")),
        example=text("example", entry.get("example") or ""),
        language=_optional("language", entry.get("language")),
        thought_ends=texts("thought_ends", entry.get("thought_ends") or ()),
        unknown=_optional("unknown", entry.get("unknown")),
        shots=_parts("shots", entry.get("shots") or []),
        forms=_forms(verb, entry.get("forms") or []),
    )


def _forms(verb: Any, forms: Any) -> tuple[Task, ...]:
    if not isinstance(forms, list):
        raise ValueError(f"forms is {quoted(forms)}, expected a list of tasks")
    read = []
    for at, form in enumerate(forms):
        try:
            task = _entry(verb, form)
            if isinstance(task, Refusal):
                raise ValueError("a form cannot be refused; leave it out")
        except ValueError as error:
            raise ValueError(f"forms[{at}]: {error}") from None
        read.append(task)
    return tuple(read)


def _parts(name: str, parts: Any) -> tuple[Part, ...]:
    if not isinstance(parts, list):
        raise ValueError(f"{name} is {quoted(parts)}, expected a list of parts")
    return tuple(_part(f"{name}[{at}]", part) for at, part in enumerate(parts))


def _part(where: str, part: Any) -> Part:
    if not isinstance(part, dict):
        raise ValueError(
            f"{where} is {quoted(part)}, expected {{text: ...}}, {{media: ...}} or {{slot: ...}}"
        )
    kinds = [kind for kind in _PARTS if kind in part]
    if len(kinds) != 1:
        raise ValueError(
            f"{where} has {', '.join(map(quoted, part)) or 'no entries'}, expected one of"
            f" {', '.join(_PARTS)}"
        )
    (kind,) = kinds
    try:
        _only(part, _PARTS[kind], f"a {kind} part")
        role = part.get("role")
        if kind == "text":
            return TextPart(part["text"], role, part.get("otherwise"))
        if kind == "media":
            return MediaPart(part["media"], role)
        return SlotPart(part["slot"], role, part.get("listens", False))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _to_entry(entry: Task | Refusal) -> dict[str, Any]:
    if isinstance(entry, Refusal):
        return {"refused": entry.reason}
    values: dict[str, Any] = {"source": entry.source} if entry.source else {}
    values["document"] = [_to_part(part) for part in entry.parts]
    if entry.negative is not None:
        values["negative"] = entry.negative
    if entry.sampling:
        values["sampling"] = _plain(entry.sampling)
    if entry.size is not None:
        values["size"] = entry.size.to_json()
    if entry.voices:
        values["voices"] = list(entry.voices)
    for name in ("voice", "example", "language", "unknown"):
        if getattr(entry, name):
            values[name] = getattr(entry, name)
    if entry.thought_ends:
        values["thought_ends"] = list(entry.thought_ends)
    if entry.shots:
        values["shots"] = [_to_part(part) for part in entry.shots]
    if entry.forms:
        values["forms"] = [_to_entry(form) for form in entry.forms]
    return values


def _to_part(part: Part) -> dict[str, Any]:
    values: dict[str, Any]
    if isinstance(part, TextPart):
        values = {"text": part.text, "otherwise": part.otherwise}
    else:
        values = {"media" if isinstance(part, MediaPart) else "slot": part.kind}
        if isinstance(part, SlotPart) and part.listens:
            values["listens"] = True
    values["role"] = part.role
    return {name: value for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    """Mappings and tuples as YAML holds them."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def _only(entry: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    for name in entry:
        if name not in names:
            raise ValueError(
                f"{where} has the unknown key {quoted(name)}, expected some of {', '.join(names)}"
            )


def _optional(name: str, value: Any) -> str | None:
    return None if value is None else text(name, value)

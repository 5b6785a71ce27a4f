"""A plug-in reads a user's words before a task does: a model that knows its own world.

`unified.json` names it ("plugin": "pocket"); the name is looked up among the entry points of the
group `unified.plugins`, whose values are classes of this protocol that take no arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from unified.tasks.asking import Inputs
from unified.tasks.task import Verb
from unified_base.text import quoted
from unified_data.document import Document

__all__ = ["PLUGIN_GROUP", "Reading", "TaskPlugin", "load_plugin"]

PLUGIN_GROUP = "unified.plugins"
BUILT_IN = {
    "pocket": "unified.pocket.plugin:PocketPlugin",
    "world": "unified.world.world_plugin:WorldPlugin",
}
"""Names of plug-ins of this package, and where they are: named, not imported."""


@dataclass(frozen=True)
class Reading:
    """What a plug-in made of a user's words.

    inputs: for the task. notes: for the user, one line each. plan: what `finish` needs to know.
    """

    inputs: Inputs
    notes: tuple[str, ...] = ()
    plan: object = field(default=None, repr=False)


class TaskPlugin(Protocol):
    """Reads a user's words for one kind of model. directory: the model's folder.

    files: names of files in the folder that are the plug-in's; they go with a model that is saved.
    """

    files: tuple[str, ...]

    def read(self, verb: Verb, inputs: Inputs, directory: Path) -> Reading:
        """The words that the model was trained on, for those of a user.

        Raises ValueError for what the model does not know, naming the nearest that it does.
        """
        ...

    def finish(self, verb: Verb, reading: Reading, document: Document) -> tuple[str, ...]:
        """Notes on what came: what was asked for and is missing."""
        ...

    def subjects(self, directory: Path) -> list[dict[str, Any]] | None:
        """What the model knows, one entry a subject; None where it does not say."""
        ...


@cache
def load_plugin(name: str) -> TaskPlugin:
    """The plug-in of a name.

    Raises ValueError for a name that nobody has, and for what is no plug-in.
    """
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        kind = getattr(import_module(module), attribute)
    else:
        entries = {entry.name: entry for entry in entry_points(group=PLUGIN_GROUP)}
        if name not in entries:
            names = ", ".join(sorted({*BUILT_IN, *entries}))
            raise ValueError(
                f"there is no plug-in {quoted(name)}, expected one of {names}; install the package"
                f" that registers it in the entry points of {PLUGIN_GROUP}"
            )
        kind = entries[name].load()
    plugin: TaskPlugin = kind()
    lacks = [part for part in ("read", "finish", "subjects", "files") if not hasattr(plugin, part)]
    if lacks:
        raise ValueError(f"plug-in {quoted(name)} has no {lacks[0]}; it is no TaskPlugin")
    return plugin

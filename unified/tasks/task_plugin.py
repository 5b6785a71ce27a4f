"""A plug-in reads a user's words before a task does: a model that knows its own world.

`unified.json` names it ("plugin": "pocket"); the name is looked up among the entry points of the
group `unified.plugins`, whose values are objects, or classes without arguments, of this protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from unified.tasks.asking import Inputs
from unified.tasks.task import Verb
from unified_data.document import Document

__all__ = ["PLUGIN_GROUP", "Reading", "TaskPlugin"]

PLUGIN_GROUP = "unified.plugins"


@dataclass(frozen=True)
class Reading:
    """What a plug-in made of a user's words.

    inputs: for the task. notes: for the user, one line each. plan: what `finish` needs to know.
    """

    inputs: Inputs
    notes: tuple[str, ...] = ()
    plan: object = field(default=None, repr=False)


class TaskPlugin(Protocol):
    """Reads a user's words for one kind of model. directory: the model's folder."""

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

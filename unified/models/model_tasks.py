"""What a model in a folder can be asked, and the plug-in that reads a user's words first."""

from __future__ import annotations

import shutil
from pathlib import Path

from unified.models import hf_checkpoint as checkpoint
from unified.models.files import FILE_NAME
from unified.models.known_pictures import KNOWN_FILE
from unified.sequence.sequencer import Sequencer
from unified.tasks.defaults import default_tasks, sizes_of
from unified.tasks.task_file import TASKS_FILE, read_tasks
from unified.tasks.task_plugin import load_plugin
from unified.tasks.task_table import Tasks
from unified_base.text import quoted

__all__ = ["copy_plugin_files", "plugin_of", "tasks_of"]


def tasks_of(sequencer: Sequencer, directory: Path | None, published: Tasks | None = None) -> Tasks:
    """The tasks of a model: those in its folder, of its published kind, or of its format.

    Raises ValueError for a tasks.yaml that is none, or that the model's format cannot hold.
    """
    format = sequencer.grammar.format
    tasks = None if directory is None else read_tasks(directory)
    if tasks is not None:
        try:
            tasks.check(format)
        except ValueError as error:
            raise ValueError(f"{directory}/{TASKS_FILE}: {error}") from None
        return tasks
    if published is not None:
        return published
    tokenizer = sequencer.image_tokenizer
    stride = None if tokenizer is None else int(tokenizer.stride)
    return default_tasks(format, sizes_of(sequencer.grammar, stride))


def plugin_of(directory: Path) -> str | None:
    """The name of the plug-in of the model in a folder; None where it has none.

    Raises ValueError for one that is not installed.
    """
    path = directory / FILE_NAME
    if not path.exists():
        return None
    name = checkpoint.read_json(path).get("plugin")
    if name is None:
        return None
    if not isinstance(name, str) or not name:
        raise ValueError(f"{path}: plugin is {quoted(name)}, expected the name of a plug-in")
    try:
        load_plugin(name)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return name


def copy_plugin_files(name: str | None, source: Path | None, target: Path) -> None:
    """Copy what goes with a model: what pictures it knows (known.json), and what its plug-in has in
    its folder. None: there is none."""
    if source is None:
        return
    files = () if name is None else load_plugin(name).files
    for file in (KNOWN_FILE, *files):
        path = source / file
        if path.exists() and path.resolve() != (target / file).resolve():
            shutil.copyfile(path, target / file)

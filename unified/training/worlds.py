"""The worlds that a run may be of: how models of each are asked, and the list of what they know."""

from __future__ import annotations

from pathlib import Path

from unified.pocket import plugin as pocket
from unified.tasks.task_table import Tasks
from unified.world import world_plugin
from unified.world.world_tasks import world_tasks

__all__ = ["save_world_subjects", "tasks_of_world"]


def tasks_of_world(world: str) -> Tasks:
    """The tasks of models of a world, `pocket` or `world`."""
    return {"pocket": pocket.pocket_tasks, "world": world_tasks}[world]()


def save_world_subjects(world: str, folder: Path) -> None:
    """Write the subjects of a world into the folder of a model that was trained on it."""
    {"pocket": pocket.save_subjects, "world": world_plugin.save_subjects}[world](folder)

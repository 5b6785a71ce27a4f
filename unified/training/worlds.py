"""The worlds that a run may be of: how models of each are asked, and what lies beside the weights.

That is a list of subjects; of `world` also the forms of documents that the model was taught, and
how well its tokenizer gives back pictures that it knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from unified.dataloading.source import leaves
from unified.dataloading.source_samples import find_shards
from unified.models.files import model_directory
from unified.models.known_pictures import KNOWN_FILE, fit_known_pictures
from unified.pocket import plugin as pocket
from unified.pocket.forms import FORMS_FILE, load_forms, save_forms
from unified.sequence.sequencer import Sequencer
from unified.tasks.task_table import Tasks
from unified.training.config import TrainConfig
from unified.world import world_plugin
from unified.world.world_tasks import world_tasks
from unified_base.text import counted
from unified_data.document import Image
from unified_data.shard_index import INDEX, read_index
from unified_data.shards import CorruptSample, read_samples

__all__ = ["save_world_files", "tasks_of_world"]

_SAVE_SUBJECTS = {"pocket": pocket.save_subjects, "world": world_plugin.save_subjects}
_FORM_OF_KIND = {
    "draw_spoken": "draw spoken", "say_picture": "say a picture", "ask_spoken": "ask spoken",
    "edit": "edit", "names": "names", "describe": "describe in Chinese",
}  # fmt: skip
"""By kind of documents of the world, the form (`unified.pocket.forms`) that it teaches."""
_SEEN = "describe"
"""The kind of documents whose pictures are those that a model is to see, worn ones among them."""
_FEWEST, _MOST = 100, 1_000
"""Pictures that tell the limit of known ones: 1 in 100 is above it."""


def tasks_of_world(world: str) -> Tasks:
    """The tasks of models of a world, `pocket` or `world`."""
    return {"pocket": pocket.pocket_tasks, "world": world_tasks}[world]()


def save_world_files(
    config: TrainConfig, sequencer: Sequencer, folder: Path, report: Callable[[str], None]
) -> None:
    """Write into a finished model's folder what goes with a run's world.

    subjects.json; and of `world` forms.json, by the kinds of documents among the run's sources and
    what the model that it began with was taught, and known.json, by the pictures of the validation
    documents of kind `describe`, where there are 100 or more (not of codes).

    Args:
        config: of the run; its `world` is not None.
        report: takes a line on each file that was measured, or was not and why.
    """
    assert config.world is not None
    _SAVE_SUBJECTS[config.world](folder)
    if config.world != "world":
        return
    kinds = {kind for kind, _ in _kinds_of(s.shards for _, s in leaves(config.sources))}
    forms = {form for kind, form in _FORM_OF_KIND.items() if kind in kinds}
    if config.init_from is not None:
        forms |= load_forms(model_directory(config.init_from))
    save_forms(folder, forms)
    report(f"{FORMS_FILE}: {', '.join(sorted(forms)) or 'no forms beside the verbs'}")
    validated = _kinds_of(s.shards for _, s in leaves(config.validation))
    shards = [path for kind, path in validated if kind == _SEEN]
    pictures = list(islice(_pictures(shards), _MOST))
    if "image" not in sequencer.tokenizers or len(pictures) < _FEWEST:
        report(
            f"{KNOWN_FILE} is not written: {counted(len(pictures), 'picture')} in validation shards"
            f" of kind {_SEEN}, expected {_FEWEST} at least, and an image tokenizer"
        )
        return
    known = fit_known_pictures(pictures, sequencer)
    known.save(folder)
    report(f"{KNOWN_FILE}: at most {known.limit:.1f} levels off, of {known.pictures:,} pictures")


def _kinds_of(patterns: Iterable[Iterable[str]]) -> Iterator[tuple[str, Path]]:
    """The shards of sources that an index beside them tells the kind of."""
    indexes: dict[Path, dict[str, str]] = {}
    for shards in patterns:
        for path in find_shards(shards):
            if path.parent not in indexes:
                there = (path.parent / INDEX).is_file()
                rows = read_index(path.parent)["shards"] if there else []
                indexes[path.parent] = {row.file: row.kind for row in rows}
            if path.name in indexes[path.parent]:
                yield indexes[path.parent][path.name], path


def _pictures(shards: Iterable[Path]) -> Iterator[np.ndarray]:
    """Of the documents of shards, uint8 (H, W, 3) each; there are none in shards of codes."""
    for sample in read_samples(shards):
        if not isinstance(sample, CorruptSample):
            for segment in sample[1]:
                if isinstance(segment, Image):
                    yield segment.pixels

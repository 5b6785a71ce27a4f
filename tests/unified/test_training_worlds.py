"""What a run of a world writes beside the weights: subjects, forms, which pictures are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unified.dataloading import Source
from unified.models.known_pictures import KNOWN_FILE, KnownPictures
from unified.pocket.forms import FORMS_FILE, load_forms, save_forms
from unified.training.worlds import save_world_files
from unified.world.world_plugin import WorldPlugin
from unified_data.document import Document, Image, Text
from unified_data.shards import ShardWriter, write_index


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder of shards: documents of some kinds to train on, and 100 pictures to be seen."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    written = []
    for split, kind, number in (
        ("train", "edit", 1), ("train", "draw_spoken", 1), ("train", "draw", 1),
        ("steer", "describe", 100), ("steer", "unknown", 1),
    ):  # fmt: skip
        with ShardWriter(folder, split, kind) as writer:
            for at in range(number):
                picture = Image(rng.integers(0, 256, (96, 96, 3)).astype(np.uint8), "prompt")
                writer.write(f"{kind}{at}", Document((picture, Text("a cat", "response"))))
        written += writer.shards
    write_index(folder, written)
    return folder


def _run(training_case, world, **changes):
    sources = {"all": Source(str(world / "train-*.tar"))}
    validation = {name: Source(str(world / f"steer-{name}-*.tar")) for name in ("describe",)}
    entries = {"world": "world", "sources": sources, "validation": validation, **changes}
    return replace(training_case, **entries)


def test_forms_follow_from_the_kinds_and_the_limit_from_what_is_to_be_seen(
    training_case, tiny_sequencer, world, tmp_path
):
    lines = []
    save_world_files(_run(training_case, world), tiny_sequencer, tmp_path, lines.append)
    assert load_forms(tmp_path) == {"edit", "draw spoken"}
    known = KnownPictures.load(tmp_path)
    assert known.pictures == 100
    assert known.false_alarms <= 0.01
    assert [line.split(":")[0] for line in lines] == [FORMS_FILE, KNOWN_FILE]
    assert {path.name for path in tmp_path.iterdir()} == {*WorldPlugin.files, KNOWN_FILE}


def test_what_the_model_was_taught_before_stays_and_too_few_pictures_are_told(
    training_case, tiny_sequencer, world, tmp_path
):
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    save_forms(before, ["names"])
    validation = {"unknown": Source(str(world / "steer-unknown-*.tar"))}
    run = _run(training_case, world, validation=validation, init_from=str(before))
    lines = []
    save_world_files(run, tiny_sequencer, after, lines.append)
    assert load_forms(after) == {"edit", "draw spoken", "names"}
    assert KnownPictures.load(after) is None
    assert "known.json is not written: 0 pictures" in lines[1]


def test_the_pocket_world_has_subjects_alone(training_case, tiny_sequencer, tmp_path):
    save_world_files(training_case, tiny_sequencer, tmp_path, print)
    assert [path.name for path in tmp_path.iterdir()] == ["subjects.json"]

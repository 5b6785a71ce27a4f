"""A space: sounds and point clouds held to a tower that stays what it is."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.helpers.small_tower import COLOURS, fill, small_tower, square
from tests.helpers.toy_systems import TOY_SHAPES
from unified.matching.build_index import build_index
from unified.matching.space import Space
from unified.matching.space_branches import make_branch
from unified.matching.space_config import SpaceTraining
from unified.matching.space_training import train_space
from unified_base.sounds import save_wav
from unified_base.training import loop
from unified_data.document import Audio, Document, Image, PointCloud, Text
from unified_data.shards import ShardWriter, write_index
from unified_tokenizers.training_config import TokenizerOptimizer, TokenizerSchedule

BRANCHES = TOY_SHAPES["branches"]


def cloud(name, at):
    """A cloud that is long along another axis for each colour."""
    points = np.random.default_rng(at).standard_normal((24, 3)).astype(np.float32)
    points[:, list(COLOURS).index(name)] *= 8
    return PointCloud(points)


def tone(name, at):
    """A tone of another height for each colour."""
    times = np.arange(3200) / 16_000
    wave = np.sin(2 * np.pi * (400, 1500, 5000)[list(COLOURS).index(name)] * times + at)
    return Audio((0.5 * wave[None]).astype(np.float32), 16_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tower, and shards of tones with pictures and of clouds with both."""
    folder = tmp_path_factory.mktemp("space")
    small_tower().save_pretrained(folder / "tower")
    with ShardWriter(folder / "shards", "train", "pairs") as writer:
        for at in range(18):
            name = list(COLOURS)[at % 3]
            picture, text = Image(square(name, at)), Text(f"a {name} square")
            writer.write(f"t{at}", Document((tone(name, at), picture)))
            writer.write(f"c{at}", Document((cloud(name, at), picture, text)))
    write_index(folder / "shards", writer.shards)
    return folder


def config(folder, output, **changes):
    settings = {
        "branches": BRANCHES, "anchors": ("image", "text"), "steps": 60, "batch_size": 9,
        "save_every": 30, "validate_every": 60, "log_every": 30, **changes,
    }  # fmt: skip
    data = (str(folder / "shards"),)
    return SpaceTraining(
        str(output), str(folder / "tower"), data=data, validation=data, device="cpu",
        precision="float32", optimizer=TokenizerOptimizer(lr=0.01),
        schedule=TokenizerSchedule(warmup_steps=3), **settings,
    )  # fmt: skip


def test_clouds_are_named_by_words_and_a_stopped_run_ends_alike(folder, tmp_path, monkeypatch):
    space = Space.from_pretrained(train_space(config(folder, tmp_path / "whole")))
    classes = [f"a {name} square" for name in COLOURS]
    named = [space.classify(cloud(name, 99), classes)[0].name for name in COLOURS]
    assert named == classes
    assert space.tower.fingerprint == small_tower().fingerprint
    vectors = space.embed([Text("a red square"), Image(square("red")), tone("red", 1)])
    assert vectors.shape == (3, space.tower.width)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    save = loop.save_checkpoint

    def save_and_stop(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop, "save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train_space(config(folder, tmp_path / "stopped"))
    torch.manual_seed(999)
    resumed = Space.from_pretrained(train_space(config(folder, tmp_path / "stopped"), resume=True))
    assert resumed.fingerprint == space.fingerprint


def test_what_does_not_fit_is_refused(folder, tmp_path):
    space = Space(small_tower(), {"points": make_branch("points", BRANCHES["points"], 12)})
    with pytest.raises(ValueError, match="the cloud has 3 points of 3 numbers, the branch sees 20"):
        space.embed([PointCloud(np.ones((3, 3), np.float32))])
    with pytest.raises(ValueError, match="the space has no vectors of audio; it has text, image"):
        space.embed([tone("red", 0)])
    with pytest.raises(ValueError, match="branches has 'heat', expected audio, points"):
        make_branch("heat", {}, 12)
    with pytest.raises(ValueError, match=r"branches.points has \['size'\], expected some of"):
        make_branch("points", {"size": 3}, 12)
    with pytest.raises(ValueError, match="batch_size is 40, expected at most the 18 media"):
        train_space(config(folder, tmp_path / "run", batch_size=40))
    space.save_pretrained(tmp_path / "space")
    marker = tmp_path / "space/space.json"
    entries = json.loads(marker.read_text())
    marker.write_text(json.dumps({**entries, "tower": "0" * 16}))
    with pytest.raises(ValueError, match="were trained for a tower of fingerprint '0000"):
        Space.from_pretrained(tmp_path / "space")


def test_a_process_of_its_own_opens_one_and_searches_by_a_sound(folder, tmp_path):
    """What hears is imported while the branch is made for its size alone, without any memory."""
    tower = small_tower("clip")
    Space(tower, {"audio": make_branch("audio", BRANCHES["audio"], 12)}).save_pretrained(
        tmp_path / "space"
    )
    fill(tmp_path / "pictures", 3)
    build_index(tmp_path / "index", [tmp_path / "pictures"], tower, "the space's")
    save_wav(tmp_path / "tone.wav", tone("red", 1).waveform, 16_000)
    command = ["search", tmp_path / "index", tmp_path / "tone.wav", "--tower", tmp_path / "space"]
    result = subprocess.run(
        [sys.executable, "-m", "unified", *map(str, command)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 3

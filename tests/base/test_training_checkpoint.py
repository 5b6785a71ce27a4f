"""Checkpoints: whole or not there, of any number of parts, and damage that is named."""

import json
import math
import random
import resource
from itertools import pairwise
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from unified_base.disk import FullDiskError
from unified_base.training import checkpoint, checkpoint_files
from unified_base.training.checkpoint import Checkpoint, read_latest, save_checkpoint
from unified_base.training.checkpoint_files import remove_incomplete
from unified_base.training.dist import DistContext

TENSORS = {
    "weights/a": torch.arange(15.0).view(5, 3),
    "weights/b": torch.arange(7).to(torch.bfloat16),
    "optimizer/a/step": torch.tensor(4.0),
}


def written(folder, step=3, keep=9, tensors=TENSORS):
    return save_checkpoint(
        folder, step, DistContext(), tensors, {"ids": 5}, {"data": {"place": step}}, False, keep
    )


def by_hand(folder, tensor, parts):
    """A checkpoint of `parts` processes, each with the rows that torch.chunk gives it."""
    folder.mkdir()
    rows = -(-len(tensor) // parts) if len(tensor) else 0
    for rank in range(parts):
        start, stop = (min(len(tensor), edge * rows) for edge in (rank, rank + 1))
        held = {"x": tensor[start:stop].contiguous(), "x/step": torch.tensor(7.0)}
        about = json.dumps({"x": [start, stop], "x/step": [0, 0]})
        path = folder / f"part-{rank:05d}-of-{parts:05d}.safetensors"
        save_file(held, path, metadata={"rows": about})
        (folder / f"rank-{rank:05d}-of-{parts:05d}.json").write_text(json.dumps({"rank": rank}))
    state = {"step": 1, "world": parts, "parts": parts}
    (folder / "state.json").write_text(json.dumps(state))
    return Checkpoint(folder)


def test_what_is_written_is_read(tmp_path):
    assert read_latest(tmp_path / "none") is None
    written(tmp_path)
    saved = read_latest(tmp_path)
    assert (saved.step, saved.state["ids"], saved.ranks) == (3, 5, [{"data": {"place": 3}}])
    assert sorted(saved.names("weights/")) == ["a", "b"]
    for name, value in TENSORS.items():
        assert saved.shape(name) == tuple(value.shape)
        target = torch.zeros_like(value)
        saved.put(name, target)
        assert torch.equal(target, value)
        assert saved.read(name).dtype == value.dtype


@given(
    rows=st.integers(0, 9),
    width=st.integers(1, 3),
    parts=st.integers(1, 4),
    world=st.integers(1, 4),
)
@settings(max_examples=40, deadline=None)
def test_any_number_of_processes_reads_what_another_number_wrote(
    tmp_path_factory, rows, width, parts, world
):
    tensor = torch.randn(rows, width)
    saved = by_hand(tmp_path_factory.mktemp("c") / "step-0000001", tensor, parts)
    assert saved.shape("x") == (rows, width)
    assert torch.equal(saved.read("x"), tensor)
    assert saved.read("x/step") == 7
    each = math.ceil(rows / world)
    edges = [min(rows, each * rank) for rank in range(world + 1)]
    with (
        mock.patch.object(checkpoint, "_rows", lambda like: like.rows),
        mock.patch.object(checkpoint, "_local", lambda like: like.local),
    ):
        for start, stop in pairwise(edges):
            target = SimpleNamespace(rows=(start, stop), local=torch.zeros(stop - start, width))
            saved.put("x", target)
            assert torch.equal(target.local, tensor[start:stop])


def test_torn_folders_are_passed_over_and_removed(tmp_path):
    written(tmp_path)
    for name in ("step-0000009.partial", "step-0000002.removed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.json").write_text("{}")
    (tmp_path / "step-0000008").mkdir()  # no state.json
    assert read_latest(tmp_path).step == 3
    assert remove_incomplete(tmp_path) == ["step-0000002.removed", "step-0000009.partial"]
    assert remove_incomplete(tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000003", "step-0000008"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    written(tmp_path)
    with (
        pytest.raises(RuntimeError),
        mock.patch.object(checkpoint_files, "_sync", side_effect=RuntimeError),
    ):
        written(tmp_path, step=4)
    assert read_latest(tmp_path).step == 3
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000003"]
    written(tmp_path, step=4)
    assert read_latest(tmp_path).step == 4


def test_every_bit_that_changes_in_a_checkpoint_is_named_with_its_file(tmp_path):
    folder = written(tmp_path)
    assert read_latest(tmp_path).compared
    files = sorted(folder.iterdir())
    assert [path.name for path in files] == [
        "part-00000-of-00001.safetensors", "rank-00000-of-00001.json", "state.json"
    ]  # fmt: skip
    for path in files:
        whole = path.read_bytes()
        drawn = random.Random(3).sample(range(8 * len(whole)), 150)
        for bit in {0, 8 * len(whole) - 1, *drawn}:
            data = bytearray(whole)
            data[bit // 8] ^= 1 << bit % 8
            path.write_bytes(data)
            with pytest.raises(ValueError, match=f"{path.name} is damaged"):
                read_latest(tmp_path)
        path.write_bytes(whole)
    assert read_latest(tmp_path).step == 3


def test_processes_share_the_comparing(tmp_path):
    folder = written(tmp_path)
    files = sorted(read_latest(tmp_path).state["files"])
    (folder / files[1]).write_text('{"data": {"place": 4}}')
    Checkpoint(folder, 0, 2)  # the other one's
    with pytest.raises(ValueError, match=files[1]):
        Checkpoint(folder, 1, 2)


def test_a_checkpoint_from_before_there_were_checksums_is_read(tmp_path):
    folder = written(tmp_path)
    state = json.loads((folder / "state.json").read_text())
    for entry in ("sealed", "sha256", "files"):
        del state[entry]
    (folder / "state.json").write_text(json.dumps(state))
    saved = read_latest(tmp_path)
    assert not saved.compared
    assert torch.equal(saved.read("weights/a"), TENSORS["weights/a"])


def test_numbers_that_json_does_not_have_come_back(tmp_path):
    save_checkpoint(tmp_path, 1, DistContext(), TENSORS, {"x": [math.inf, math.nan]}, {}, False, 1)
    first, second = read_latest(tmp_path).state["x"]
    assert first == math.inf
    assert math.isnan(second)


@pytest.mark.parametrize("name", ["part-00000-of-00001.safetensors", "state.json"])
def test_a_full_disk_is_named_and_leaves_what_was_there(tmp_path, name):
    """A limit on a file's size is a disk that is full for that file."""
    written(tmp_path)
    large = {**TENSORS, "weights/c": torch.zeros(30_000)}
    state = {"x": "y" * (200_000 if name == "state.json" else 1)}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (130_000 if state["x"] != "y" else 100_000, before[1])
    )
    try:
        with pytest.raises(FullDiskError, match="File too large; free some space, then go on"):
            save_checkpoint(tmp_path, 4, DistContext(), large, state, {}, False, 9)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000003"]
    assert read_latest(tmp_path).step == 3


def test_the_last_are_kept_and_a_step_can_be_written_again(tmp_path):
    for step in (1, 2, 3, 10):
        written(tmp_path, step, keep=2)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step-0000003", "step-0000010"]
    again = {name: value + 1 for name, value in TENSORS.items()}
    written(tmp_path, 10, keep=2, tensors=again)
    assert torch.equal(read_latest(tmp_path).read("weights/a"), TENSORS["weights/a"] + 1)


@pytest.mark.parametrize("name", ["state.json", "rank-00001-of-00003.json",
                                  "part-00000-of-00003.safetensors",
                                  "part-00002-of-00003.safetensors"])  # fmt: skip
def test_a_file_that_is_missing_or_damaged_is_named(tmp_path, name):
    folder = tmp_path / "step-0000001"
    by_hand(folder, torch.randn(7, 2), 3)
    content = (folder / name).read_bytes()
    for damaged in (content[: len(content) // 2], b"", None):
        (folder / name).unlink(missing_ok=True)
        if damaged is not None:
            (folder / name).write_bytes(damaged)
        with pytest.raises(
            ValueError, match=rf"{name} is damaged \(.*remove the folder step-0000001"
        ):
            Checkpoint(folder)


def test_state_that_is_not_a_checkpoints_is_named(tmp_path):
    folder = tmp_path / "step-0000001"
    by_hand(folder, torch.randn(7, 2), 1)
    for state in ({}, {"world": "x", "parts": 1}, {"world": 1}):
        (folder / "state.json").write_text(json.dumps(state))
        with pytest.raises(ValueError, match=r"state\.json is damaged"):
            read_latest(tmp_path)


def test_tensors_of_another_run_are_refused(tmp_path):
    saved = Checkpoint(written(tmp_path))
    with pytest.raises(ValueError, match="has no weights/z: it is of another run"):
        saved.read("weights/z")
    with pytest.raises(
        ValueError, match=r"has weights/a of shape \(5, 3\), the configuration's is"
    ):
        saved.put("weights/a", torch.zeros(5, 4))
    with pytest.raises(ValueError, match="the configuration's is"):
        saved.put("weights/a", torch.zeros(6, 3))

"""Batches of which no position has a loss: their steps change nothing, are counted and told."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from unified.dataloading import Source
from unified.training.train import train
from unified_data.document import Document, Text
from unified_data.shards import ShardWriter


@pytest.fixture(autouse=True, scope="module")
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def shard(folder, losses):
    """A source of one text for each loss."""
    with ShardWriter(folder, "train", "texts") as writer:
        for number, loss in enumerate(losses):
            document = Document((Text(f"a cat and a dog {number}" * 4, loss=loss),))
            writer.write(f"d{number}", document)
    return {"texts": Source(str(folder / "*.tar"))}


def weights(folder, step):
    path = folder / "checkpoints" / f"step-{step:07d}" / "part-00000-of-00001.safetensors"
    return {name: v for name, v in load_file(path).items() if name.startswith("weights/")}


def run(case, folder, sources, **changes):
    config = replace(
        case, output=str(folder), sources=sources, validation={}, steps=3, save_every=1,
        keep_checkpoints=9, global_batch_size=2, micro_batch_size=1, streams=1, world=None,
        **changes,
    )  # fmt: skip
    return train(config)


def counts(folder):
    """The counts that the checkpoints have."""
    paths = sorted((folder / "checkpoints").glob("step-*/state.json"))
    return [json.loads(path.read_text("utf-8"))["steps_without_loss"] for path in paths]


def test_steps_without_loss_change_nothing_and_are_counted(training_case, tmp_path, capsys):
    sources = shard(tmp_path / "shards", [0.0] * 40)
    run(training_case, tmp_path / "run", sources)
    told = capsys.readouterr()
    text = told.out + told.err
    assert "step 1 changed nothing: none of its" in text
    assert "(3 such steps so far)" in text
    first, last = weights(tmp_path / "run", 1), weights(tmp_path / "run", 3)
    assert all(torch.equal(first[name], last[name]) for name in first)
    assert all(torch.isfinite(value).all() for value in last.values())
    assert counts(tmp_path / "run") == [1, 2, 3]


def test_weights_of_no_modality_are_no_loss_either(training_case, tmp_path, capsys):
    """A modality's weight may be 0, and all that a batch has may be of it."""
    sources = shard(tmp_path / "shards", [1.0] * 40)
    factors = dict.fromkeys(("text", "marker"), 0.0)
    run(training_case, tmp_path / "run", sources, modality_weights=factors)
    told = capsys.readouterr()
    assert "(3 such steps so far)" in told.out + told.err


def test_a_batch_with_some_loss_is_trained_on(training_case, tmp_path, capsys):
    sources = shard(tmp_path / "shards", [0.0, 1.0] * 20)
    run(training_case, tmp_path / "run", sources)
    told = capsys.readouterr()
    assert "changed nothing" not in told.out + told.err
    first, last = weights(tmp_path / "run", 1), weights(tmp_path / "run", 3)
    assert any(not torch.equal(first[name], last[name]) for name in first)
    assert (tmp_path / "run" / "model" / "README.md").exists()

"""From a model trained in a row to one with a depth decoder, by the command line and folders."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file
from training_runs import run_file

from unified.__main__ import run
from unified.dataloading import prepare_sources
from unified.models.model import UnifiedModel
from unified.training.config import OptimizerConfig
from unified.training.train_module import TrainModule
from unified.training.validation import Validation
from unified_base.training.dist import DistContext


@pytest.fixture(autouse=True, scope="module")
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def measured(folder, sources, codes):
    """Validation losses of the model in a folder."""
    model = UnifiedModel.from_pretrained(folder, dtype="float32")
    prepared = prepare_sources(sources, model.sequencer, codes)
    validation = Validation(prepared, model.sequencer, 230, 40, DistContext(), model.tasks)
    return validation.measure(TrainModule(model.hf, None), 2)


@pytest.mark.slow
def test_nothing_that_was_learnt_in_a_row_is_lost(training_case, tmp_path, capsys):
    speech = {"article": training_case.sources["article"]}
    row = replace(
        training_case, output=str(tmp_path / "row"), sources=speech, validation={}, world=None,
        modality_weights={}, save_every=100,
    )  # fmt: skip
    nothing_new = {"model": None, "image_tokenizer": None, "audio_tokenizer": None}
    alone = replace(
        row, output=str(tmp_path / "alone"), init_from=str(tmp_path / "together"), train="depth",
        steps=12, optimizer=OptimizerConfig(lr=0.01), **nothing_new,
    )  # fmt: skip
    whole = replace(
        alone, output=str(tmp_path / "all"), init_from=str(tmp_path / "alone" / "model"),
        train="full",
    )  # fmt: skip

    def command(*arguments):
        assert run([str(argument) for argument in arguments]) == 0, capsys.readouterr().err

    folders = {
        "row": tmp_path / "row" / "model", "together": tmp_path / "together",
        "alone": tmp_path / "alone" / "model", "all": tmp_path / "all" / "model",
    }  # fmt: skip
    command("train", run_file(row, tmp_path / "row.yaml"))
    command("together", folders["row"], "-o", folders["together"])
    command("train", run_file(alone, tmp_path / "alone.yaml"))
    command("train", run_file(whole, tmp_path / "all.yaml"))

    files = {
        name: {
            path.name: load_file(path) for path in folder.glob("*.safetensors")
        }
        for name, folder in folders.items()
    }  # fmt: skip
    frozen = files["row"]["model.safetensors"]
    for name in ("together", "alone"):
        weights = files[name]["model.safetensors"]
        assert weights.keys() == frozen.keys()
        assert all(torch.equal(weights[weight], frozen[weight]) for weight in frozen), name
    of_depth = [files[name]["depth_decoder.safetensors"] for name in ("together", "alone", "all")]
    for before, after in pairwise(of_depth):
        assert not any(torch.equal(before[weight], after[weight]) for weight in before)
    assert any(
        not torch.equal(frozen[weight], tensor)
        for weight, tensor in files["all"]["model.safetensors"].items()
    )

    losses = {
        name: measured(folder, speech, tmp_path / "codes") for name, folder in folders.items()
    }
    deeper = "article/audio.1"
    assert deeper not in losses["row"]  # where every position holds one code
    assert losses["alone"][deeper] < losses["together"][deeper] - 0.05
    assert losses["all"]["article/audio"] < losses["together"]["article/audio"]
    # The first code of a position is the frozen decoder's own.
    for name in ("text", "audio.0"):
        of = f"article/{name}"
        assert losses["alone"][of] == pytest.approx(losses["together"][of], abs=1e-6)
    # What runs measure and say is the same.
    again = replace(
        alone, output=str(tmp_path / "again"), steps=1, validation=speech,
        init_from=str(folders["alone"]), optimizer=OptimizerConfig(lr=1e-12),
    )  # fmt: skip
    command("train", run_file(again, tmp_path / "again.yaml"))
    state = json.loads((tmp_path / "again/checkpoints/step-0000001/state.json").read_text())
    for name, loss in state["measured"].items():
        assert loss == pytest.approx(losses["alone"][name], abs=1e-4), name
    levels = [(losses["alone"][f"article/audio.{level}"]) for level in range(2)]
    assert min(levels) < losses["alone"]["article/audio"] < max(levels)

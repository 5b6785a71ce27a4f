"""Alarms in a run: what stops it, what its checkpoint holds, and how it goes on."""

import json
from dataclasses import replace

import pytest
import torch
from run_checkpoints import same, tensors

from unified.training.config import Alarms
from unified.training.decoder_trainer import DecoderTrainer
from unified.training.train import train


@pytest.fixture(autouse=True, scope="module")
def _threads():
    """A run sets torch's number of threads for its process: put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_loss_that_is_no_number_ends_the_run_before_it_does_harm(
    training_case, tmp_path, monkeypatch, capsys
):
    gradients = DecoderTrainer.gradients

    def poisoned(self, micro_batches, total):
        figures = gradients(self, micro_batches, total)
        if self.step == 2:
            next(iter(self.master_weights.parameters.values())).grad.fill_(float("nan"))
        return figures

    monkeypatch.setattr(DecoderTrainer, "gradients", poisoned)
    config = replace(training_case, output=str(tmp_path / "a"), validation={})
    with pytest.raises(ValueError, match=r"the gradient norm is nan.*checkpoint of step 2 is kept"):
        train(config)
    stored = tensors(config.output, 2)
    assert all(value.isfinite().all() for value in stored.values())
    (line,) = (tmp_path / "a" / "alarms.jsonl").read_text("utf-8").splitlines()
    alarm = json.loads(line)
    assert (alarm["step"], alarm["kind"]) == (3, "nan")
    assert alarm["keys"]
    assert {key.split("/")[0] for key in alarm["keys"]} <= {"draw", "article"}

    # A run that goes on does step 3 again, and what it had said of it goes.
    (tmp_path / "a" / "alarms.jsonl").write_text(f"{line}\n{line[:9]}", "utf-8")
    with pytest.raises(ValueError, match=r"the gradient norm is nan"):
        train(config, resume=True)
    (line,) = (tmp_path / "a" / "alarms.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line)["step"] == 3
    assert "alarms.jsonl: 2 lines of steps after step 2" in capsys.readouterr().err

    going_on = replace(config, output=str(tmp_path / "b"), alarms=Alarms(stop=()))
    train(going_on)
    assert all(value.isfinite().all() for value in tensors(going_on.output).values())
    printed = " ".join(capsys.readouterr().err.split())
    assert "alarm at step 3: the gradient norm is nan; this step changed nothing" in printed


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.slow
def test_a_run_that_an_alarm_stopped_does_the_step_again_or_skips_its_batch(
    skip, training_case, tmp_path, monkeypatch, capsys
):
    """The checkpoint has the data, the random numbers and the monitor of before the step."""
    gradients, batches = DecoderTrainer.gradients, []

    def poisoned(self, micro_batches, total):
        figures = gradients(self, micro_batches, total)
        batches.append([key for batch in micro_batches for key in batch.keys])
        if len(batches) == 3:
            next(iter(self.master_weights.parameters.values())).grad.fill_(float("nan"))
        return figures

    def keys_of(config, resume=False):
        batches.clear()
        train(config, resume=resume)
        return list(batches)

    config = replace(training_case, output=str(tmp_path / "whole"), validation={}, world=None)
    with monkeypatch.context() as patched:
        patched.setattr(DecoderTrainer, "gradients", lambda *a: record(gradients, batches, *a))
        whole = keys_of(config)
    stopped = replace(config, output=str(tmp_path / "stopped"))
    with monkeypatch.context() as patched:
        patched.setattr(DecoderTrainer, "gradients", poisoned)
        with pytest.raises(ValueError, match=r"resume with alarms\.skip_on_resume=true"):
            keys_of(stopped)
    assert batches[:3] == whole[:3]
    capsys.readouterr()
    again = replace(stopped, alarms=Alarms(skip_on_resume=skip))
    with monkeypatch.context() as patched:
        patched.setattr(DecoderTrainer, "gradients", lambda *a: record(gradients, batches, *a))
        resumed = keys_of(again, resume=True)
    printed = capsys.readouterr().err
    lines = (tmp_path / "stopped" / "alarms.jsonl").read_text("utf-8").splitlines()
    if skip:
        assert resumed[:3] == whole[3:6]
        assert len(resumed) == 4
        assert "the batch that raised an alarm at step 3 is skipped" in printed
        assert len(lines) == 1
    else:
        assert resumed == whole[2:]
        same(tensors(config.output), tensors(stopped.output))
        assert lines == []


def record(gradients, batches, self, micro_batches, total):
    batches.append([key for batch in micro_batches for key in batch.keys])
    return gradients(self, micro_batches, total)

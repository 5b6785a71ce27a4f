"""Training a decoder: a whole small run, going on exactly, beginning with a model, alarms."""

import json
import os
import re
import shutil
import signal
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from run_checkpoints import same, tensors

from unified.dataloading import Source
from unified.formats.modality_ids import USUAL
from unified.models.model import UnifiedModel
from unified.pocket.plugin import pocket_tasks
from unified.tasks.task_file import read_tasks
from unified.training.config import Lora, OptimizerConfig, SampleLogging
from unified.training.decoder_trainer import DecoderTrainer
from unified.training.initial_model import build_model
from unified.training.train import train
from unified_base.training import loop
from unified_base.training.dist import DistContext
from unified_base.training.metric_logger import MetricLogger
from unified_base.training.settings import ScheduleConfig
from unified_data.document import Document, Slot, Text
from unified_data.shard_file import ShardFile
from unified_tokenizers import load_tokenizer

TIED = {"lm_head.weight"}


@pytest.fixture(autouse=True, scope="module")
def _threads():
    """A run sets torch's number of threads for its process: put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_run_from_the_sample_gives_a_model_that_opens(training_case, finished_training):
    assert finished_training == Path(training_case.output) / "model"
    model = UnifiedModel.from_pretrained(finished_training)
    trained = tensors(training_case.output)
    for name, value in model.hf.state_dict().items():
        assert name in TIED or torch.equal(value, trained[f"weights/decoder.{name}"]), name
    assert model.text_tokenizer.size == 280
    assert len(json.loads((finished_training / "subjects.json").read_text("utf-8"))) >= 250
    # A model of the world reads plain words as the shipped one does.
    assert json.loads((finished_training / "unified.json").read_text("utf-8"))["plugin"] == "pocket"
    assert read_tasks(finished_training) == pocket_tasks()
    checkpoints = Path(training_case.output) / "checkpoints"
    assert sorted(p.name for p in checkpoints.iterdir()) == ["step-0000003", "step-0000006"]
    state = json.loads((checkpoints / "step-0000006" / "state.json").read_text())
    assert state["settings"]["optimizer"]["lr"] == 0.01
    assert state["settings"]["sources"]["draw"]["share"] == 0.6
    card = (finished_training / "README.md").read_text("utf-8")
    assert "| draw | 60.0% |" in card
    assert re.search(r"\| describe/text \| \d\.\d{3} \|", card)


@pytest.mark.parametrize("which", ["sources", "validation"])
def test_shards_that_are_missing_are_told_before_anything_is_written(
    which, training_case, tmp_path
):
    wrong = {"inner": Source(sources={"draw": Source(shards=(str(tmp_path / "no-*.tar"),))})}
    config = replace(training_case, output=str(tmp_path / "run"), **{which: wrong})
    with pytest.raises(ValueError, match=r"no shards match .*no-\*\.tar; build or import"):
        train(config)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        # Emulated, where the processor does not have such products, it takes long.
        pytest.param(
            {
                "precision": "bfloat16",
                "ema_decay": 0.9,
                "workers": 1,
                "optimizer": OptimizerConfig(lr=0.01),
            },
            marks=pytest.mark.slow,
        ),
        {"init_from": "MODEL", "train": "lora", "lora": Lora(2, 4.0, dropout=0.2)},
    ],
    ids=["float32 muon", "bfloat16 ema worker", "lora with dropout"],
)
def test_a_resumed_run_is_bit_equal_to_one_never_stopped(
    changes, training_case, finished_training, tmp_path, monkeypatch
):
    if changes.get("init_from"):
        changes |= {"init_from": str(finished_training), "model": None, "validation": {}}
        changes |= {"image_tokenizer": None, "audio_tokenizer": None}
    config = replace(training_case, output=str(tmp_path / "whole"), **changes)
    if changes:
        train(config)
    else:
        config = training_case
    save = loop.save_checkpoint

    def save_and_stop(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    stopped = replace(config, output=str(tmp_path / "stopped"))
    with monkeypatch.context() as patched:
        patched.setattr(loop, "save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train(stopped)
    with pytest.raises(ValueError, match="holds a run already; go on with --resume"):
        train(stopped)
    torch.manual_seed(999)
    train(stopped, resume=True)
    whole = tensors(config.output)
    kinds = {"momentum_buffer": "muon", "exp_avg": "adamw"}
    assert any(name.rpartition("/")[2] in kinds for name in whole)
    assert any(name.startswith("ema/") for name in whole) == (config.ema_decay is not None)
    same(whole, tensors(stopped.output))


def test_a_signal_ends_the_step_writes_a_checkpoint_and_exits(
    training_case, finished_training, tmp_path, monkeypatch, capsys
):
    config = replace(training_case, output=str(tmp_path))
    gradients = DecoderTrainer.gradients

    def signal_and_gradients(self, *arguments):
        if self.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return gradients(self, *arguments)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patched:
        patched.setattr(DecoderTrainer, "gradients", signal_and_gradients)
        with pytest.raises(SystemExit) as ended:
            train(config)
    assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    assert "go on with --resume" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "checkpoints" / "step-0000002").exists()
    train(config, resume=True)
    same(tensors(training_case.output), tensors(config.output))


def test_two_runs_do_not_write_to_one_folder(training_case, tmp_path):
    import fcntl

    config = replace(training_case, output=str(tmp_path))
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another process trains in"):
            train(config)
    assert not (tmp_path / "checkpoints").exists()


def test_going_on_with_other_settings_is_said_and_a_larger_text_tokenizer_refused(
    training_case, finished_training, tmp_path, capsys
):
    shutil.copytree(training_case.output, tmp_path, dirs_exist_ok=True)
    (tmp_path / "checkpoints" / "step-0000009.partial").mkdir()
    config = replace(training_case, output=str(tmp_path))
    capsys.readouterr()
    train(replace(config, optimizer=replace(config.optimizer, lr=0.02)), resume=True)
    printed = " ".join(capsys.readouterr().err.split())
    assert "going on from step 6" in printed
    assert "with other settings: optimizer.lr 0.01 -> 0.02; output" in printed
    assert "step-0000009.partial was not complete and has been removed" in printed
    with pytest.raises(ValueError, match=r"has \d+ ids, text_vocab_size is 260; remove the folder"):
        train(replace(config, text_vocab_size=260), resume=True)


def test_a_run_can_begin_with_a_model(training_case, finished_training, tmp_path):
    started = replace(training_case, output=str(tmp_path), init_from=str(finished_training))
    model, first = build_model(started), UnifiedModel.from_pretrained(finished_training)
    assert model.vocabulary.hash == first.vocabulary.hash
    for name, value in first.hf.state_dict().items():
        assert torch.equal(model.hf.state_dict()[name], value), name
    assert not (tmp_path / "text_tokenizer").exists()
    wider = replace(started, model={**training_case.model, "intermediate_size": 40})
    with pytest.raises(ValueError, match="the decoder to begin with does not fit this one"):
        build_model(wider)
    other = replace(started, model=None)
    with pytest.raises(ValueError, match=r"would give .* another vocabulary"):
        build_model(other)


@pytest.mark.parametrize("what", ["new_rows", "lora"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_frozen_stays_bit_for_bit(
    what, precision, training_case, finished_training, tmp_path
):
    config = replace(
        training_case,
        output=str(tmp_path),
        init_from=str(finished_training),
        model=None,
        steps=2,
        image_tokenizer=None,
        audio_tokenizer=None,
        validation={},
        train=what,
        precision=precision,
        lora=Lora(2, 4.0, 0.0),
        optimizer=OptimizerConfig(lr=0.01),
        world=None,
        schedule=ScheduleConfig(name="constant", warmup_steps=0),
    )
    after = UnifiedModel.from_pretrained(train(config))
    before = UnifiedModel.from_pretrained(finished_training)
    new = before.vocabulary.text_rows
    changed = set()
    for name, value in before.hf.state_dict().items():
        actual = after.hf.state_dict()[name]
        if name.endswith("embed_tokens.weight"):
            assert torch.equal(actual[:new], value[:new])
            assert not torch.equal(actual[new:], value[new:])
        elif name not in TIED and not torch.equal(actual, value):
            changed.add(name.split(".")[-2])
    projections = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert changed == (projections if what == "lora" else set())
    trained = tensors(config.output, 2)
    assert all("lora" in n or n.endswith("embed_tokens.rows") for n in trained if "weights/" in n)


def test_rows_of_another_tokenizers_codes_begin_anew(training_case, finished_training, tmp_path):
    """Block by block: a codebook of another size, and what `reinit_modalities` names."""
    tokenizer = load_tokenizer(training_case.audio_tokenizer)
    quantizer = replace(tokenizer.config.quantizer, depth=tokenizer.config.quantizer.depth + 1)
    other = type(tokenizer)(replace(tokenizer.config, quantizer=quantizer))
    other.save_pretrained(tmp_path / "audio")
    started = replace(
        training_case, output=str(tmp_path), init_from=str(finished_training),
        audio_tokenizer=str(tmp_path / "audio"), reinit_modalities=("image",),
    )  # fmt: skip
    model, first = build_model(started), UnifiedModel.from_pretrained(finished_training)
    new, old = (m.hf.get_input_embeddings().weight for m in (model, first))
    known = {block.name: block for block in first.vocabulary.blocks}
    stored = {}
    for block in model.vocabulary.blocks:
        rows = new[block.start : block.start + block.size]
        if block.name in known:
            start = known[block.name].start
            stored[block.name] = torch.equal(rows, old[start : start + block.size])
        assert 0.3 < (rows.std() / old.std()).item() < 3  # neither zero nor out of proportion
    assert not stored.pop("image.0")
    assert stored
    assert all(stored.values())
    assert len(model.vocabulary.blocks) == len(first.vocabulary.blocks) + 1
    assert model.hf.lm_head.weight is model.hf.get_input_embeddings().weight


def test_the_loss_falls_on_documents_seen_again_and_again(training_case, tmp_path, capsys):
    config = replace(
        training_case,
        output=str(tmp_path),
        sources={"draw": training_case.sources["draw"]},
        validation={},
        steps=25,
        save_every=25,
        global_batch_size=2,
        modality_weights={},
        world=None,
        samples=SampleLogging(25, texts=("a cat",), max_ids=60),
    )
    train(config)
    losses = [float(x) for x in re.findall(r"image (\d+\.\d+)", capsys.readouterr().err)]
    assert len(losses) >= 25
    assert np.mean(losses[20:25]) < 0.8 * losses[0]
    assert not (tmp_path / "model" / "subjects.json").exists()
    tags = scalars(tmp_path).Tags()
    visible = {
        tag.rpartition("/")[0] for kind in ("tensors", "images", "audio") for tag in tags[kind]
    }
    assert any("samples/a cat" in tag for tag in visible)


def test_a_sample_whose_text_is_cut_is_logged_and_not_warned_of(training_case, tmp_path):
    request = Document((Text("a", role="prompt"), Slot("text", role="response")))
    (tmp_path / "fact.json").write_text(json.dumps(request.to_json(tmp_path, "fact")))
    config = replace(
        training_case, output=str(tmp_path / "run"), validation={}, steps=2, save_every=2,
        schedule=ScheduleConfig(name="constant", warmup_steps=1),
        samples=SampleLogging(2, documents=(str(tmp_path / "fact.json"),), max_ids=40),
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        train(config)
    assert not [w for w in told if "a text" in str(w.message)]
    assert any("samples/fact/cut" in tag for tag in scalars(tmp_path / "run").Tags()["tensors"])


def scalars(output):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(Path(output) / "tensorboard")).Reload()


def test_curves_reach_tensorboard(training_case, finished_training):
    events = scalars(training_case.output)
    tags = set(events.Tags()["scalars"])
    assert {f"train/{modality}_loss" for modality in USUAL} <= tags
    assert {"train/gradient_norm", "train/output_norm", "train/ids_per_second"} <= tags
    assert {"validation/describe/text", "data/documents", "data/corrupt", "data/split"} <= tags
    rates = [event.value for event in events.Scalars("train/learning_rate")]
    # Two steps up, constant, then down over the last half of the six.
    np.testing.assert_allclose(rates, np.array([0.5, 1, 1, 1, 2 / 3, 1 / 3]) * 0.01, rtol=1e-5)


def test_accumulated_gradients_are_those_of_one_micro_batch(training_case, tmp_path):
    """One sequence at a time, two, or all four: the same sums, up to rounding."""
    gradients = {}
    logger = MetricLogger(tmp_path, "", 0, 1, is_main=False)
    for size in (1, 2, 4):
        config = replace(training_case, output=str(tmp_path), micro_batch_size=size, validation={})
        trainer = DecoderTrainer(config, DistContext(), logger)
        trainer.open(None)
        micro_batches = trainer.next_batch()
        assert len(micro_batches) == 4 // size
        trainer.gradients(micro_batches, trainer.weight(micro_batches))
        parameters = trainer.master_weights.parameters
        gradients[size] = {name: p.grad.clone() for name, p in parameters.items()}
    for size in (1, 2):
        for name, grad in gradients[4].items():
            torch.testing.assert_close(gradients[size][name], grad, rtol=1e-4, atol=1e-6)


def test_a_run_ends_with_its_data(training_case, tmp_path, capsys):
    source = replace(training_case.sources["draw"], epochs=1)
    config = replace(training_case, output=str(tmp_path), sources={"draw": source}, steps=500)
    train(config)
    printed = re.search(r"the data has ended after (\d+) steps", capsys.readouterr().err)
    assert printed
    assert 0 < int(printed[1]) < 500
    run = json.loads(next((tmp_path / "checkpoints").glob("*/state.json")).read_text())
    assert run["ids"] > 0


def test_a_sample_that_has_changed_is_named_and_skipped(
    training_case, finished_training, tmp_path, capsys
):
    (folder,) = (
        path.parent
        for path in (Path(training_case.output) / "codes").glob("*/heldout-draw-00000.tar")
    )
    shutil.copytree(folder, tmp_path / "codes")
    shard = tmp_path / "codes" / "heldout-draw-00000.tar"
    with ShardFile(shard) as whole:
        key, obj, _ = whole.parts(2)
    data = bytearray(shard.read_bytes())
    data[data.index(obj["segments"][0]["text"].encode()) + 1] ^= 1
    shard.write_bytes(data)
    config = replace(
        training_case, output=str(tmp_path / "out"), sources={"draw": Source(str(shard))},
        validation={}, steps=2, max_corrupt=10_000,
    )  # fmt: skip
    train(config)
    printed = capsys.readouterr().err
    reason = "its bytes have changed since they were written (checksum)"
    assert f"shard {shard}, sample {key}: {reason}" in printed
    assert f"skipped: shard {shard}, sample {key}: " in printed
    with pytest.raises(ValueError, match=f"sample {key}"):
        train(replace(config, output=str(tmp_path / "no"), max_corrupt=0))
    (tmp_path / "codes" / f"{shard.name}.sums").unlink()
    with pytest.raises(ValueError, match="which sample it is cannot be told; make it anew"):
        train(replace(config, output=str(tmp_path / "no")))


def test_a_decoder_saves_by_time_too(training_case, finished_training, tmp_path):
    config = replace(
        training_case, output=str(tmp_path), save_minutes=1e-9, save_every=100, keep_checkpoints=9
    )  # fmt: skip
    train(config)
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == [
        f"step-{step:07d}" for step in range(1, 7)
    ]
    same(tensors(training_case.output), tensors(config.output))

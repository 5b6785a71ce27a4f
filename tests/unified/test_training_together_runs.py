"""Whole small runs of a decoder whose positions hold several codes: exact resuming, preferences,
several processes."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from run_checkpoints import same, tensors
from together_cases import PlainDocument, plain_losses
from torch.nn import functional as F
from training_runs import check_close, torchrun

from unified.dataloading import Source
from unified.models.model import UnifiedModel
from unified.training.config import Lora, OptimizerConfig, Preferences
from unified.training.estimate import estimate_run, shape_of
from unified.training.preference import PreferenceTrainer
from unified.training.train import train
from unified.training.weights import choose_trained
from unified_base.training import loop
from unified_base.training.dist import DistContext
from unified_base.training.metric_logger import MetricLogger
from unified_data.importers.import_shards import import_shards
from unified_data.shards import read_shards

DEPTH = {
    "hidden_size": 12, "num_layers": 1, "num_heads": 2, "head_dim": 6, "intermediate_size": 20,
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def together_case(training_case, tmp_path_factory):
    """The run of `training_case`, the codes of a frame in one position."""
    return replace(
        training_case,
        output=str(tmp_path_factory.mktemp("together") / "whole"),
        format="pocket-together",
        codes="depth",
        depth=DEPTH,
        level_weights={"audio": (1.0, 0.5)},
        depth_fraction=0.5,
        save_every=3,
        validation={"article": training_case.sources["article"]},
        world=None,
    )


@pytest.fixture(scope="module")
def finished(together_case):
    return train(together_case)


def test_a_run_gives_a_model_that_opens_with_its_depth_decoder(together_case, finished):
    model = UnifiedModel.from_pretrained(finished)
    trained = tensors(together_case.output)
    depth = model.hf.depth_decoder.state_dict()
    assert len(depth) == 13
    for name, value in depth.items():
        assert torch.equal(value, trained[f"weights/decoder.depth_decoder.{name}"]), name
    state = Path(together_case.output) / "checkpoints" / "step-0000006" / "state.json"
    run = json.loads(state.read_text())
    assert run["ids"] > run["positions"] > 0
    assert "| article/audio |" in (finished / "README.md").read_text("utf-8")


def scalars(output: str) -> dict[str, list[float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(Path(output) / "tensorboard")).Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_throughput_is_logged_in_positions_and_in_ids(together_case, finished):
    logged = scalars(together_case.output)
    ids, positions = ([0, *logged[f"train/{name}"]] for name in ("ids", "positions"))
    ratios = [
        per_id / per_position
        for per_id, per_position in zip(
            logged["train/ids_per_second"], logged["train/positions_per_second"]
        )
    ]
    steps = zip(pairwise(ids), pairwise(positions))
    expected = [(b - a) / (d - c) for (a, b), (c, d) in steps]
    assert ratios == pytest.approx(expected, rel=1e-3)
    assert max(ratios) > 1.02


@pytest.mark.parametrize(
    "changes",
    [
        {"ema_decay": 0.9, "workers": 1},
        # test_training.py has it of a decoder of one id a position; emulated it takes long.
        pytest.param({"precision": "bfloat16", "ema_decay": 0.9}, marks=pytest.mark.slow),
        {"init_from": "MODEL", "train": "depth"},
        pytest.param(
            {"init_from": "MODEL", "train": "lora", "lora": Lora(2, 4.0, depth="lora")},
            marks=pytest.mark.slow,
        ),
        {"codes": "heads", "depth": None},
    ],
    ids=["ema worker", "bfloat16", "depth alone", "lora", "heads"],
)
def test_a_resumed_run_is_bit_equal_to_one_never_stopped(
    changes, together_case, finished, tmp_path, monkeypatch
):
    if changes.get("init_from"):
        changes = {
            **changes, "init_from": str(finished), "model": None, "image_tokenizer": None,
            "audio_tokenizer": None,
        }  # fmt: skip
    config = replace(together_case, output=str(tmp_path / "whole"), validation={}, **changes)
    result = train(config)
    save = loop.save_checkpoint

    def save_and_stop(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    stopped = replace(config, output=str(tmp_path / "stopped"))
    with monkeypatch.context() as patched:
        patched.setattr(loop, "save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train(stopped)
    torch.manual_seed(999)
    train(stopped, resume=True)
    same(tensors(config.output), tensors(stopped.output))
    if config.train == "full":
        return
    # What is frozen stays bit for bit; adapters of the depth decoder have been merged into it.
    before, after = (UnifiedModel.from_pretrained(f).hf.state_dict() for f in (finished, result))
    assert set(before) == set(after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    own = {name for name in before if name.startswith("depth_decoder.")}
    if config.train == "depth":
        assert changed == own
    else:
        rows = {f"depth_decoder.{name}.weight" for name in ("embed_tokens", "lm_head")}
        norms = {name for name in own if "norm" in name}
        assert changed & own == own - rows - norms


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth_fraction": 0.0}, r"depth_fraction is 0\.0, expected above 0 and at most 1"),
        ({"level_weights": {"audio": (1.0, -1.0)}}, r"the weight of audio, level 1 is -1"),
        ({"codes": "rows"}, "codes is 'rows', expected one of"),
    ],
)
def test_values_that_no_run_can_have_are_refused(changes, message, together_case):
    from unified.training.config_checks import check_config

    with pytest.raises(ValueError, match=message):
        check_config(replace(together_case, **changes))


def test_another_number_of_levels_is_refused_before_anything_is_trained(together_case, tmp_path):
    config = replace(together_case, output=str(tmp_path), level_weights={"audio": (1.0, 1.0, 1.0)})
    with pytest.raises(ValueError, match="3 weights for audio, whose audio spans have 2 levels"):
        train(config)


@pytest.mark.slow
def test_two_processes_with_parts_of_the_parameters_are_one(together_case, finished, tmp_path):
    """FSDP2, the depth decoder too; one process then goes on with what two have saved."""
    config = replace(
        together_case,
        output=str(tmp_path / "two"),
        parallel="fsdp",
        optimizer=OptimizerConfig(lr=0.01, name="adamw"),
        precision="float32",  # many times as fast where the processor has no bfloat16 products
        steps=3,
        ema_decay=0.9,
        validation={},
    )
    single = replace(config, output=str(tmp_path / "one"))
    train(single)
    torchrun(config, tmp_path)
    check_close(single, config, 1e-4)
    longer, single = (replace(c, steps=5, save_every=5) for c in (config, single))
    train(longer, resume=True)
    train(single, resume=True)
    check_close(single, longer, 1e-2)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Four pairs: sounds of several frames and texts preferred to others."""
    folder = tmp_path_factory.mktemp("preferences")
    for name, hertz, samples in (("high", 900, 16_000), ("low", 110, 9_600)):
        wave = 0.5 * np.sin(np.arange(samples) * 2 * np.pi * hertz / 16_000)
        soundfile.write(folder / f"{name}.wav", wave, 16_000)
    records = [
        {"prompt": f"say it {n}", "chosen": first, "rejected": second,
         "audios": [f"{name}.wav" for name in names]}
        for n, (first, second, names) in enumerate([
            ("<audio>", "<audio>", ("high", "low")), ("so: <audio>", "<audio>", ("low", "high")),
            ("no", "<audio>", ("low",)), ("<audio>yes", "no", ("high",)),
        ])
    ]  # fmt: skip
    source = folder / "pairs.jsonl"
    source.write_text("\n".join(map(json.dumps, records)), "utf-8")
    import_shards("preferences", source, folder / "shards")
    return folder / "shards"


def log_probabilities(model, decoder, shards):
    """Of all pairs, (pairs, 2), each document by the plain loop."""
    actual = []
    for _, document in read_shards(shards):
        sequence = model.sequencer.encode(document)
        state, allowed = model.grammar.start(), []
        for id in sequence.ids.tolist():
            allowed.append(state.allowed())
            state.advance(id)
        plain = PlainDocument(
            sequence.ids.tolist(), sequence.depth.tolist(), sequence.loss, sequence.modality,
            allowed,
        )  # fmt: skip
        counts = torch.as_tensor(sequence.loss > 0)
        actual.append(-(plain_losses(decoder, plain) * counts).sum())
    return torch.stack(actual).view(-1, 2)


def test_the_gradient_of_preferences_is_that_of_the_plain_loop(
    together_case, finished, pairs, tmp_path
):
    config = replace(
        together_case, output=str(tmp_path), init_from=str(finished), model=None,
        image_tokenizer=None, audio_tokenizer=None, validation={}, modality_weights={},
        level_weights={}, depth_fraction=1.0, sources={"pairs": Source(str(pairs))},
        preferences=Preferences(beta=0.3, pairs=4), seq_len=60, micro_batch_size=1,
        global_batch_size=4,
    )  # fmt: skip
    trainer = PreferenceTrainer(config, DistContext(), MetricLogger(tmp_path, "", 0, 1, False))
    trainer.open(None)
    plain = copy.deepcopy(UnifiedModel.from_pretrained(finished).hf)
    with torch.no_grad():
        reference = log_probabilities(trainer.model, plain, pairs).double()
    torch.testing.assert_close(trainer._reference, reference, rtol=1e-5, atol=1e-3)

    torch.manual_seed(0)
    for name, parameter in trainer.master_weights.parameters.items():
        parameter.data += 0.1 * torch.randn_like(parameter)
        plain.get_parameter(name.removeprefix("decoder.")).data = parameter.detach().clone()
    plain.tie_weights()
    ratios = log_probabilities(trainer.model, plain, pairs) - reference
    losses = -F.logsigmoid(0.3 * (ratios[:, 0] - ratios[:, 1]))
    losses.mean().backward()
    micro_batches = trainer.next_batch()
    assert any(batch.deeper is not None for batch in micro_batches)
    trainer.gradients(micro_batches, trainer.weight(micro_batches))
    assert float(trainer.extra["train/preference_loss"]) == pytest.approx(
        losses.mean().item(), abs=1e-4
    )
    for name, parameter in trainer.master_weights.parameters.items():
        expected = plain.get_parameter(name.removeprefix("decoder.")).grad
        bound = 2e-4 * float(expected.abs().max())
        assert bound > 0, name
        torch.testing.assert_close(parameter.grad, expected, rtol=0, atol=bound, msg=name)


def test_an_estimate_counts_the_weights_as_they_are(together_case, finished):
    """Of a new decoder, and of one that is there, whatever of it is trained."""
    whole = sum(p.numel() for p in UnifiedModel.from_pretrained(finished).hf.parameters())
    assert estimate_run(together_case, shape_of(together_case)).trained == whole
    begun = replace(
        together_case, init_from=str(finished), model=None, image_tokenizer=None,
        audio_tokenizer=None,
    )  # fmt: skip
    for changes in (
        {}, {"train": "depth"}, {"train": "new_rows"}, {"train": "lora", "lora": Lora(2, 4.0)},
        {"train": "lora", "lora": Lora(2, 4.0, depth="lora")},
    ):  # fmt: skip
        config = replace(begun, **changes)
        model = UnifiedModel.from_pretrained(finished)
        text_rows = model.vocabulary.text_rows
        choose_trained(model.hf, config.train, text_rows, asdict(config.lora))
        trained = sum(p.numel() for p in model.hf.parameters() if p.requires_grad)
        assert estimate_run(config, shape_of(config)).trained == trained, changes
    part = replace(together_case, depth_fraction=0.1)
    less, more = (estimate_run(c, shape_of(c)).operations for c in (part, together_case))
    assert less < more

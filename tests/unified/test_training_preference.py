"""Direct preference optimisation: its gradient, its reference, its pairs, and what it teaches."""

import copy
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.nn import functional as F

from unified.dataloading import Source, prepare_sources
from unified.formats.grammar import MODALITIES
from unified.models.model import UnifiedModel
from unified.training.config import OptimizerConfig, Preferences
from unified.training.preference import PreferenceTrainer, preference_slopes
from unified.training.preference_pairs import PreferencePairs
from unified.training.train import train
from unified_base.images import save_png
from unified_base.training import loop
from unified_base.training.dist import DistContext
from unified_base.training.metric_logger import MetricLogger
from unified_base.training.settings import ScheduleConfig
from unified_data.importers.import_shards import import_shards
from unified_data.shards import read_index, read_shards


@pytest.fixture(autouse=True, scope="module")
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Seven pairs, imported: texts, pictures and a sound preferred to others."""
    folder = tmp_path_factory.mktemp("preferences")
    rng = np.random.default_rng(1)
    for name in ("bright", "dark"):
        noise = rng.integers(0, 90, (96, 96, 3), dtype=np.uint8)
        save_png(folder / f"{name}.png", noise + (160 if name == "bright" else 0))
    for name, hertz in (("high", 900), ("low", 110)):
        wave = 0.5 * np.sin(np.arange(6400) * 2 * np.pi * hertz / 16_000)
        soundfile.write(folder / f"{name}.wav", wave, 16_000)
    pairs = [
        {"prompt": "a cat", "chosen": "<image>", "rejected": "<image>",
         "images": ["bright.png", "dark.png"]},
        {"prompt": "a dog", "chosen": "here: <image>", "rejected": "here: <image>",
         "images": ["bright.png", "dark.png"]},
        {"prompt": "say it", "chosen": "<audio>", "rejected": "<audio>",
         "audios": ["high.wav", "low.wav"]},
        {"prompt": "<image>what is it?", "chosen": "a cat", "rejected": "no idea at all",
         "images": ["dark.png"]},
        *({"prompt": f"count to {n}", "chosen": "yes", "rejected": "no"} for n in range(3)),
    ]  # fmt: skip
    source = folder / "pairs.jsonl"
    source.write_text("\n".join(map(json.dumps, pairs)), "utf-8")
    import_shards("preferences", source, folder / "shards")
    return folder / "shards"


@pytest.fixture
def case(training_case, finished_training, shards, tmp_path):
    return replace(
        training_case,
        output=str(tmp_path / "whole"),
        init_from=str(finished_training),
        model=None,
        image_tokenizer=None,
        audio_tokenizer=None,
        validation={},
        world=None,
        modality_weights={},
        sources={"pairs": Source(str(shards))},
        preferences=Preferences(beta=0.3, pairs=4),
        optimizer=OptimizerConfig(lr=0.01),
        schedule=ScheduleConfig(name="constant", warmup_steps=0),
        steps=4,
        save_every=2,
        seq_len=120,
        global_batch_size=4,
        micro_batch_size=1,
    )


def opened(config):
    Path(config.output).mkdir(exist_ok=True)
    logger = MetricLogger(Path(config.output), "", 0, 1, is_main=False)
    trainer = PreferenceTrainer(config, DistContext(), logger)
    trainer.open(None)
    return trainer


def log_probabilities(model, decoder, shards, dense_losses, weights):
    """Of all pairs, float64 (pairs, 2), from the documents themselves, one after the other."""
    actual = []
    factors = torch.ones(len(MODALITIES))
    for name, weight in weights.items():
        factors[MODALITIES[name]] = weight
    for _, document in read_shards(shards):
        sequence = model.sequencer.encode(document)
        state, allowed = model.grammar.start(), []
        for id in sequence.ids.tolist():
            allowed.append(state.allowed())
            state.advance(id)
        losses = dense_losses(decoder, sequence.ids, allowed)
        counts = torch.as_tensor(sequence.loss[1:] > 0)
        actual.append(-(losses * counts * factors[sequence.modality[1:].astype(int)]).sum())
    return torch.stack(actual).view(-1, 2)


def test_slopes_are_the_gradient_of_the_loss():
    torch.manual_seed(0)
    policy = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(9, 2, dtype=torch.float64)
    losses, slopes, margins = preference_slopes(policy, reference, 0.7)
    (expected,) = torch.autograd.grad(losses.sum(), policy)
    torch.testing.assert_close(slopes, expected)
    assert ((margins > 0) == (losses < np.log(2))).all()
    assert (
        preference_slopes(reference, reference, 0.7)[0].tolist() == [pytest.approx(np.log(2))] * 9
    )


@pytest.mark.parametrize("weights", [{}, {"image": 0.0, "audio": 0.5}], ids=["all", "weighed"])
def test_the_gradient_is_that_of_documents_alone_and_all_logits(
    weights, case, shards, dense_losses
):
    """And the reference is what the model to begin with makes of them."""
    config = replace(case, preferences=Preferences(0.3, 7, weights))
    run = opened(config)
    plain = copy.deepcopy(UnifiedModel.from_pretrained(config.init_from).hf).double()
    with torch.no_grad():
        reference = log_probabilities(run.model, plain, shards, dense_losses, weights)
    torch.testing.assert_close(run._reference, reference, rtol=1e-5, atol=1e-4)

    torch.manual_seed(0)
    for name, parameter in run.master_weights.parameters.items():
        parameter.data += 0.1 * torch.randn_like(parameter)
        plain.get_parameter(name.removeprefix("decoder.")).data = parameter.detach().double()
    plain.tie_weights()
    policy = log_probabilities(run.model, plain, shards, dense_losses, weights)
    ratios = policy - reference
    margins = 0.3 * (ratios[:, 0] - ratios[:, 1])
    losses = -F.logsigmoid(margins)
    losses.mean().backward()

    micro_batches = run.next_batch()
    assert len(micro_batches) > 2
    assert sorted(pair.number for pair in run._pairs) == list(range(7))
    run.gradients(micro_batches, run.weight(micro_batches))
    actual = [float(run.extra[f"train/{name}"]) for name in ("preference_loss", "reward_margin")]
    assert actual == pytest.approx([losses.mean().item(), margins.mean().item()], abs=1e-4)
    for name, parameter in run.master_weights.parameters.items():
        expected = plain.get_parameter(name.removeprefix("decoder.")).grad
        bound = 1e-4 * float(expected.abs().max())
        torch.testing.assert_close(parameter.grad.double(), expected, rtol=0, atol=bound, msg=name)


def test_it_teaches_what_is_preferred_and_goes_on_exactly(case, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = replace(case, steps=6, precision="bfloat16")
    train(config)
    events = EventAccumulator(str(Path(config.output) / "tensorboard")).Reload()
    margins, accuracies = (
        [event.value for event in events.Scalars(f"train/{name}")]
        for name in ("reward_margin", "preference_accuracy")
    )
    assert abs(margins[0]) < 0.05
    assert margins[-1] > 0.5
    assert accuracies[-1] == 1

    stopped = replace(config, output=str(tmp_path / "stopped"))
    save = loop.save_checkpoint

    def save_and_stop(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop, "save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train(stopped)
    monkeypatch.setattr(PreferenceTrainer, "_measure_all", None)  # there is no need to
    train(stopped, resume=True)
    names = ["reference.safetensors", "checkpoints/step-0000006/part-00000-of-00001.safetensors"]
    for name in names:
        assert (tmp_path / "stopped" / name).read_bytes() == (
            tmp_path / "whole" / name
        ).read_bytes()
    other = replace(stopped, preferences=Preferences(0.3, 4, {"text": 0.5}))
    with pytest.raises(ValueError, match=r"reference\.safetensors, made before the first step, is"):
        train(other, resume=True)


def test_a_reference_of_other_settings_is_made_anew_before_the_first_step(case):
    first = opened(case)._reference
    assert torch.equal(opened(case)._reference, first)
    other = opened(replace(case, preferences=Preferences(0.3, 4, {"text": 0.5})))._reference
    assert not torch.equal(other, first)


def test_a_bit_that_changes_in_the_reference_is_named(case):
    opened(case)
    path = Path(case.output) / "reference.safetensors"
    whole = path.read_bytes()
    for bit in (3, 8 * len(whole) - 9, 8 * len(whole) - 100):  # of the numbers, and of their size
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"reference\.safetensors is damaged"):
            opened(case)
    path.write_bytes(whole)
    opened(case)


def coded(shards, model, folder):
    """The code shards of a folder, as a source."""
    return prepare_sources({"pairs": Source(str(shards))}, model.sequencer, folder)["pairs"]


def without(shard, keys):
    """A shard without some of its samples."""
    beside = shard.with_suffix(".new")
    with tarfile.open(shard) as old, tarfile.open(beside, "w", format=tarfile.USTAR_FORMAT) as new:
        for member in old:
            if member.name.partition(".")[0] not in keys:
                new.addfile(member, old.extractfile(member))
    beside.replace(shard)


def test_a_lone_half_shifts_no_other_pair(case, shards, tmp_path, forget_checksums):
    model = UnifiedModel.from_pretrained(case.init_from)
    source = coded(shards, model, tmp_path / "codes")
    (shard,) = map(Path, source.shards)
    lone = {"000000001-chosen", "000000003-rejected", "000000006-rejected"}
    without(shard, lone)
    num_kept = read_index(shard.parent)["shards"][0].samples - len(lone)
    forget_checksums(shard.parent, lambda index: index["shards"][0].update(samples=num_kept))

    def pairs(max_corrupt=3, seq_len=120, rank=0, world=1):
        return PreferencePairs({"p": source}, model.sequencer, seq_len, 0, rank, world, max_corrupt)

    built = pairs()
    assert built.num_pairs == 4
    assert [built.read(i).key for i in range(4)] == [f"p/{n:09d}" for n in (0, 2, 4, 5)]
    assert built.counts["corrupt"] == 3
    assert "sample 000000001-rejected: its other half is not beside it" in built.reports[0]
    assert "sample 000000006-chosen: its other half is missing" in built.reports[2]
    with pytest.raises(
        ValueError, match=r"3 samples are corrupt, max_corrupt is 2; the last: shard"
    ):
        pairs(max_corrupt=2)

    # Two processes take what one takes, and one goes on where two were.
    keys = [pair.key for pair in built.take(8)]
    assert sorted(keys[:4]) == sorted(keys[4:]) == [f"p/{n:09d}" for n in (0, 2, 4, 5)]
    halves = [pairs(rank=rank, world=2) for rank in (0, 1)]
    dealt = [[pair.key for pair in half.take(2)] for half in halves]
    assert dealt == [keys[:4:2], keys[1:4:2]]
    going_on = pairs()
    going_on.load_state([half.state() for half in halves])
    assert [pair.key for pair in going_on.take(4)] == keys[4:]
    assert going_on.counts == {"pairs": 8, "corrupt": 3}

    short = pairs(max_corrupt=9, seq_len=24)
    broken = [n for n in range(4) if not fits(short, n)]
    assert 0 < len(broken) < 4
    short.exclude(broken)
    assert (short.size, short.counts["corrupt"]) == (4 - len(broken), 3 + len(broken))
    assert {pair.number for pair in short.take(6)} == set(range(4)) - set(broken)


def fits(pairs, number):
    try:
        return pairs.read(number) is not None
    except ValueError as error:
        return "longer than a sequence of 24" not in str(error)


def test_pairs_of_equal_keys_have_references_of_their_own(case, shards, tmp_path):
    """Two imports number their pairs alike."""
    shutil.copytree(shards, tmp_path / "again")
    both = Source((str(shards), str(tmp_path / "again")))
    run = opened(replace(case, sources={"pairs": both}))
    assert run._reference.shape == (14, 2)
    torch.testing.assert_close(run._reference[:7], run._reference[7:], rtol=0, atol=1e-4)
    run.data.take(14)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"noise": 0.1}, "source p has noise, drop_prompt, infill, shots or orders"),
        ({"orders": "both"}, "source p has noise, drop_prompt, infill, shots or orders"),
        ({"shards": str(Path(__file__).parents[2] / "data" / "sample" / "heldout-draw-*.tar")},
         "source p holds no pairs, KEY-chosen beside KEY-rejected"),
    ],
)  # fmt: skip
def test_a_source_that_is_not_of_pairs_is_refused(case, shards, tmp_path, changes, reason):
    model = UnifiedModel.from_pretrained(case.init_from)
    source = replace(Source(str(shards)), **changes)
    source = prepare_sources({"p": source}, model.sequencer, tmp_path)["p"]
    with pytest.raises(ValueError, match=reason):
        PreferencePairs({"p": source}, model.sequencer, 400, 0, 0, 1, 100)
    with pytest.raises(ValueError, match="preferences come from one source"):
        PreferencePairs({"p": source, "q": source}, model.sequencer, 400, 0, 0, 1, 0)

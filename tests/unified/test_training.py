"""Training a decoder: the loss among allowed ids, padding, a whole small run, and going on."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.nn import functional as F

from unified import training
from unified.grammar import MODALITIES
from unified.model import UnifiedModel
from unified.training import DecoderTraining, batch_loss, load_config, range_loss, train
from unified.training_data import Source, load_examples, rows
from unified_data.shards import read_shards
from unified_tokenizers import load_tokenizer

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
SHAPE = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "head_dim": 8, "intermediate_size": 24, "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _threads():
    """A run sets torch's number of threads for its process: put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def config(tiny_tokenizers, tmp_path_factory) -> DecoderTraining:
    folder = tmp_path_factory.mktemp("run")
    for tokenizer in tiny_tokenizers:
        tokenizer.save_pretrained(folder / tokenizer.modality)
    return DecoderTraining(
        output=str(folder / "whole"),
        sources={
            "draw": Source(str(SAMPLE / "heldout-draw-*.tar"), 0.6),
            "article": Source(str(SAMPLE / "heldout-article-*.tar"), 0.4),
        },
        heldout={"describe": Source(str(SAMPLE / "heldout-describe-*.tar"))},
        image_tokenizer=str(folder / "image"), audio_tokenizer=str(folder / "audio"),
        model=SHAPE, text_size=280, max_grid=8, steps=6, ids_per_step=60, learning_rate=0.01,
        warmup=2, padded_ids=600, log_every=1, save_every=3, threads=1, store="float32",
        modality_weights={"text": 2.0, "audio": 0.5}, world="pocket",
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(config) -> Path:
    """The folder of the model that a run of 6 steps made."""
    return train(config)


def state(output: str) -> dict[str, torch.Tensor]:
    return load_file(Path(output) / "checkpoints" / "step-0000006" / "state.safetensors")


def test_the_loss_is_the_cross_entropy_among_the_allowed_ids():
    rng = torch.Generator().manual_seed(0)
    table = [((0, 20),), ((3, 4),), ((2, 5), (9, 17), (18, 20)), ((17, 20), (0, 1))]
    allowed = torch.randint(0, 4, (50,), generator=rng)
    features = torch.randn(50, 6, generator=rng, requires_grad=True)
    head = torch.randn(20, 6, generator=rng, requires_grad=True)
    mask = torch.full((4, 20), float("-inf"))
    for number, ranges in enumerate(table):
        for start, stop in ranges:
            mask[number, start:stop] = 0
    targets = torch.stack(
        [torch.multinomial(row.exp(), 1, generator=rng)[0] for row in mask[allowed]]
    )
    dense = F.cross_entropy(features @ head.T + mask[allowed], targets, reduction="none")
    found = range_loss(features, head, targets, allowed, table)
    torch.testing.assert_close(found, dense)
    assert (found[allowed == 1] == 0).all()  # only one id is allowed: nothing to learn

    weights = torch.rand(50, generator=rng)
    expected = torch.autograd.grad((dense * weights).sum(), [features, head])
    gradients = torch.autograd.grad((found * weights).sum(), [features, head])
    for one, other in zip(gradients, expected):
        torch.testing.assert_close(one, other)


def test_padding_and_company_change_no_loss(config, finished, tmp_path):
    model = UnifiedModel.from_pretrained(finished)
    examples = load_examples(config.sources["draw"].shards, model.sequencer, tmp_path)
    everything = [(0, index) for index in range(len(examples))]
    assert len(set(examples.lengths)) > 1
    weights = torch.tensor([1.0, 2.0, 1.0, 0.5])

    def totals(padded_ids: int) -> list[torch.Tensor]:
        parts = [
            batch_loss(model.hf, batch, examples.ranges, weights)
            for batch in rows([examples], everything, padded_ids)
        ]
        assert (len(parts) == len(everything)) == (padded_ids == 1)
        return [sum(column) for column in zip(*parts)]

    with torch.no_grad():
        together, alone = totals(100_000), totals(1)
    for one, other in zip(together, alone):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    counted = examples.loss > 0
    expected = np.bincount(examples.modality[counted], minlength=len(MODALITIES))
    assert together[2].tolist() == expected.tolist()


def test_the_prompt_counts_for_nothing(config, finished, tmp_path):
    model = UnifiedModel.from_pretrained(finished)
    examples = load_examples(config.sources["draw"].shards, model.sequencer, tmp_path)
    (_, document), *_ = read_shards(SAMPLE / "heldout-draw-00000.tar")
    prompt = model.sequencer.encode_prefix(document.segments[:1])
    assert examples.loss[: len(prompt.ids)].max() == 0
    response = examples.loss[len(prompt.ids) + 1 : examples.offsets[1]]
    assert response.min() > 0


def test_a_run_from_the_sample_gives_a_model_that_opens(config, finished):
    assert finished == Path(config.output) / "model"
    model = UnifiedModel.from_pretrained(finished)
    trained = state(config.output)
    tied = {"lm_head.weight"}
    for name, value in model.hf.state_dict().items():
        assert name in tied or torch.equal(value, trained[f"module/decoder/{name}"]), name
    assert model.text_tokenizer.size == 280
    assert len(json.loads((finished / "subjects.json").read_text("utf-8"))) >= 250
    assert sorted(p.name for p in (Path(config.output) / "checkpoints").iterdir()) == [
        "step-0000003",
        "step-0000006",
    ]
    plain = json.loads((Path(config.output) / "checkpoints/step-0000006/state.json").read_text())
    assert plain["extra"]["learning_rate"] == 0.01
    assert plain["extra"]["sources"]["draw"]["share"] == 0.6


def test_a_resumed_run_is_bit_equal_to_one_never_stopped(config, finished, monkeypatch):
    save = training.save_checkpoint

    def save_and_stop(*arguments, **more):
        save(*arguments, **more)
        raise KeyboardInterrupt

    stopped = replace(config, output=config.output.replace("whole", "stopped"))
    with monkeypatch.context() as patched:
        patched.setattr(training, "save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train(stopped)
    with pytest.raises(ValueError, match="holds a run already; go on with --resume"):
        train(stopped)
    torch.manual_seed(999)
    train(stopped, resume=True)
    whole, resumed = state(config.output), state(stopped.output)
    assert whole.keys() == resumed.keys()
    assert any(name.startswith("optimizer/muon") for name in whole)
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name


def test_going_on_with_other_settings_is_said_and_a_larger_text_tokenizer_refused(
    config, finished, tmp_path, capsys
):
    shutil.copytree(config.output, tmp_path, dirs_exist_ok=True)
    config = replace(config, output=str(tmp_path))
    capsys.readouterr()
    train(replace(config, learning_rate=0.02), resume=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "going on from step 6 with other settings: learning_rate 0.01 -> 0.02; output" in said
    with pytest.raises(ValueError, match=r"has \d+ ids, text_size is 260; remove the folder"):
        train(replace(config, text_size=260), resume=True)


def test_a_run_can_begin_with_a_model(config, finished, tmp_path):
    started = replace(config, output=str(tmp_path), start=str(finished))
    model, first = training.build_model(started), UnifiedModel.from_pretrained(finished)
    assert model.vocabulary.hash == first.vocabulary.hash
    for name, value in first.hf.state_dict().items():
        assert torch.equal(model.hf.state_dict()[name], value), name
    assert not (tmp_path / "text_tokenizer").exists()
    wider = replace(started, model={**SHAPE, "intermediate_size": 40})
    with pytest.raises(ValueError, match="the decoder to begin with does not fit this one"):
        training.build_model(wider)


def test_rows_of_another_tokenizers_codes_begin_anew(config, finished, tmp_path):
    """Block by block: a codebook of another size, and what `fresh` names."""
    tokenizer = load_tokenizer(config.audio_tokenizer)
    quantizer = replace(tokenizer.config.quantizer, depth=tokenizer.config.quantizer.depth + 1)
    other = type(tokenizer)(replace(tokenizer.config, quantizer=quantizer))
    other.save_pretrained(tmp_path / "audio")
    started = replace(
        config, output=str(tmp_path), start=str(finished), audio_tokenizer=str(tmp_path / "audio"),
        fresh=("image",),
    )  # fmt: skip
    model, first = training.build_model(started), UnifiedModel.from_pretrained(finished)
    new, old = (m.hf.get_input_embeddings().weight for m in (model, first))
    known = {block.name: block for block in first.vocabulary.blocks}
    kept = {}
    for block in model.vocabulary.blocks:
        rows = new[block.start : block.start + block.size]
        if block.name in known:
            start = known[block.name].start
            kept[block.name] = torch.equal(rows, old[start : start + block.size])
        assert 0.3 < (rows.std() / old.std()).item() < 3  # neither zero nor out of proportion
    assert not kept.pop("image.0")
    assert kept
    assert all(kept.values())
    assert len(model.vocabulary.blocks) == len(first.vocabulary.blocks) + 1
    assert model.hf.lm_head.weight is model.hf.get_input_embeddings().weight


def test_the_loss_falls_on_documents_seen_again_and_again(config, tmp_path, capsys):
    source = {"draw": config.sources["draw"]}
    train(
        replace(
            config, output=str(tmp_path), sources=source, heldout={}, steps=25, save_every=25,
            ids_per_step=150, modality_weights={}, world=None,
        )
    )  # fmt: skip
    losses = [float(x) for x in re.findall(r"image (\d+\.\d+)", capsys.readouterr().err)]
    assert len(losses) >= 25
    assert np.mean(losses[20:25]) < 0.8 * losses[0]
    assert not (tmp_path / "model" / "subjects.json").exists()


def test_curves_reach_tensorboard(config, finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(Path(config.output) / "tensorboard")).Reload()
    tags = set(events.Tags()["scalars"])
    assert {f"train/{modality}_loss" for modality in MODALITIES} <= tags
    assert "heldout/describe/text" in tags
    rates = [event.value for event in events.Scalars("train/learning_rate")]
    # Two steps up, constant, then down over the last half of the six.
    np.testing.assert_allclose(rates, np.array([0.5, 1, 1, 1, 2 / 3, 1 / 3]) * 0.01, rtol=1e-5)


def entries(**changes) -> dict:
    return {
        "output": "runs/x", "sources": {"draw": {"shards": "a-*.tar", "share": 2}}, "heldout": {},
        "image_tokenizer": "i", "audio_tokenizer": "a", "model": {}, "steps": 3,
        "ids_per_step": 10, "learning_rate": 0.003, **changes,
    }  # fmt: skip


def test_a_configuration_file_is_read_as_it_stands(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(entries(seed=4)))
    config = load_config(path)
    assert config.sources == {"draw": Source("a-*.tar", 2)}
    assert (config.seed, config.steps, config.format) == (4, 3, "pocket")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stepz": 3}, r"unknown entries \['stepz'\]"),
        ({"steps": "3"}, "steps is '3', expected int"),
        ({"learning_rate": "3e-3"}, "learning_rate is '3e-3', expected float"),
        ({"sources": {"draw": {"shard": "a"}}}, "sources and heldout are names with shards"),
        ({"sources": {"draw": "a"}}, "sources and heldout are names with shards"),
        ({"heldout": ["a"]}, "sources and heldout are names with shards"),
        ({"sources": {"draw": {"shards": "a", "share": -1}}}, "share of a is -1, expected more"),
        ({"modality_weights": {"smell": 1}}, r"unknown modalities \['smell'\]"),
        ({"fresh": ["audio"]}, r"fresh is \['audio'\] and start None"),
        ({"fresh": ["text"], "start": "m"}, r"fresh is \['text'\]"),
        ({"world": "mars"}, "world 'mars', expected 'pocket' or none"),
    ],
)
def test_wrong_entries_are_refused(tmp_path, changes, reason):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(entries(**changes)))
    with pytest.raises(ValueError, match=reason):
        load_config(path)

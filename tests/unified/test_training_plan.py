"""What a run will take: exact counts of weights, figures that move the right way, the recipes."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from unified.__main__ import run
from unified.dataloading import Source
from unified.models.model import UnifiedModel
from unified.training.config import Lora, Preferences, TrainConfig, load_config
from unified.training.plan import DEVICES, check_shape, plan_run, shape_of
from unified.training.weights import choose_trained

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(path for name in ("0.5b", "7b") for path in (CONFIGS / name).glob("*.yaml"))
SIZES = {
    "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2,
    "intermediate_size": 80, "head_dim": 10, "vocab_size": 331,
}  # fmt: skip
CONFIG = TrainConfig("o", {"a": Source("a.tar")}, 100, 512, 16, 0.001, start="nowhere", shape=SIZES)


def made(kind, **sizes):
    """A model of transformers without storage."""
    config = getattr(transformers, f"{kind}Config")(**sizes)
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(config)


def count(parameters):
    return sum(p.numel() for p in parameters)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("Llama", {"tie_word_embeddings": True}),
        ("Llama", {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True}),
        ("Qwen3", {"tie_word_embeddings": True}),
        ("Qwen3", {"tie_word_embeddings": False}),
        ("Qwen2", {"tie_word_embeddings": False, "head_dim": 8}),
        ("Gemma2", {"tie_word_embeddings": True}),
        ("Mixtral", {"num_local_experts": 5, "num_experts_per_tok": 2}),
        ("Qwen3Moe", {"num_experts": 4, "moe_intermediate_size": 24, "decoder_sparse_step": 1}),
    ],
)
def test_weights_are_counted_as_they_are(kind, more):
    model = made(kind, **{**SIZES, **more})
    shape = shape_of(replace(CONFIG, shape=model.config.to_dict()))
    assert shape.parameters == count(model.parameters())
    inside = count(p for n, p in model.named_parameters() if ".layers." in n)
    assert shape.parameters - shape.rows - shape.width == inside


def test_what_is_trained_is_counted_as_it_is():
    config = replace(CONFIG, shape={**SIZES, "old_rows": 300, "tie_word_embeddings": False})
    for what in ("new_rows", "lora"):
        model = made("Llama", **{**SIZES, "tie_word_embeddings": False})
        choose_trained(
            model, what, 300, {"rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": "all-linear"}
        )
        run = replace(config, train=what, lora=Lora(4, 8.0))
        trained = count(p for p in model.parameters() if p.requires_grad)
        assert plan_run(run, shape_of(run)).trained == trained


def test_a_new_decoder_has_the_defaults_of_its_kind(training_case, finished_training):
    """And the shape of a model that is there is read from it."""
    model = UnifiedModel.from_pretrained(finished_training)
    parameters = count(model.hf.parameters())
    assert shape_of(training_case).parameters == parameters
    begun = replace(training_case, model=None, start=str(finished_training))
    assert shape_of(begun).parameters == parameters
    assert shape_of(begun).old_rows == model.vocabulary.text_rows
    few = shape_of(replace(training_case, model={"num_hidden_layers": 1}))
    assert (few.head_width, few.tied) == (128, False)


def test_figures_move_the_right_way():
    base = replace(CONFIG, precision="bfloat16", rows_at_once=4)
    shape = shape_of(base)

    def found(devices=1, device="h100", share=0.3, **changes):
        return plan_run(replace(base, **changes), shape, device, devices, share)

    def total(plan):
        return sum(plan.memory.values())

    one = found()
    assert one.ids == 100 * 16 * 512
    assert one.operations > 6 * one.ids * shape.working
    assert found(devices=4).seconds == pytest.approx(one.seconds / 4)
    assert found(share=0.6).seconds == pytest.approx(one.seconds / 2)
    assert found(device="b200").seconds < one.seconds < found(device="l40s").seconds
    assert found(length=1024).operations > 2 * one.operations
    again = found(activation_checkpointing=True)
    assert again.operations > one.operations
    assert again.memory["activations"] < one.memory["activations"]
    assert found(rows_at_once=2).memory["activations"] == one.memory["activations"] / 2
    assert total(found(devices=4)) == total(one)
    split = [total(found(devices=n, parallel="fsdp")) for n in (2, 4, 8)]
    assert split == sorted(split, reverse=True)
    assert found(ema=0.9).memory["optimizer"] > one.memory["optimizer"]
    assert found(precision="float32").memory["activations"] > one.memory["activations"]
    few = found(train="new_rows")
    assert few.operations < one.operations
    assert few.memory["optimizer"] < one.memory["optimizer"]
    pairs = found(preferences=Preferences(pairs=8))
    assert (pairs.ids, pairs.operations > one.operations) == (one.ids, True)


def test_what_cannot_be_planned_is_said():
    with pytest.raises(ValueError, match=r"nowhere is not on this machine, .* state `shape`"):
        shape_of(replace(CONFIG, shape=None))
    with pytest.raises(ValueError, match="shape is not the shape of a Llama-like decoder"):
        shape_of(replace(CONFIG, shape={"n_embd": 4}))
    shape = shape_of(CONFIG)
    with pytest.raises(ValueError, match="there is no device 'tpu', expected one of a100-40gb, "):
        plan_run(CONFIG, shape, "tpu")
    with pytest.raises(ValueError, match=r"0 devices at a share of 0\.33"):
        plan_run(CONFIG, shape, devices=0)
    with pytest.raises(ValueError, match="shape says hidden_size 48, the decoder in nowhere has 9"):
        check_shape(CONFIG, {"hidden_size": 9})


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_a_recipe_takes_what_it_says(path, capsys):
    said = " ".join(line.removeprefix("#") for line in path.read_text().splitlines() if "#" in line)
    said = re.search(
        r"Planned, not run: ([\d.]+) G ids, (\S+) operations; (\d+) GB on (?:each of )?(\S+) H100,"
        r" (\d+) (minutes|hours) at a third",
        " ".join(said.split()),
    ).groups()
    devices = 1 if said[3] == "one" else int(said[3])
    assert run(["plan", str(path), "--devices", str(devices), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"]
    assert f"{found['ids'] / 1e9:.1f}" == said[0]
    assert f"{found['flops']:.1e}" == said[1]
    assert f"{found['memory_bytes'] / 1e9:.0f}" == said[2]
    hours = found["hours"] * (60 if said[5] == "minutes" else 1)
    assert f"{hours:.0f}" == said[4]
    # Qwen2.5 as it is published, and the rows it was given.
    config = load_config(path)
    published, rows, sides = (494_032_768, 151_936, 1) if "0.5" in str(path.parent) else (
        7_615_616_512, 152_064, 2
    )  # fmt: skip
    new = sides * (config.shape["vocab_size"] - rows) * config.shape["hidden_size"]
    assert found["parameters"] == published + new
    if config.train == "full":
        assert found["trained"] == found["parameters"]
    assert run(["plan", str(path), "--devices", str(devices)]) == 0
    assert f"of {DEVICES['h100'].memory / 1e9:g} GB on each device" in capsys.readouterr().out

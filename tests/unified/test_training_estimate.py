"""What a run will take: exact counts of weights, figures that move the right way, the recipes."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import transformers

from unified.__main__ import run
from unified.dataloading import Source
from unified.models.model import UnifiedModel
from unified.training.config import Lora, OptimizerConfig, Preferences, TrainConfig, load_config
from unified.training.estimate import DEVICES, check_shape, estimate_run, shape_of
from unified.training.weights import choose_trained
from unified_base.meta_device import on_meta_device

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(path for name in ("0.5b", "7b") for path in (CONFIGS / name).glob("*.yaml"))
SIZES = {
    "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2,
    "intermediate_size": 80, "head_dim": 10, "vocab_size": 331,
}  # fmt: skip
CONFIG = TrainConfig(
    "o", {"a": Source("a.tar")}, 100, 512, 16, OptimizerConfig(lr=0.001), init_from="nowhere",
    shape=SIZES,
)  # fmt: skip


def meta_model(kind, **sizes):
    """A model of transformers without storage."""
    config = getattr(transformers, f"{kind}Config")(**sizes)
    with on_meta_device():
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
    model = meta_model(kind, **{**SIZES, **more})
    shape = shape_of(replace(CONFIG, shape=model.config.to_dict()))
    assert shape.parameters == count(model.parameters())
    inside = count(p for n, p in model.named_parameters() if ".layers." in n)
    assert shape.parameters - shape.rows - shape.width == inside


def test_what_is_trained_is_counted_as_it_is():
    config = replace(CONFIG, shape={**SIZES, "old_rows": 300, "tie_word_embeddings": False})
    for what in ("new_rows", "lora"):
        model = meta_model("Llama", **{**SIZES, "tie_word_embeddings": False})
        choose_trained(
            model, what, 300, {"rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": "all-linear"}
        )
        run = replace(config, train=what, lora=Lora(4, 8.0))
        trained = count(p for p in model.parameters() if p.requires_grad)
        assert estimate_run(run, shape_of(run)).trained == trained


def test_a_new_decoder_has_the_defaults_of_its_kind(training_case, finished_training):
    """And the shape of a model that is there is read from it."""
    model = UnifiedModel.from_pretrained(finished_training)
    parameters = count(model.hf.parameters())
    assert shape_of(training_case).parameters == parameters
    begun = replace(training_case, model=None, init_from=str(finished_training))
    assert shape_of(begun).parameters == parameters
    assert shape_of(begun).old_rows == model.vocabulary.text_rows
    few = shape_of(replace(training_case, model={"num_hidden_layers": 1}))
    assert (few.head_width, few.tied) == (128, False)


def test_figures_move_the_right_way():
    base = replace(CONFIG, precision="bfloat16", micro_batch_size=4)
    shape = shape_of(base)

    def estimated(devices=1, device="h100", share=0.3, **changes):
        return estimate_run(replace(base, **changes), shape, device, devices, share)

    def total(estimate):
        return sum(estimate.memory.values())

    base_run = estimated()
    assert base_run.ids == 100 * 16 * 512
    assert base_run.operations > 6 * base_run.ids * shape.working
    assert estimated(devices=4).seconds == pytest.approx(base_run.seconds / 4)
    assert estimated(share=0.6).seconds == pytest.approx(base_run.seconds / 2)
    assert estimated(device="b200").seconds < base_run.seconds < estimated(device="l40s").seconds
    assert estimated(seq_len=1024).operations > 2 * base_run.operations
    again = estimated(activation_checkpointing=True)
    assert again.operations > base_run.operations
    assert again.memory["activations"] < base_run.memory["activations"]
    assert estimated(micro_batch_size=2).memory["activations"] == base_run.memory["activations"] / 2
    assert total(estimated(devices=4)) == total(base_run)
    split = [total(estimated(devices=n, parallel="fsdp")) for n in (2, 4, 8)]
    assert split == sorted(split, reverse=True)
    assert estimated(ema_decay=0.9).memory["optimizer"] > base_run.memory["optimizer"]
    assert estimated(precision="float32").memory["activations"] > base_run.memory["activations"]
    few = estimated(train="new_rows")
    assert few.operations < base_run.operations
    assert few.memory["optimizer"] < base_run.memory["optimizer"]
    pairs = estimated(preferences=Preferences(pairs=8))
    assert (pairs.ids, pairs.operations > base_run.operations) == (base_run.ids, True)


def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(ValueError, match=r"nowhere is not on this machine, .* state `shape`"):
        shape_of(replace(CONFIG, shape=None))
    with pytest.raises(ValueError, match="shape is not the shape of a Llama-like decoder"):
        shape_of(replace(CONFIG, shape={"n_embd": 4}))
    shape = shape_of(CONFIG)
    with pytest.raises(ValueError, match="there is no device 'tpu', expected one of a100-40gb, "):
        estimate_run(CONFIG, shape, "tpu")
    with pytest.raises(ValueError, match=r"0 devices at a share of 0\.33"):
        estimate_run(CONFIG, shape, devices=0)
    with pytest.raises(ValueError, match="shape says hidden_size 48, the decoder in nowhere has 9"):
        check_shape(CONFIG, {"hidden_size": 9})


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_a_recipe_takes_what_it_says(path, capsys):
    stated = " ".join(
        line.removeprefix("#") for line in path.read_text().splitlines() if "#" in line
    )
    stated = re.search(
        r"Planned, not run: ([\d.]+) G ids, (\S+) operations; (\d+) GB on (?:each of )?(\S+) H100,"
        r" (\d+) (minutes|hours) at a third",
        " ".join(stated.split()),
    ).groups()
    devices = 1 if stated[3] == "one" else int(stated[3])
    assert run(["estimate", str(path), "--devices", str(devices), "--json"]) == 0
    estimate = json.loads(capsys.readouterr().out)
    assert estimate["fits"]
    assert f"{estimate['ids'] / 1e9:.1f}" == stated[0]
    assert f"{estimate['flops']:.1e}" == stated[1]
    assert f"{estimate['memory_bytes'] / 1e9:.0f}" == stated[2]
    hours = estimate["hours"] * (60 if stated[5] == "minutes" else 1)
    assert f"{hours:.0f}" == stated[4]
    # Qwen2.5 as it is published, and the rows it was given.
    config = load_config(path)
    published, rows, sides = (494_032_768, 151_936, 1) if "0.5" in str(path.parent) else (
        7_615_616_512, 152_064, 2
    )  # fmt: skip
    new = sides * (config.shape["vocab_size"] - rows) * config.shape["hidden_size"]
    assert estimate["parameters"] == published + new
    if config.train == "full":
        assert estimate["trained"] == estimate["parameters"]
    assert run(["estimate", str(path), "--devices", str(devices)]) == 0
    assert f"of {DEVICES['h100'].memory / 1e9:g} GB on each device" in capsys.readouterr().out

"""A run's file: read as it stands, and every wrong entry refused in one line."""

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from unified.dataloading import Source
from unified.training.config import (
    Alarms,
    Lora,
    OptimizerConfig,
    Preferences,
    SampleLogging,
    TrainConfig,
    load_config,
)
from unified.training.train_config import RENAMED
from unified_base.training.settings import ScheduleConfig

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted([*CONFIGS.glob("*b/*.yaml"), *CONFIGS.glob("pocket/decoder*.yaml")])


def entries(**changes):
    built = {
        "output": "runs/x", "sources": {"draw": {"shards": "a-*.tar", "share": 2}}, "model": {},
        "steps": 3, "seq_len": 100, "global_batch_size": 4, "optimizer": {"lr": 0.003}, **changes,
    }  # fmt: skip
    return {name: value for name, value in built.items() if value != "ABSENT"}


def load(tmp_path, **changes):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(entries(**changes)), "utf-8")
    return load_config(path)


def test_a_file_is_read_as_it_stands(tmp_path):
    config = load(
        tmp_path,
        seed=4,
        validation={"g": {"sources": {"a": {"shards": ["b", "c"]}}}},
        ema_decay=0.9,
        samples={"every": 5, "texts": ["a cat"]},
        lora={"rank": 4, "targets": ["q_proj"]},
        alarms={"stop": ["nan", "spike"]},
        preferences={"modality_weights": {"audio": 0}},
        optimizer={"lr": 1, "betas": [0.9, 0.95], "max_grad_norm": 2},
        reinit_modalities="image",
        init_from="m",
    )
    assert config.sources == {"draw": Source("a-*.tar", 2)}
    assert config.validation["g"].sources == {"a": Source(("b", "c"))}
    assert (config.seed, config.steps, config.format, config.ema_decay) == (4, 3, "pocket", 0.9)
    assert config.samples == SampleLogging(5, texts=("a cat",))
    assert config.lora == Lora(4, targets=("q_proj",))
    assert config.alarms == Alarms(stop=("nan", "spike"))
    assert config.preferences == Preferences(modality_weights={"audio": 0})
    assert (config.optimizer.betas, config.reinit_modalities) == ((0.9, 0.95), ("image",))


def test_what_is_empty_is_as_if_it_were_not_there(tmp_path):
    nothing = dict.fromkeys(
        (
            "validation",
            "lora",
            "alarms",
            "preferences",
            "samples",
            "ema_decay",
            "wandb",
            "reinit_modalities",
            "modality_weights",
            "shape",
            "world",
        )
    )
    assert load(tmp_path, **nothing) == load(tmp_path)
    assert load(tmp_path) == TrainConfig(
        "runs/x", {"draw": Source("a-*.tar", 2)}, 3, 100, 4, OptimizerConfig(lr=0.003), model={}
    )


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_a_recipe_is_in_order(path):
    assert load_config(path).output.startswith("runs/")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stepz": 3}, "unknown entry stepz; did you mean steps"),
        ({"steps": "ABSENT"}, "the entry 'steps' is missing"),
        ({"steps": "3"}, "steps is '3', expected a whole number"),
        ({"steps": 0}, "steps is 0, expected a whole number from 1 on"),
        ({"steps": 2.5}, "steps is 2.5, expected a whole number"),
        ({"optimizer": {"lr": "3e-3x"}}, "optimizer.lr is '3e-3x', expected a number"),
        ({"steps": 10**30}, "steps is 1000000.*, expected a whole number of at most 18 digits"),
        ({"optimizer": {"lr": 0}}, "optimizer.lr is 0.0, expected a number above 0"),
        ({"optimizer": {"lr": float("nan")}}, "optimizer.lr is nan, expected a number above 0"),
        ({"optimizer": {"lr": True}}, "optimizer.lr is True, expected a number"),
        ({"sources": {}}, "sources is empty"),
        ({"sources": ["a"]}, r"sources is \['a'\], expected a mapping"),
        ({"sources": {"draw": {"shard": "a"}}}, "entry sources.draw.shard; did you mean shards"),
        ({"sources": {"draw": "a"}}, "sources.draw is 'a', expected a mapping"),
        ({"sources": {"a/b": {"shards": "a"}}}, "'a/b' is no name of a source"),
        ({"validation": ["a"]}, r"validation is \['a'\], expected a mapping"),
        ({"sources": {"draw": {"shards": "a", "share": -1}}}, "share of a is -1.0, expected more"),
        ({"model": "ABSENT"}, "give a model to begin with in init_from, or the shape of a new one"),
        ({"model": 7}, "model is 7, expected a mapping"),
        ({"shape": ["x"]}, r"shape is \['x'\], expected a mapping"),
        ({"init_from": 5}, "init_from is 5, expected text"),
        ({"global_batch_size": 5, "micro_batch_size": 2}, "5 is no multiple of"),
        ({"modality_weights": {"smell": 1}}, r"unknown modalities \['smell'\]"),
        ({"modality_weights": {"text": "x"}}, "modality_weights.text is 'x', expected a number"),
        ({"modality_weights": {"text": -1}}, "the weight of text is -1.0, expected 0 or more"),
        ({"modality_weights": ["text"]}, r"modality_weights is \['text'\], expected a mapping"),
        ({"reinit_modalities": ["audio"]}, r"reinit_modalities is \['audio'\] and init_from None"),
        ({"reinit_modalities": ["text"], "init_from": "m"}, r"reinit_modalities is \['text'\]"),
        ({"reinit_modalities": 3, "init_from": "m"}, "reinit_modalities is 3, expected a list"),
        ({"world": "mars"}, r"world is 'mars', expected one of \[None, 'pocket', 'world'\]"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd', expected a group; write optimizer.name"),
        ({"optimizer": {"lr": 1, "name": "sgd"}}, "optimizer.name is 'sgd', expected one of"),
        ({"optimizer": {"name": "adamw"}}, "the entry 'lr' is missing in optimizer"),
        ({"schedule": ["wsd"]}, r"schedule is \['wsd'\], expected a mapping"),
        ({"optimizer": {"lr": 1, "betas": [0.9]}}, "betas is .* expected a longer list"),
        ({"optimizer": {"lr": 1, "betas": [0.9, 1.0]}}, "expected from 0 on and below 1"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0, expected a decay between 0 and 1"),
        ({"ema_decay": "x"}, "ema_decay is 'x', expected a number"),
        ({"compile": "yes"}, "compile is 'yes', expected true or false"),
        ({"activation_checkpointing": 1}, "activation_checkpointing is 1, expected true or false"),
        ({"schedule": {"warmup_steps": -1}}, "schedule.warmup_steps is -1, expected 0 or more"),
        ({"schedule": {"cooldown": 1.5}}, "schedule.cooldown is 1.5, expected from 0 to 1"),
        ({"workers": -1}, "workers is -1, expected 0 or more"),
        ({"optimizer": {"lr": 1, "max_grad_norm": 0}}, "norm is 0.0, expected a number above 0"),
        ({"lora": 3}, "lora is 3, expected a mapping"),
        ({"lora": {"size": 3}}, "unknown entry lora.size; expected some of rank, alpha"),
        ({"lora": {"rank": 0}}, "lora.rank is 0, expected a whole number from 1 on"),
        ({"lora": {"rank": "4"}}, "lora.rank is '4', expected a whole number"),
        ({"lora": {"targets": [1]}}, "lora.targets.0 is 1, expected text"),
        ({"lora": {"dropout": 1.0}}, "lora.dropout is 1.0, expected a number from 0 on and below"),
        ({"samples": {"texts": ["a"]}}, "the entry 'every' is missing in samples"),
        ({"samples": {"every": 0}}, "samples.every is 0, expected a whole number from 1 on"),
        ({"alarms": {"stop": ["fire"]}}, r"alarms.stop has \['fire'\]"),
        ({"alarms": {"spike": 0}}, "alarms.spike is 0.0, expected a number above 0"),
        ({"preferences": {"beta": 0}}, "preferences.beta is 0.0, expected a number above 0"),
        ({"preferences": {"pairs": 0}}, "preferences.pairs is 0, expected a whole number"),
        ({"preferences": {"modality_weights": {"x": 1}}}, r"unknown modalities \['x'\]"),
        ({"preferences": {"pairs": 2}, "z_loss": 0.1}, "z_loss does not go with preferences"),
        ({"preferences": {"pairs": 2}, "lora": {"dropout": 0.1}}, "lora.dropout does not go with"),
    ],
)  # fmt: skip
def test_wrong_entries_are_refused(tmp_path, changes, reason):
    with pytest.raises(ValueError, match=reason) as refused:
        load(tmp_path, **changes)
    assert "\n" not in str(refused.value)
    assert "run.yaml" in str(refused.value)


MOST = {
    "optimizer.lr": 100,
    "optimizer.weight_decay": 100,
    "threads": 1024,
    "workers": 1024,
    "max_grid": 8192,
    "lora.rank": 8192,
    "global_batch_size": 65_536,
    "streams": 65_536,
    "preferences.pairs": 65_536,
    "seq_len": 1 << 20,
    "text_vocab_size": 1 << 20,
    "validation_documents": 1 << 20,
    "keep_checkpoints": 1 << 20,
    "samples.max_ids": 1 << 20,
    "steps": 10**9,
    "schedule.warmup_steps": 10**9,
    "log_every": 10**9,
    "save_every": 10**9,
    "validate_every": 10**9,
    "samples.every": 10**9,
    "max_corrupt": 10**9,
    "save_minutes": 10**9,
    "z_loss": 10**9,
    "router_loss": 10**9,
    "lora.alpha": 10**9,
    "preferences.beta": 10**9,
    "alarms.spike": 10**9,
    "alarms.output_norm": 10**9,
    "optimizer.max_grad_norm": 10**9,
    "seed": 2**32 - 1,
    "modality_weights.text": 10**9,
    "sources.draw.share": 10**9,
    "sources.draw.weight": 10**9,
    "sources.draw.media_loss": 10**9,
    "sources.draw.fit": 65_536,
    "sources.draw.shots": 256,
    "sources.draw.epochs": 10**9,
}
"""The most that a run's numbers may be."""


@pytest.mark.parametrize(("name", "most"), MOST.items())
def test_a_number_has_an_upper_bound(tmp_path, name, most):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(entries()), "utf-8")
    others = ["samples.every=1"] if name == "samples.max_ids" else []
    load_config(path, [*others, f"{name}={most}"])
    for more in (most + 1, 10**17):
        with pytest.raises(ValueError, match=f"expected .*at most {most:,}") as refused:
            load_config(path, [*others, f"{name}={more}"])
        assert name.split(".")[-1] in str(refused.value)
        assert "\n" not in str(refused.value)


def test_every_number_of_a_run_is_bounded():
    """Those that end at 1 by their nature, and what divides another number, aside."""
    groups = {
        "": TrainConfig,
        "optimizer.": OptimizerConfig,
        "schedule.": ScheduleConfig,
        "lora.": Lora,
        "samples.": SampleLogging,
        "alarms.": Alarms,
        "preferences.": Preferences,
        "sources.draw.": Source,
    }
    numbers = {
        f"{group}{field.name}"
        for group, kind in groups.items()
        for field in fields(kind)
        if field.type in ("int", "float", "int | None", "float | None")
    }
    shares = {
        "schedule.cooldown",
        "schedule.final_lr_ratio",
        "ema_decay",
        "lora.dropout",
        "depth_fraction",
        "sources.draw.noise",
        "sources.draw.drop_prompt",
        "sources.draw.infill",
    }
    assert numbers - shares - {"micro_batch_size"} == set(MOST) - {"modality_weights.text"}


@pytest.mark.parametrize("text", ["", "- a", "a: [", "7", "\0"])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"run\.yaml (holds|is not YAML)"):
        load_config(tmp_path / "run.yaml")


def test_entries_are_replaced_by_what_the_command_line_says(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(entries()), "utf-8")
    config = load_config(
        path, ["steps=10", "optimizer.lr=1e-3", "sources.draw.share=3", "ema_decay="]
    )
    assert (config.steps, config.optimizer.lr, config.sources["draw"].share) == (10, 0.001, 3.0)
    with pytest.raises(ValueError, match=r"run\.yaml: unknown entry optimiser; did you mean opt"):
        load_config(path, ["optimiser=adamw"])


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_key_of_an_earlier_version_names_the_one_of_today(tmp_path, old, new):
    with pytest.raises(ValueError, match=rf"run\.yaml: {old} is called {new} now; rename it$"):
        load(tmp_path, **{old: 1})
    kind, *rest = (TrainConfig, *new.split("."))
    for name in rest:
        known = {field.name: field for field in fields(kind)}
        assert name in known
        kind = {"optimizer": OptimizerConfig, "schedule": ScheduleConfig}.get(name)
    assert old not in {field.name for field in fields(TrainConfig)}

"""The configuration references are what the configurations say today."""

import importlib.util
from pathlib import Path

import pytest

from unified.__main__ import run

DOCS = Path(__file__).parents[1] / "docs"


def make_reference():
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["train.md", "tokenizer_train.md", "tower_train.md"])
def test_a_reference_is_up_to_date(name):
    written = (DOCS / "reference" / name).read_text("utf-8")
    assert written == make_reference().pages()[name], "run python docs/make_reference.py"


@pytest.mark.parametrize("command", [["train"], ["tokenizer", "train"], ["tower", "train"]])
def test_the_commands_print_every_key_without_a_file(command, capsys):
    assert run([*command, "--help-config"]) == 0
    printed = capsys.readouterr().out
    for key in ("output", "steps", "optimizer.lr", "schedule.warmup_steps", "init_from"):
        assert f"\n{key} = " in f"\n{printed}"


@pytest.mark.parametrize(
    ("command", "change", "reason"),
    [
        (["train"], "stepz=3", "unknown entry stepz; did you mean steps?"),
        (["train"], "optimizer.learning=3", "unknown entry optimizer.learning"),
        (["train"], "optimizer.lr=fast", "optimizer.lr is 'fast', expected a number"),
        (["train"], "learning_rate=1e-4", "learning_rate is called optimizer.lr now"),
        (["tokenizer", "train"], "optimizer.lrr=1", "optimizer.lrr; did you mean lr?"),
        (["tokenizer", "train"], "warmup=1", "warmup is called schedule.warmup_steps now"),
    ],
)
def test_changes_on_the_command_line_are_typed_and_wrong_ones_refused(
    command, change, reason, capsys
):
    configs = DOCS.parent / "configs"
    name = "pocket/image.yaml" if "tokenizer" in command else "0.5b/pretrain.yaml"
    assert run([*command, str(configs / name), change]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1

"""The one reader of configurations: strict, forgiving where YAML is, one line for every mistake."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from unified_base.config import override, parse_config, read_config


@dataclass(frozen=True)
class Optimizer:
    lr: float
    betas: tuple[float, float] = (0.9, 0.98)
    name: str | None = None

    def __post_init__(self):
        if self.lr <= 0:
            raise ValueError(f"lr is {self.lr}, expected more than 0")


@dataclass(frozen=True)
class Run:
    steps: int
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(1.0))
    data: tuple[str, ...] = ()
    groups: Mapping[str, Optimizer] = field(default_factory=dict)
    targets: str | tuple[str, ...] = "all"
    fused: bool = False
    rest: dict[str, Any] | None = None


def test_a_file_is_read_as_yaml_or_json_with_overrides(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("steps: 3\noptimizer: {lr: 2e-3}\ngroups: {a: {lr: 1, betas: [0, 1]}}\n"
                    "data: one\nrest: {day: 2026-01-02, x: [null]}\nfused:\n")  # fmt: skip
    config = read_config(Run, path, ["steps=10", "groups.b.lr=.5", "optimizer.name=a b"])
    assert config == Run(
        10, Optimizer(0.002, name="a b"), ("one",),
        {"a": Optimizer(1.0, (0.0, 1.0)), "b": Optimizer(0.5)},
        rest={"day": "2026-01-02", "x": [None]},
    )  # fmt: skip
    assert type(config.groups["a"].lr) is float
    other = tmp_path / "run.JSON"
    other.write_text(json.dumps({"steps": 2, "targets": ["q", "v"]}))
    assert read_config(Run, other) == Run(2, targets=("q", "v"))
    assert read_config(Run, path, ["rest="]).rest is None


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "w: the entry 'steps' is missing"),
        ([], "w holds list, expected a mapping of entries"),
        ({"steps": None}, "w: the entry 'steps' is missing"),
        ({"steps": "3"}, "w: steps is '3', expected a whole number"),
        ({"steps": 3.0}, "w: steps is 3.0, expected a whole number"),
        ({"steps": True}, "w: steps is True, expected a whole number"),
        ({"steps": 10**18 * 10}, "w: steps is 1" + "0" * 19 + ", expected a whole number of at"
                                 " most 18 digits"),
        ({"steps": 1, "rest": {"a": [-(10**30)]}}, "w: rest.a.0 is -1" + "0" * 30 + ", expected a"
                                                   " whole number of at most 18 digits"),
        ({"stepz": 1}, "w: unknown entry stepz; did you mean steps?"),
        ({"steps": 1, "optimizer": {"lr": 1, "nam": "x"}}, "w: unknown entry optimizer.nam; did"
                                                           " you mean name?"),
        ({"steps": 1, "groups": {"g": {"lr": 1, "zzz": 3}}}, "w: unknown entry groups.g.zzz;"
                                                            " expected some of lr, betas, name"),
        ({"steps": 1, "groups": {"g": {}}}, "w: the entry 'lr' is missing in groups.g"),
        ({"steps": 1, "groups": {"g": {"lr": 0}}}, "w: groups.g: lr is 0.0, expected more than 0"),
        ({"steps": 1, "optimizer": {"lr": "fast"}}, "w: optimizer.lr is 'fast', expected a number"),
        ({"steps": 1, "optimizer": 7}, "w: optimizer is 7, expected a mapping of entries"),
        ({"steps": 1, "optimizer": {"lr": 1, "betas": [1, 2, 3]}}, "w: optimizer.betas is [1, 2,"
                                                                  " 3], expected a shorter list"),
        ({"steps": 1, "data": ["a", 3]}, "w: data.1 is 3, expected text"),
        ({"steps": 1, "targets": 3}, "w: targets is 3, expected text or a list"),
        ({"steps": 1, "targets": ["a", {}]}, "w: targets.1 is {}, expected text"),
        ({"steps": 1, "fused": "yes"}, "w: fused is 'yes', expected true or false"),
        ({"steps": 1, "rest": {"a": object}}, "w holds what no JSON does: 'Object of type type is"
                                              " not JSON serializable'"),
        ({"steps": "x" * 999}, f"w: steps is '{'x' * 80}'..., expected a whole number"),
        ({"steps": 1, "a\n\x1b[2J\u202eb" * 99: 1}, None),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_key(entries, message):
    with pytest.raises(ValueError) as refused:
        parse_config(Run, entries, "w")
    line = str(refused.value)
    assert line.isprintable()
    assert len(line) < 250
    if message is not None:
        assert line == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("steps", "'steps' is no change of w, expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("a..b=3", "expected KEY=VALUE"),
        ("steps.more=3", "w: 'steps.more' names an entry of steps, which is 1"),
        ("data.7=x", "w: 'data.7' names an entry of data, which is ['a']"),
        ("steps=*a", "the value of 'steps'"),
        ("steps=[", "the value of 'steps' is not YAML"),
        ("x=" + "[" * 9999, "the value of 'x': line 1 is nested deeper"),
    ],
)
def test_changes_that_cannot_be_are_refused(change, message):
    entries = {"steps": 1, "data": ["a"]}
    with pytest.raises(ValueError) as refused:
        override(entries, [change], "w")
    assert message in str(refused.value)
    assert str(refused.value).isprintable()
    assert override(entries, ["data.0=b", "q.r=1", "steps="], "w") == {
        "steps": None, "data": ["b"], "q": {"r": 1},
    }  # fmt: skip
    assert entries == {"steps": 1, "data": ["a"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: !!binary aGk=", "line 1 has the tag"),
        ("steps: !!python/name:os.system x", "line 1 has the tag"),
        ("a: &x 1", "line 1 has an anchor or alias"),
        ("\n1: 2", r"line 2 has a key that is no text \(1\)"),
        ("yes: 2", "a key that is no text"),
        ("<<: {a: 1}", "a key that is no text"),
        ("steps: 1\nsteps: 2", "the key 'steps' a second time"),
        ("steps: " + "9" * 400, "an integer of 400 characters"),
    ],
)
def test_yaml_that_multiplies_or_names_types_is_refused(tmp_path, text, message):
    path = tmp_path / "[x].yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_config(Run, path)

"""Configurations built without pydantic are those that pydantic builds."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from pydantic import ConfigDict, TypeAdapter, ValidationError

from unified_base.plain_config import MisfitError, build_plain


@dataclass(frozen=True)
class Inner:
    lr: float
    betas: tuple[float, float] = (0.9, 0.98)
    name: str | None = None

    def __post_init__(self):
        if self.lr <= 0:
            raise ValueError("lr")


@dataclass(frozen=True)
class Outer:
    steps: int
    inner: Inner = field(default_factory=lambda: Inner(1.0))
    data: tuple[str, ...] = ()
    names: list[str] = field(default_factory=list)
    groups: Mapping[str, Inner] = field(default_factory=dict)
    targets: str | tuple[str, ...] = "all"
    share: int | float | None = None
    kind: Literal["a", "b", 3] = "a"
    fused: bool = False
    rest: dict[str, Any] | None = None


FULL = {
    "steps": 3, "inner": {"lr": 1, "betas": [0, 0.5], "name": None}, "data": ["x", "y"],
    "names": [], "groups": {"g": {"lr": 2.5}}, "targets": ["q"], "share": 2, "kind": 3,
    "fused": True, "rest": {"a": [1, {"b": None}], "c": 1.5},
}  # fmt: skip
VALUES = (
    None, True, 0, 1, 3, -1, 2.0, 0.5, 2**63 - 1, 2**63, 2**53 + 1, float("nan"), float("inf"),
    "a", "é", "\ud800", "1", [], ["x"], [1, 2], [0.5, 0.5], {}, {"lr": 1}, {"lr": 0}, {"x": 1},
    {"g": {"lr": 1}},
)  # fmt: skip


def by_pydantic(entries: Any) -> Outer:
    config = ConfigDict(strict=True, extra="forbid")
    adapter = TypeAdapter(tuple[Outer], config=config)  # type: ignore[arg-type]
    return adapter.validate_json(json.dumps([entries]))[0]


def types(value: Any) -> Any:
    """The types of a value and of all that is in it."""
    if isinstance(value, dict):
        return [(key, types(inner)) for key, inner in value.items()]
    if isinstance(value, list | tuple):
        return [type(value), *map(types, value)]
    if isinstance(value, Inner | Outer):
        return types(vars(value))
    return type(value)


def changed(entries: Any, rng: random.Random) -> Any:
    """Entries with another value in one place, an entry less, or one more."""
    entries = json.loads(json.dumps(entries))
    holder, key = entries, rng.choice(list(entries))
    while isinstance(holder[key], dict) and holder[key] and rng.random() < 0.7:
        holder = holder[key]
        key = rng.choice(list(holder))
    choice = rng.random()
    if choice < 0.1:
        del holder[key]
    elif choice < 0.2:
        holder["zzz"] = 1
    else:
        holder[key] = rng.choice(VALUES)
    return entries


def test_whatever_is_built_is_what_pydantic_builds():
    rng, built, refused = random.Random(0), 0, 0
    for _ in range(1500):
        entries = FULL
        for _ in range(rng.randrange(3)):
            entries = changed(entries, rng)
        try:
            config = build_plain(Outer, entries)
        except MisfitError:
            refused += 1
            continue
        expected = by_pydantic(entries)
        assert config == expected
        assert types(config) == types(expected)
        built += 1
    assert min(built, refused) > 300


@pytest.mark.parametrize("odd", [{"steps": 2**63}, {"share": float("nan")}, {"kind": "\ud800"}])
def test_what_is_judged_elsewhere_is_not_built(odd):
    with pytest.raises(MisfitError):
        build_plain(Outer, {**FULL, **odd})


def test_full_entries_are_built_and_copied():
    entries = json.loads(json.dumps(FULL))
    config = build_plain(Outer, entries)
    assert config == by_pydantic(FULL)
    entries["rest"]["a"].append(2)
    assert config.rest == FULL["rest"]


@pytest.mark.parametrize(
    "entries",
    [[], {}, {**FULL, "steps": "3"}, {**FULL, "inner": {"lr": 0}}, {**FULL, "zzz": 1},
     {**FULL, "kind": True}],
    ids=str,
)  # fmt: skip
def test_what_pydantic_refuses_is_left_to_it(entries):
    with pytest.raises(MisfitError):
        build_plain(Outer, entries)
    with pytest.raises(ValidationError):
        by_pydantic(entries)


def test_what_fits_imports_no_pydantic():
    program = (
        "import sys; from unified_base.model_config import check_model_config\n"
        "check_model_config({'model_type': 'qwen3', 'hidden_size': 8, 'rms_norm_eps': 1,\n"
        "    'layer_types': ['a'], 'rope_parameters': {'rope_theta': 1e6}}, 'config.json')\n"
        "print('pydantic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
